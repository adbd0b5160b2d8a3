-- report: say that an orchestrator lives, and learn who else does: one command where there were
-- several, since every idle orchestrator sends it every other second.
--
-- Guarantee: none is needed: the members are a hint, leases decide.
--
-- KEYS[1]   sorted set  members: orchestrators of the queue by their last report in ms
-- KEYS[2..] sorted sets short activities of some queues, by when that was said in ms
-- ARGV[1]   worker id
-- ARGV[2]   ms of silence after which a member is gone
-- ARGV[3]   ms for which an activity counts as short
-- Reply: {now ms, {members}, {short activities}...}, the latter in the order of the keys.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local silent = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 20 * silent)
redis.call('ZADD', KEYS[1], now, ARGV[1])
local reply = {now, redis.call('ZRANGEBYSCORE', KEYS[1], now - silent, '+inf')}
for n = 2, #KEYS do
  reply[n + 1] = redis.call('ZRANGEBYSCORE', KEYS[n], now - tonumber(ARGV[3]), '+inf')
end
return reply
