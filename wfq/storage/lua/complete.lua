-- complete: report the outcome of activity attempts of one partition and queue.
--
-- Guarantee: the completion event is queued no later than the attempt is acknowledged, so
-- an outcome is never lost; it may be queued twice, and the orchestrator takes the first.
-- A retry or hand-back is written only if this call's acknowledgement counted, so an attempt
-- that two workers held is followed by one next attempt. Works on a full Redis.
--
-- KEYS[1]  stream      activities of the partition and queue
-- KEYS[2]  sorted set  timers
-- KEYS[3]  hash        messages of waiting tasks
-- KEYS[4]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  queue of the activities
-- ARGV[2]  most dead letters to keep
-- ARGV[3]  number of items; then per item a letter, the entry id, the instance id and:
--   C  orchestrator queue, event                              final outcome
--   X  orchestrator queue, event, reason, message, task       final, with a dead letter
--   R  task ("task_id nonce"), run ("inc.gen"), delay ms, message   next attempt after a delay
--   H  message                                                handed back unstarted
--   N  orchestrator queue, event                              a note; the entry stays
-- Reply: {number acknowledged, retries scheduled}.

local stream, timers, tasks, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local queue, dead_cap, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local WIDTH = {C = 2, X = 5, R = 4, H = 1, N = 2}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local plain, events, top = {}, {}, nil
local single = {}
local at = 4
for _ = 1, count do
  local kind, entry, id = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if kind == 'R' or kind == 'H' then
    single[#single + 1] = at
  else
    if kind ~= 'N' then plain[#plain + 1] = entry end
    local target = ARGV[at + 3]
    local fields = events[target]
    if not fields then
      fields = {}
      events[target] = fields
    end
    fields[#fields + 1] = id
    fields[#fields + 1] = ARGV[at + 4]
    if kind == 'X' then single[#single + 1] = at end
  end
  at = at + 3 + WIDTH[kind]
end

local acked, retried = 0, 0
local done = plain
-- The acknowledgement goes first: it frees memory, and a script that has begun to write
-- is not stopped by a full Redis.
if #plain > 0 then acked = redis.call('XACK', stream, 'activities', unpack(plain)) end
for target, fields in pairs(events) do
  for first = 1, #fields, 512 do
    redis.call('XADD', prefix .. 'events:' .. target, '*', unpack(fields, first, math.min(first + 511, #fields)))
  end
end
local earliest = nil
for _, item in ipairs(single) do
  local kind, entry, id = ARGV[item], ARGV[item + 1], ARGV[item + 2]
  if kind == 'X' then
    redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', dead_cap, '*', 'kind', 'activity', 'queue', queue,
      'id', id, 'reason', ARGV[item + 5], 'message', ARGV[item + 6])
    redis.call('HDEL', tasks, 'hb ' .. id .. ' ' .. ARGV[item + 7])
  else
    local counted = redis.call('XACK', stream, 'activities', entry)
    done[#done + 1] = entry
    acked = acked + counted
    if counted == 1 and kind == 'H' then
      redis.call('XADD', stream, '*', id, ARGV[item + 3])
    elseif counted == 1 then
      local task, run, delay, message = ARGV[item + 3], ARGV[item + 4], tonumber(ARGV[item + 5]), ARGV[item + 6]
      local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'gen', 'status')
      local status = found[3]
      local alive = found[1] and found[1] .. '.' .. (found[2] or '0') == run
        and status ~= 'COMPLETED' and status ~= 'FAILED' and status ~= 'TERMINATED'
      if alive then
        local due = string.format('%.0f', now + delay)
        redis.call('HSET', tasks, id .. ' ' .. task, message)
        redis.call('ZADD', timers, due, 'R ' .. queue .. ' ' .. id .. ' ' .. task)
        retried = retried + 1
        if not earliest or now + delay < earliest then earliest = now + delay end
      end
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
-- than the lowest entry that somebody still holds.
if #done > 0 then
  local pending = redis.call('XPENDING', stream, 'activities')
  if pending[1] == 0 then
    local groups = redis.call('XINFO', 'GROUPS', stream)
    local delivered = nil
    for _, group in ipairs(groups) do
      local info = {}
      for f = 1, #group, 2 do info[group[f]] = group[f + 1] end
      if info['name'] == 'activities' then delivered = info['last-delivered-id'] end
    end
    if delivered then
      redis.call('XTRIM', stream, 'MINID', delivered)
      redis.call('XDEL', stream, delivered)
    end
  else
    redis.call('XTRIM', stream, 'MINID', pending[2])
    redis.call('XDEL', stream, unpack(done))
  end
end
return {acked, retried}
