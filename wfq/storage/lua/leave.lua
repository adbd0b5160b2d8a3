-- leave: remove consumers of activities that hold nothing.
--
-- Guarantee: one that holds an entry stays, since its entries would be lost with it; they wait
-- for a claim.
--
-- KEYS[1]  stream  activities of the partition and queue
-- ARGV[1]  the consumer that leaves, or "" for every one that was silent for long
-- ARGV[2]  ms of that silence
-- Reply: how many were removed.

local stream, consumer, silence = KEYS[1], ARGV[1], tonumber(ARGV[2])
local removed = 0
-- Without stream or group (an error) there is nobody to remove.
local found = redis.pcall('XINFO', 'CONSUMERS', stream, 'activities')
if found.err then return 0 end
for _, one in ipairs(found) do
  local info = {}
  for f = 1, #one, 2 do info[one[f]] = one[f + 1] end
  local leaves = info['name'] == consumer or (consumer == '' and info['idle'] >= silence)
  if leaves and info['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, 'activities', info['name'])
    removed = removed + 1
  end
end
return removed
