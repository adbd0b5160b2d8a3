-- renew: prolong the lease of one partition and queue.
--
-- Guarantee: only the valid token prolongs; nothing else changes. Works on a full Redis: the
-- first write frees memory, and a script that has begun to write is not stopped.
--
-- KEYS[1]  hash  lease of the partition and queue
-- ARGV[1]  the lane's token
-- ARGV[2]  lease in ms
-- Reply: {"renewed", now ms} | {"lost", now ms}.

local lease, token, lease_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HGET', lease, 'token') ~= token then
  return {'lost', string.format('%.0f', now)}
end
redis.call('HDEL', lease, 'expires')
redis.call('HSET', lease, 'expires', string.format('%.0f', now + lease_ms))
return {'renewed', string.format('%.0f', now)}
