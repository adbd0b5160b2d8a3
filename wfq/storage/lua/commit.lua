-- commit: make the turns of one batch durable, of one partition and queue.
--
-- Guarantee: all of it or nothing, and only once: it is refused unless the lease token is
-- valid, the batch follows the last committed one and its entries are still there (a server
-- that lost its last second may hold the token and the position, but not what was read), and,
-- once an instance was removed, every instance has exactly the number of history elements its
-- turn was computed from. An instance that was purged or reborn meanwhile loses only its own
-- part. The events consumed leave the stream in the same step
-- in which they enter a history, so an entry is gone if and only if it is recorded or was
-- dropped on purpose. Works on a full Redis: the first write frees memory. A call that leaves
-- its batch unfinished moves the position too, so it counts once as well, and what finishes
-- the batch is refused by a server that has lost a part of it.
--
-- KEYS[1]  hash        lease of the partition and queue
-- KEYS[2]  stream      events of the partition and queue
-- KEYS[3]  sorted set  timers
-- KEYS[4]  hash        messages of waiting tasks
-- KEYS[5]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  lease token
-- ARGV[2]  position: id of the last entry committed before this batch ("0" after acquire), and a
--          "+" for each call since that left its batch unfinished
-- ARGV[3]  id of the last entry of this batch, or "" when the batch is not finished by this call
-- ARGV[4]  first id that stays in the stream, or "" with ARGV[3]
-- ARGV[5]  notice to publish on the changes channel, or ""
-- ARGV[6]  removals counted so far, as the last reply told, or "" to check every instance
-- ARGV[7]  queue of the partition's owner
-- ARGV[8]  number of plain turns: a record and one activity of the owner's queue that is known to
--          be short, as most turns are
-- ARGV[9]  number of plain ends: a record, and its instance is COMPLETED that was RUNNING
-- ARGV[10] when they ended: an epoch ms, and how many in a row ended then, and so on
-- ARGV[11] what the turns were computed from, a line for each instance (plain turns, plain ends,
--          others): incarnation and history length before ("inc 7"; "inc " for a part that only
--          passes events on, or follows another of the same instance)
-- ARGV[12] number of other instances
-- then     per plain turn: id, message; per plain turn: turn record; per plain end: creation time,
--          id; per plain end: turn record (columns, handed on as they are: each argument costs,
--          and so does every step of a loop here)
-- then     per other instance:
--   id, turn record ("" for none), operations (a letter each, in one word), and behind it their
--   values, in their order:
--   A queue message                 an activity entry
--   a message                       an activity of the owner's queue that is known to be short:
--                                   up to PACK of them share an entry
--   q queue message                 the same of another queue
--   Y queue message task            the same, with a schedule-to-start timeout: its entry is kept
--                                   for `fire` under "s <id> <task_id> <nonce>" in the tasks hash
--   T due member                    a timer (due in epoch ms)
--   z member                        a timer that is no longer wanted
--   h field                         the message of a task that is no longer wanted
--   w field message                 the message of a waiting task (its timer is a T)
--   S field value                   set a field of the instance hash
--   D field                         delete a field of the instance hash
--   I from to created               move between status indexes
--   W member created                resumed before its delayed start, the timer `member`: PENDING
--                                   again, unless that has just fired
--   F from to created ended         the instance has ended: its status, time and index
--   f created ended                 the same, from RUNNING to COMPLETED
--   E queue target event            an event for an instance of this partition (no check)
--   P target incarnation event      the same, only if that incarnation lives, on its own queue
--   C id inc name queue birth created taken_event   a child; an id that is taken sends
--                                   taken_event to this instance instead
--   R (as C)                        a child whose id may replace an instance that has ended
--   M target tail                   an external event for whichever incarnation of an instance
--                                   of this partition lives: its event behind the incarnation
--   O message                       a message for another partition
--   o head inc middle nonce tail    the same, in pieces: an outcome for this incarnation of a
--                                   parent, which knows its task by this nonce; or, where the
--                                   instance was adopted, for those of the adoption, whether or
--                                   not a turn has read of it
--   B count                         external events that no longer wait for a taker
--   N birth                         continue as new: the history starts again with this record
--   U cursor                        dispatch is unfinished: "turn offset"
--   Q queue                         the instance moves to this queue, with its unread events (those
--                                   of an unfinished batch too: they may arrive twice)
-- Reply: {"committed", removals counted so far, ids that were dropped...} | {"stale", reason}.

local lease, stream, timers, tasks, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, before, last, keep, notice = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local own, plain_turns, plain_ends, ended_at = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local expected, count = ARGV[11], tonumber(ARGV[12])
-- Where the columns begin.
local turns_at = 13
local turn_records = turns_at + 2 * plain_turns
local ends_at = turn_records + plain_turns
local end_records = ends_at + 2 * plain_ends
local others_at = end_records + plain_ends
local PACK = 16
local sub, call = string.sub, redis.call
-- How many values each operation has; not made where it is not looked at, as in most calls.
local OPERANDS = count > 0 and {A = 2, a = 1, q = 2, f = 2, Y = 3, T = 2, z = 1, h = 1, w = 2, S = 2, D = 1, I = 3, W = 2, F = 4, E = 3,
  P = 3, C = 7, R = 7, M = 2, O = 1, o = 5, B = 1, N = 1, U = 1, Q = 1}

-- Pass 1 only reads: once it is through, nothing below may fail, but for the missing entry.
local held = redis.call('HMGET', lease, 'token', 'pos')
if held[1] ~= token then return {'stale', 'token'} end
if held[2] ~= before then return {'stale', 'position'} end
local removals = redis.call('GET', prefix .. 'removals') or '0'
local reply, gone = {'committed', removals}, {}
-- A valid token and position prove that every earlier commit of this owner, and nothing else,
-- is in the histories - unless an instance was removed since. Only then each one is looked at.
if last == '' or ARGV[6] ~= removals then
  local ids = {}
  for at = turns_at, turn_records - 1, 2 do ids[#ids + 1] = ARGV[at] end
  for at = ends_at + 1, end_records - 1, 2 do ids[#ids + 1] = ARGV[at] end
  local at = others_at
  for _ = 1, count do
    ids[#ids + 1] = ARGV[at]
    local ops = ARGV[at + 2]
    at = at + 3
    for k = 1, #ops do at = at + OPERANDS[sub(ops, k, k)] end
  end
  local n = 0
  for inc, turns in string.gmatch(expected, '(%S*) (%d*)\n') do
    n = n + 1
    local id = ids[n]
    if redis.call('HGET', prefix .. 'instance:' .. id, 'inc') ~= inc then
      gone[n] = true
      reply[#reply + 1] = id
    elseif turns ~= '' and redis.call('LLEN', prefix .. 'history:' .. id) ~= tonumber(turns) then
      return {'stale', 'turns'}
    end
  end
end
local whole = #reply == 2

if last ~= '' then
  -- The first write, and the last check: where there is nothing to delete, nothing is written.
  if redis.call('XDEL', stream, last) == 0 then return {'stale', 'entry'} end
  redis.call('XTRIM', stream, 'MINID', keep)
  redis.call('HSET', lease, 'pos', last)
else
  -- Frees memory first here too; and this owner has shown that it lives.
  redis.call('HDEL', lease, 'takeovers')
  redis.call('HSET', lease, 'pos', before .. '+')
end

local due, undue, forget, events, enter, leave, packs = {}, {}, {}, {}, {}, {}, {}
local earliest, posted = nil, false

local function flush(command, key, values, from, to)
  to = to or #values
  for first = from or 1, to, 2000 do
    redis.call(command, key, unpack(values, first, math.min(first + 1999, to)))
  end
end

local function gather(map, key, a, b)
  local values = map[key]
  if not values then
    values = {}
    map[key] = values
  end
  values[#values + 1] = a
  if b then values[#values + 1] = b end
end

local function send(queue, id, event)
  local values = events[queue]
  if values and #values >= 512 then
    redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(values))
    events[queue] = nil
  end
  gather(events, queue, id, event)
end

local function pack(queue, id, message)
  local values = packs[queue]
  if not values then
    values = {}
    packs[queue] = values
  end
  local size = #values + 2
  values[size - 1] = id
  values[size] = message
  if size == 2 * PACK then
    redis.call('XADD', prefix .. 'activities:' .. queue, '*', unpack(values))
    packs[queue] = nil
  end
end

local history = prefix .. 'history:'
if whole then
  -- Full packs are handed on as they are; what is left over shares an entry with others.
  local left = turn_records - 2 * (plain_turns % PACK)
  for first = turns_at, left - 1, 2 * PACK do
    call('XADD', prefix .. 'activities:' .. own, '*', unpack(ARGV, first, first + 2 * PACK - 1))
  end
  for at = left, turn_records - 1, 2 do pack(own, ARGV[at], ARGV[at + 1]) end
end
for n = 1, plain_turns do
  local at = turns_at + 2 * n - 2
  if whole then
    call('RPUSH', history .. ARGV[at], ARGV[turn_records + n - 1])
  elseif not gone[n] then
    call('RPUSH', history .. ARGV[at], ARGV[turn_records + n - 1])
    pack(own, ARGV[at], ARGV[at + 1])
  end
end
local instance, done = prefix .. 'instance:', {}
local until_now = 0
for ended, times in string.gmatch(ended_at, '(%d+) (%d+)') do
  local first = until_now + 1
  until_now = until_now + tonumber(times)
  for n = first, until_now do
    local id = ARGV[ends_at + 2 * n - 1]
    if whole or not gone[plain_turns + n] then
      call('RPUSH', history .. id, ARGV[end_records + n - 1])
      call('HSET', instance .. id, 'status', 'COMPLETED', 'ended', ended)
      done[#done + 1] = id
      if not whole then gather(enter, 'COMPLETED', ARGV[ends_at + 2 * n - 2], id) end
    end
  end
end
if plain_ends > 0 then
  flush('ZREM', prefix .. 'index:RUNNING', done)
  if whole then flush('ZADD', prefix .. 'index:COMPLETED', ARGV, ends_at, end_records - 1) end
end

local at = others_at
for n = 1, count do
  local id, record, ops = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local skip = gone[plain_turns + plain_ends + n]
  if not skip and record ~= '' then call('RPUSH', history .. id, record) end
  for k = 1, #ops do
    local op = sub(ops, k, k)
    local a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if skip then
      -- Its values are passed over.
    elseif op == 'a' then
      pack(own, id, a)
    elseif op == 'f' then
      redis.call('HSET', prefix .. 'instance:' .. id, 'status', 'COMPLETED', 'ended', b)
      gather(leave, 'RUNNING', id)
      gather(enter, 'COMPLETED', a, id)
    elseif op == 'q' then
      pack(a, id, b)
    elseif op == 'A' then
      redis.call('XADD', prefix .. 'activities:' .. a, '*', id, b)
    elseif op == 'Y' then
      local entry = redis.call('XADD', prefix .. 'activities:' .. a, '*', id, b)
      redis.call('HSET', tasks, 's ' .. id .. ' ' .. c, entry)
    elseif op == 'T' then
      due[#due + 1] = a
      due[#due + 1] = b
      if not earliest or tonumber(a) < earliest then earliest = tonumber(a) end
    elseif op == 'z' then
      undue[#undue + 1] = a
    elseif op == 'h' then
      forget[#forget + 1] = a
    elseif op == 'w' then
      redis.call('HSET', tasks, a, b)
    elseif op == 'S' then
      redis.call('HSET', prefix .. 'instance:' .. id, a, b)
    elseif op == 'D' then
      redis.call('HDEL', prefix .. 'instance:' .. id, a)
    elseif op == 'F' then
      redis.call('HSET', prefix .. 'instance:' .. id, 'status', b, 'ended', ARGV[at + 3])
      gather(leave, a, id)
      gather(enter, b, c, id)
    elseif op == 'I' then
      gather(leave, a, id)
      gather(enter, b, c, id)
    elseif op == 'W' then
      local status = redis.call('ZSCORE', timers, a) and 'PENDING' or 'RUNNING'
      if status == 'PENDING' then
        redis.call('HSET', prefix .. 'instance:' .. id, 'status', status)
      else
        redis.call('HDEL', prefix .. 'instance:' .. id, 'status')
      end
      gather(leave, 'SUSPENDED', id)
      gather(enter, status, b, id)
    elseif op == 'E' then
      send(a, b, c)
    elseif op == 'P' then
      local target = redis.call('HMGET', prefix .. 'instance:' .. a, 'inc', 'queue', 'status')
      local status = target[3]
      if target[1] == b and status ~= 'COMPLETED' and status ~= 'FAILED' and status ~= 'TERMINATED' then
        send(target[2], a, c)
      end
    elseif op == 'C' or op == 'R' then
      local queue, birth, created, taken = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
      local child = prefix .. 'instance:' .. a
      local other = redis.call('HGET', child, 'inc')
      if other and other ~= b and op == 'R' then
        local status = redis.call('HGET', child, 'status')
        if status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED' then
          redis.call('DEL', child, prefix .. 'history:' .. a)
          redis.call('INCR', prefix .. 'removals')
          redis.call('ZREM', prefix .. 'index:' .. status, a)
          redis.call('HDEL', prefix .. 'cursors', a)
          other = false
        end
      end
      if not other then
        redis.call('HSET', child, 'inc', b, 'name', c, 'queue', queue, 'created', created, 'parent', id)
        redis.call('RPUSH', prefix .. 'history:' .. a, birth)
        gather(enter, 'RUNNING', created, a)
        send(queue, a, '["S","' .. b .. '",' .. birth .. ']')
      elseif other ~= b then
        local own = redis.call('HGET', prefix .. 'instance:' .. id, 'queue')
        send(own, id, taken)
      end
    elseif op == 'M' then
      local target = redis.call('HMGET', prefix .. 'instance:' .. a, 'inc', 'queue', 'status')
      local status = target[3]
      if target[1] and status ~= 'COMPLETED' and status ~= 'FAILED' and status ~= 'TERMINATED' then
        send(target[2], a, '["E","' .. target[1] .. '"' .. b)
        redis.call('HINCRBY', prefix .. 'instance:' .. a, 'inbox', 1)
      end
    elseif op == 'O' then
      redis.call('XADD', prefix .. 'outbox', '*', 'm', a)
      posted = true
    elseif op == 'o' then
      -- An incarnation is the nonce of the parent's turn and the task's number.
      local adopted = redis.call('HMGET', prefix .. 'instance:' .. id, 'adopted', 'adopter')
      local nonce = adopted[1] and string.match(adopted[1], '^(.*)%.%d+$') or ARGV[at + 3]
      redis.call('XADD', prefix .. 'outbox', '*', 'm', a .. (adopted[2] or b) .. c .. nonce .. ARGV[at + 4])
      posted = true
    elseif op == 'B' then
      redis.call('HINCRBY', prefix .. 'instance:' .. id, 'inbox', -tonumber(a))
    elseif op == 'N' then
      redis.call('RPUSH', prefix .. 'history:' .. id, a)
      redis.call('LTRIM', prefix .. 'history:' .. id, -1, -1)
      redis.call('HINCRBY', prefix .. 'instance:' .. id, 'gen', 1)
      redis.call('HDEL', prefix .. 'cursors', id)
    elseif op == 'U' then
      redis.call('HSET', prefix .. 'cursors', id, a)
    elseif op == 'Q' then
      redis.call('HSET', prefix .. 'instance:' .. id, 'queue', a)
      -- What came after this batch waits in the old stream: it moves along, in its order,
      -- and the old owner drops its copy because the instance is no longer on its queue.
      for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. (last ~= '' and last or string.match(before, '^[^+]+')), '+')) do
        local fields = entry[2]
        for f = 1, #fields, 2 do
          if fields[f] == id then send(a, id, fields[f + 1]) end
        end
      end
    end
    at = at + OPERANDS[op]
  end
end

if #undue > 0 then flush('ZREM', timers, undue) end
if #forget > 0 then flush('HDEL', tasks, forget) end
for status, ids in pairs(leave) do flush('ZREM', prefix .. 'index:' .. status, ids) end
for status, ids in pairs(enter) do flush('ZADD', prefix .. 'index:' .. status, ids) end
if #due > 0 then
  local head = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  flush('ZADD', timers, due)
  if not head[2] or earliest < tonumber(head[2]) then
    redis.call('PUBLISH', prefix .. 'wake', string.format('%.0f', earliest))
  end
end
for queue, pack in pairs(packs) do
  redis.call('XADD', prefix .. 'activities:' .. queue, '*', unpack(pack))
end
for queue, fields in pairs(events) do
  redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(fields))
end
if posted then redis.call('PUBLISH', prefix .. 'wake', '0') end
if notice ~= '' then redis.call('PUBLISH', prefix .. 'changes', notice) end
return reply
