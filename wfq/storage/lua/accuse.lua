-- accuse: name what an owner is about to run, in the lease, before it runs.
--
-- Guarantee: only the valid token may; so a name that is found in a lease is that of an owner
-- which ended, or lost Redis, between naming and taking the name back.
--
-- KEYS[1]  hash  lease of the partition and queue
-- ARGV[1]  lease token
-- ARGV[2]  name and how many owners in a row ended under it ("order-7 1"), or "" to take it back
-- Reply: 1, or 0 when the token is not valid.

local lease, token, name = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', lease, 'token') ~= token then return 0 end
-- The first write frees memory: a script that has begun to write is not stopped by a full Redis.
redis.call('HDEL', lease, 'suspect')
if name ~= '' then redis.call('HSET', lease, 'suspect', name) end
return 1
