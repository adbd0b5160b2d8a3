-- dispatch: continue a turn that decided more activities than one commit carries.
--
-- Guarantee: each activity of the turn is added once: the cursor moves in the same step.
-- Refused when the token is not valid or the cursor stands elsewhere.
--
-- KEYS[1]  hash    lease of the partition and queue
-- KEYS[2]  hash    cursors of turns whose dispatch is unfinished
-- KEYS[3]  string  prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  lease token
-- ARGV[2]  instance id
-- ARGV[3]  cursor as it stands
-- ARGV[4]  cursor afterwards, or "" when this call finishes the turn
-- ARGV[5]  onwards: pairs of queue and message
-- Reply: {"dispatched"} | {"stale", reason}.

local lease, cursors, prefix = KEYS[1], KEYS[2], KEYS[3]
local token, id, before, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', lease, 'token') ~= token then return {'stale', 'token'} end
if redis.call('HGET', cursors, id) ~= before then return {'stale', 'cursor'} end
redis.call('HDEL', cursors, id)
for n = 5, #ARGV, 2 do
  redis.call('XADD', prefix .. 'activities:' .. ARGV[n], '*', id, ARGV[n + 1])
end
if after ~= '' then redis.call('HSET', cursors, id, after) end
return {'dispatched'}
