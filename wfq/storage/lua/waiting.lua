-- waiting: what waits in one queue's events stream of a partition that nobody serves.
--
-- Guarantee: one moment of the stream; nothing is written.
--
-- KEYS[1]  stream  events of the partition and queue
-- ARGV[1]  id of the last entry that was looked at before, or "0"
-- ARGV[2]  most entries to look at
-- Reply: {entries in the stream, id of the last entry looked at, 1 if a lifecycle command is
-- among those looked at, else 0}.

local stream, seen, most = KEYS[1], ARGV[1], ARGV[2]
local found = 0
for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. seen, '+', 'COUNT', most)) do
  local fields = entry[2]
  for n = 2, #fields, 2 do
    if string.sub(fields[n], 1, 4) == '["L"' then found = 1 end
  end
  seen = entry[1]
end
return {redis.call('XLEN', stream), seen, found}
