-- rerun: create an instance whose history begins with turns of an earlier run.
--
-- Guarantee: all of it or nothing. Safe to send twice: an instance that already has the given
-- incarnation answers "started" again. What exists under the id is replaced only if it has
-- ended and has the incarnation named. A full Redis refuses the call before anything is
-- written (the first write is RPUSH).
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  instance id
-- ARGV[2]  incarnation, random, new
-- ARGV[3]  incarnation of the ended instance that makes way, or "" when there must be none
-- ARGV[4]  queue: the application that has the code
-- ARGV[5]  the birth record behind its creation time: ',"inc",gen,...]'
-- ARGV[6]  "1" when the first turn is to come: the start is queued, before the other events
-- ARGV[7]  number of fields of the instance hash, then pairs of field and value
-- then     number of turn records, then the records
-- then     number of events to queue, then the events
-- then     number of activities, then per activity queue, message, and "task_id nonce" where it
--          has a schedule-to-start timeout, else ""
-- then     number of timers, then pairs of due epoch ms and member
-- then     number of messages for the outbox, then the messages
-- Reply: {"started", incarnation} | {"exists", incarnation, status} where status is "" for a
-- live instance.

local prefix = KEYS[1]
local id, inc, old, queue, tail, begin = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local at = 7

-- The next counted list, `width` values an item, from and to.
local function list(width)
  local first = at + 1
  at = first + tonumber(ARGV[at]) * width
  return first, at - 1
end

local instance, history = prefix .. 'instance:' .. id, prefix .. 'history:' .. id
local found = redis.call('HMGET', instance, 'inc', 'status')
local status = found[2]
local ended = status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED'
if found[1] == inc then return {'started', inc} end
if found[1] and not (ended and found[1] == old) then return {'exists', found[1], status or ''} end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local birth = '["B",' .. now .. tail
redis.call('RPUSH', history, birth)
if found[1] then
  -- The id is used again: only the record just pushed survives.
  redis.call('LTRIM', history, -1, -1)
  redis.call('DEL', instance)
  redis.call('INCR', prefix .. 'removals')
  redis.call('ZREM', prefix .. 'index:' .. status, id)
  redis.call('HDEL', prefix .. 'cursors', id)
end
redis.call('HSET', instance, 'inc', inc, 'queue', queue, 'created', now)
redis.call('ZADD', prefix .. 'index:RUNNING', now, id)
local first, last = list(2)
for n = first, last, 2 do redis.call('HSET', instance, ARGV[n], ARGV[n + 1]) end
first, last = list(1)
for n = first, last do redis.call('RPUSH', history, ARGV[n]) end

local stream = prefix .. 'events:' .. queue
if begin == '1' then
  redis.call('XADD', stream, '*', id, '["S","' .. inc .. '",' .. birth .. ']')
end
first, last = list(1)
for n = first, last do redis.call('XADD', stream, '*', id, ARGV[n]) end
first, last = list(3)
for n = first, last, 3 do
  local entry = redis.call('XADD', prefix .. 'activities:' .. ARGV[n], '*', id, ARGV[n + 1])
  if ARGV[n + 2] ~= '' then
    redis.call('HSET', prefix .. 'tasks', 's ' .. id .. ' ' .. ARGV[n + 2], entry)
  end
end
first, last = list(2)
local timers = prefix .. 'timers'
if first <= last then
  local head = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  for n = first, last, 2 do redis.call('ZADD', timers, ARGV[n], ARGV[n + 1]) end
  local new = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  if new[2] ~= head[2] then redis.call('PUBLISH', prefix .. 'wake', new[2]) end
end
first, last = list(1)
for n = first, last do redis.call('XADD', prefix .. 'outbox', '*', 'm', ARGV[n]) end
if first <= last then redis.call('PUBLISH', prefix .. 'wake', '0') end
return {'started', inc}
