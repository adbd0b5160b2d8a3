-- append: queue external events and lifecycle commands for instances of one partition.
--
-- Guarantee: an item is queued for the incarnation alive at that moment, or refused with
-- nothing written. Sending it twice queues it twice with one id; the instance takes the
-- first. A full Redis refuses the call before anything is written.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  most external events an instance may hold undelivered
-- ARGV[2]  number of items; then per item four values:
--   id           instance id
--   incarnation  the one that is meant, or "" for whichever lives
--   kind         "E" external event (counts against the inbox), "L" lifecycle command
--   tail         the event behind its incarnation: ',"event id",...]'
-- Reply: per item {"queued", inc} | {"unknown"} | {"finished", status} | {"full", count}.

local prefix, cap, count = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local replies, events, counted, extra = {}, {}, {}, {}
local at = 3
for n = 1, count do
  local id, wanted, kind, tail = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'status', 'queue', 'inbox')
  local inc, status, queue = found[1], found[2], found[3]
  local held = tonumber(found[4] or 0) + (extra[id] or 0)
  if not inc or (wanted ~= '' and wanted ~= inc) then
    replies[n] = {'unknown'}
  elseif status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED' then
    replies[n] = {'finished', status}
  elseif kind == 'E' and held >= cap then
    replies[n] = {'full', held}
  else
    local fields = events[queue]
    if not fields then
      fields = {}
      events[queue] = fields
    end
    fields[#fields + 1] = id
    fields[#fields + 1] = '["' .. kind .. '","' .. inc .. '"' .. tail
    if kind == 'E' then
      extra[id] = (extra[id] or 0) + 1
      counted[#counted + 1] = id
    end
    replies[n] = {'queued', inc}
  end
end
for queue, fields in pairs(events) do
  for first = 1, #fields, 512 do
    redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(fields, first, math.min(first + 511, #fields)))
  end
end
for _, id in ipairs(counted) do
  redis.call('HINCRBY', prefix .. 'instance:' .. id, 'inbox', 1)
end
return replies
