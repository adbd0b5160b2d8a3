-- claim: take over activity attempts whose worker went silent.
--
-- Guarantee: an entry is claimed by one caller; its delivery count grows by one.
--
-- KEYS[1]  stream  activities of the partition and queue
-- KEYS[2]  hash    messages and heartbeats of tasks
-- ARGV[1]  consumer
-- ARGV[2]  ms without renewal that make an entry stale
-- ARGV[3]  most entries to claim
-- Reply: per entry {entry id, instance id, message, deliveries}.

local stream, consumer, idle, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local replies = {}
if redis.call('EXISTS', stream) == 0 then return replies end
local claimed = redis.call('XAUTOCLAIM', stream, 'activities', consumer, idle, '0', 'COUNT', count)[2]
for _, entry in ipairs(claimed) do
  -- A deleted entry may come back empty: there is nothing left to do for it.
  if entry and entry[2] and entry[2][1] then
    local held = redis.call('XPENDING', stream, 'activities', entry[1], entry[1], 1)[1]
    replies[#replies + 1] = {entry[1], entry[2][1], entry[2][2], held and held[4] or 1}
  end
end
return replies
