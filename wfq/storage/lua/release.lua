-- release: give up the lease of one partition and queue.
--
-- Guarantee: only the valid token, or any token of the named owner, is released; the next
-- orchestrator may acquire at once. Used on a graceful stop by the owner, and by a
-- supervisor for a child that died (then an uncommitted takeover still counts). Works on a
-- full Redis.
--
-- KEYS[1]  hash    lease of the partition and queue
-- KEYS[2]  stream  events of the partition and queue
-- ARGV[1]  token, or "" to go by owner
-- ARGV[2]  owner, or "" to go by token; one of the two is given
-- ARGV[3]  "clean" (no takeover is counted) or "died"
-- Reply: 1 when released, else 0.

local lease, stream = KEYS[1], KEYS[2]
local token, owner, how = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('HMGET', lease, 'token', 'owner')
if not held[1] or (token == '' and owner == '') then return 0 end
if (token ~= '' and held[1] ~= token) or (owner ~= '' and held[2] ~= owner) then return 0 end
if how == 'clean' then
  redis.call('DEL', lease)
  if redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DESTROY', stream, held[1]) end
else
  redis.call('HDEL', lease, 'expires')
end
return 1
