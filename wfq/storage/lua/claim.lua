-- claim: take over activity attempts whose worker went silent.
--
-- Guarantee: an entry is claimed by one caller; its delivery count grows by one. However many
-- entries are held and renewed, a stale one behind them is found. Works on a full Redis.
--
-- KEYS[1]  stream  activities of the partition and queue
-- KEYS[2]  hash    messages and heartbeats of tasks; marks of split entries
-- ARGV[1]  consumer
-- ARGV[2]  ms without renewal that make an entry stale
-- ARGV[3]  most entries to claim
-- ARGV[4]  queue of the activities
-- Reply: per entry {entry id, fields (instance id, message, ...), deliveries, mark of a split
-- entry or ""}.

local stream, tasks, consumer, idle, count, queue = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local replies = {}
if redis.call('EXISTS', stream) == 0 then return replies end
local stale, deliveries = {}, {}
local pending = redis.pcall('XPENDING', stream, 'activities', 'IDLE', idle, '-', '+', count)
-- Without the group nobody holds anything: reading is what notices that it is gone.
if pending.err then return replies end
for n, held in ipairs(pending) do
  stale[n] = held[1]
  deliveries[held[1]] = held[4] + 1
end
if #stale == 0 then return replies end
for first = 1, #stale, 1000 do
  local some = {unpack(stale, first, math.min(first + 999, #stale))}
  for _, entry in ipairs(redis.call('XCLAIM', stream, 'activities', consumer, idle, unpack(some))) do
    -- A deleted entry may come back empty: there is nothing left to do for it.
    if entry and entry[2] and entry[2][1] then
      local mark = #entry[2] > 2 and redis.call('HGET', tasks, 'p ' .. entry[1] .. ' ' .. queue)
      replies[#replies + 1] = {entry[1], entry[2], deliveries[entry[1]], mark or ''}
    end
  end
end
return replies
