-- complete: report the outcome of activity attempts of one partition and queue.
--
-- Guarantee: the completion event is queued no later than the attempt is acknowledged, so
-- an outcome is never lost; it may be queued twice, and the orchestrator takes the first.
-- A retry, hand-back or dead letter is written only if this call's acknowledgement counted,
-- so an attempt that two workers held is followed by one next attempt. No entry that is
-- pending or undelivered leaves the stream. Works on a full Redis, and on a stream that lost
-- its consumer group. Of a pack (an entry of several attempts) every attempt has its outcome in
-- one call, which acknowledges it; or a call splits it ("S"): one attempt keeps the entry, the
-- others have their outcomes now, and a mark tells whoever takes the entry over.
--
-- KEYS[1]  stream      activities of the partition and queue
-- KEYS[2]  sorted set  timers
-- KEYS[3]  hash        messages of waiting tasks
-- KEYS[4]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  queue of the activities
-- ARGV[2]  most dead letters to keep
-- ARGV[3]  orchestrator queue of the plain outcomes: final ones, with nothing else to them
-- ARGV[4]  number of entries of plain outcomes
-- ARGV[5]  number of plain outcomes
-- ARGV[6]  the smallest id above the entries of plain outcomes, or "" without any
-- then     the entry ids of plain outcomes, then per outcome instance id and event (columns, handed
--          on as they are: a loop over them would cost Redis three times as much)
-- then     number of other items; then per item a letter, the entry id, the instance id and:
--   C  orchestrator queue, event                              final outcome
--   D  orchestrator queue, event, task ("task_id nonce")      final; its heartbeat details, lone
--                                                             runs and schedule-to-start timeout go
--   X  orchestrator queue, event, reason, message, task       as D, with a dead letter
--   R  task, run ("inc.gen"), delay ms, message               next attempt after a delay
--   H  message                                                handed back unstarted
--   N  orchestrator queue, event                              a note; the entry stays
--   S  consumer, mark                                         the entry is split, if this consumer
--                                                             holds it whole; before its outcomes
--   U  (nothing)                                              the mark of a split entry goes
-- Reply: {number acknowledged, retries scheduled}.

local stream, timers, tasks, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local queue, dead_cap, home, plain, above = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[6]
local plain_last = 6 + plain
local pairs_last = plain_last + 2 * tonumber(ARGV[5])
local others = tonumber(ARGV[pairs_last + 1])
local WIDTH = others > 0 and {C = 2, D = 3, X = 5, R = 4, H = 1, N = 2, S = 2, U = 0}
local done, events, single, split = {}, {}, {}, {}
local at = pairs_last + 2
for _ = 1, others do
  local kind, entry = ARGV[at], ARGV[at + 1]
  if kind == 'C' or kind == 'D' or kind == 'X' or kind == 'N' then
    local target = ARGV[at + 3]
    local fields = events[target]
    if not fields then
      fields = {}
      events[target] = fields
    end
    fields[#fields + 1] = ARGV[at + 2]
    fields[#fields + 1] = ARGV[at + 4]
  end
  if kind == 'C' then
    done[#done + 1] = entry
  elseif kind ~= 'N' then
    single[#single + 1] = at
  end
  at = at + 3 + WIDTH[kind]
end

local now = 0
if #single > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local acked, retried = 0, 0
-- The acknowledgement goes first: it frees memory, and a script that has begun to write
-- is not stopped by a full Redis.
for first = 7, plain_last, 2000 do
  acked = acked + redis.call('XACK', stream, 'activities', unpack(ARGV, first, math.min(first + 1999, plain_last)))
end
for first = 1, #done, 2000 do
  acked = acked + redis.call('XACK', stream, 'activities', unpack(done, first, math.min(first + 1999, #done)))
end
-- By entry: the outcomes of a pack count together.
local counts = {}
for _, item in ipairs(single) do
  local entry = ARGV[item + 1]
  if not counts[entry] then
    if ARGV[item] == 'S' then
      split[entry] = true
      local held = redis.pcall('XPENDING', stream, 'activities', entry, entry, 1)[1]
      counts[entry] = 0
      if held and held[2] == ARGV[item + 3] then
        -- Not a second time: a call may be sent twice.
        counts[entry] = redis.call('HSETNX', tasks, 'p ' .. entry .. ' ' .. queue, ARGV[item + 4])
      end
    else
      counts[entry] = redis.call('XACK', stream, 'activities', entry)
      acked = acked + counts[entry]
    end
  end
end
if plain + #done + #single == 0 then redis.call('XACK', stream, 'activities', '0-0') end
for first = plain_last + 1, pairs_last, 512 do
  redis.call('XADD', prefix .. 'events:' .. home, '*', unpack(ARGV, first, math.min(first + 511, pairs_last)))
end
for target, fields in pairs(events) do
  for first = 1, #fields, 512 do
    redis.call('XADD', prefix .. 'events:' .. target, '*', unpack(fields, first, math.min(first + 511, #fields)))
  end
end
local earliest = nil
for _, item in ipairs(single) do
  local kind, entry, id = ARGV[item], ARGV[item + 1], ARGV[item + 2]
  local counted = counts[entry] == 1
  -- Not acknowledged: done by another, or (the group was made anew) still to be handed out.
  if not split[entry] and (counted or kind == 'D' or kind == 'X') then done[#done + 1] = entry end
  if kind == 'U' then
    redis.call('HDEL', tasks, 'p ' .. entry .. ' ' .. queue)
  elseif kind == 'D' or kind == 'X' then
    local task = ARGV[item + (kind == 'D' and 5 or 7)]
    redis.call('HDEL', tasks, 'hb ' .. id .. ' ' .. task, 's ' .. id .. ' ' .. task, 'x ' .. id .. ' ' .. task)
    redis.call('ZREM', timers, 'Q ' .. queue .. ' ' .. id .. ' ' .. task .. ' ' .. ARGV[item + 3])
    if kind == 'X' and counted then
      redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', dead_cap, '*', 'kind', 'activity', 'queue', queue,
        'id', id, 'reason', ARGV[item + 5], 'message', ARGV[item + 6])
    end
  elseif counted and kind == 'H' then
    local message = ARGV[item + 3]
    local added = redis.call('XADD', stream, '*', id, message)
    -- A schedule-to-start timeout looks for the entry that nobody has started.
    local nonce, task = string.match(message, '^%["([^"]*)",%d+,%d+,"[^"]*","[^"]*",%["A",(%d+),')
    local late = nonce and 's ' .. id .. ' ' .. task .. ' ' .. nonce
    if late and redis.call('HEXISTS', tasks, late) == 1 then redis.call('HSET', tasks, late, added) end
  elseif counted and kind == 'R' then
    local task, run, delay, message = ARGV[item + 3], ARGV[item + 4], tonumber(ARGV[item + 5]), ARGV[item + 6]
    -- Its worker has lived: what it ran alone does not count any more.
    redis.call('HDEL', tasks, 'x ' .. id .. ' ' .. task)
    local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'gen', 'status')
    local status = found[3]
    if found[1] and found[1] .. '.' .. (found[2] or '0') == run
      and status ~= 'COMPLETED' and status ~= 'FAILED' and status ~= 'TERMINATED' then
      redis.call('HSET', tasks, id .. ' ' .. task, message)
      redis.call('ZADD', timers, string.format('%.0f', now + delay), 'R ' .. queue .. ' ' .. id .. ' ' .. task)
      retried = retried + 1
      if not earliest or now + delay < earliest then earliest = now + delay end
    else
      redis.call('HDEL', tasks, 'hb ' .. id .. ' ' .. task)
    end
  end
end
if earliest then
  local head = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  if tonumber(head[2]) >= earliest then
    redis.call('PUBLISH', prefix .. 'wake', string.format('%.0f', earliest))
  end
end

-- Free the entries. Trimming is cheaper than deleting one by one, but may go no higher
-- than the lowest entry that somebody still holds or nobody has been given.
if plain + #done > 0 then
  local pending = redis.pcall('XPENDING', stream, 'activities')
  if pending.err then
    -- The group is gone: whoever makes it anew is given every entry that is left.
    pending = nil
  elseif pending[1] == 0 and others == 0 and acked == plain then
    -- This group has handed out all of them, and whatever came before, and nobody holds any.
    redis.call('XTRIM', stream, 'MINID', above)
  elseif pending[1] == 0 then
    local delivered = nil
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local info = {}
      for f = 1, #group, 2 do info[group[f]] = group[f + 1] end
      if info['name'] == 'activities' then delivered = info['last-delivered-id'] end
    end
    redis.call('XTRIM', stream, 'MINID', delivered)
    redis.call('XDEL', stream, delivered)
  else
    redis.call('XTRIM', stream, 'MINID', pending[2])
    for first = 7, plain_last, 2000 do
      redis.call('XDEL', stream, unpack(ARGV, first, math.min(first + 1999, plain_last)))
    end
    for first = 1, #done, 2000 do
      redis.call('XDEL', stream, unpack(done, first, math.min(first + 1999, #done)))
    end
  end
end
return {acked, retried}
