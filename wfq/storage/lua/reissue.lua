-- reissue: give the messages of an outbox new ids, above one that it never gave.
--
-- Guarantee: all or nothing, and only where that id is above every id that the outbox has given
-- so far, and above the server's clock: then the server has gone back behind messages that a
-- receiver has seen, and its clock with it, so that their ids would come again, and be skipped.
-- (Where only the messages are lost, new ids are above them, and what is left was delivered.) The
-- messages keep their order. One that was delivered before, and not yet removed, is delivered once more: events and
-- commands are known again by their ids, outcomes by their nonces, children by their incarnation.
-- Works on a full Redis: messages only move.
--
-- KEYS[1]  stream  the outbox
-- KEYS[2]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  the id that a receiver has seen
-- Reply: 1 if they have new ids, 0 if the outbox has given that id, or gives only later ones.

local outbox, floor = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(string.match(floor, '^%d+')) then return 0 end
-- A script that has begun to write is not stopped by a full Redis.
redis.call('XDEL', outbox, '0-1')
-- A stream remembers the last id that it gave, whatever was removed: it takes none below.
local taken = redis.pcall('XADD', outbox, floor, 'm', '')
if type(taken) == 'table' and taken.err then
  if string.find(taken.err, 'equal or smaller', 1, true) then return 0 end
  return taken
end
redis.call('XDEL', outbox, floor)
local left = redis.call('XLEN', outbox)
while left > 0 do
  local page = redis.call('XRANGE', outbox, '-', '+', 'COUNT', math.min(left, 500))
  for _, entry in ipairs(page) do
    redis.call('XADD', outbox, '*', unpack(entry[2]))
    redis.call('XDEL', outbox, entry[1])
  end
  left = left - #page
end
return 1
