-- fire: turn timers that are due, by this server's clock, into events and activity entries.
--
-- Guarantee: a timer leaves the set in the step that queues its effect, so it fires once
-- however many schedulers call; what fires for a run that has ended leaves nothing behind.
-- Works on a full Redis: the first write frees memory.
--
-- KEYS[1]  sorted set  timers
-- KEYS[2]  hash        messages of waiting tasks, and entries with a schedule-to-start timeout
-- KEYS[3]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  most timers to fire in this call
-- Reply: {fired, due ms of the next timer or "", now ms, lateness of the oldest fired in ms}.
--
-- A member is a letter and its values, separated by spaces (instance ids hold none):
--   T queue id event                  an event for the instance
--   S queue id incarnation            a delayed start
--   R queue id task_id nonce          the next attempt of an activity
--   Q queue id task_id nonce orchestrator_queue   an activity nobody has started in time

local timers, tasks, prefix, limit = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local oldest = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2]
if not oldest or tonumber(oldest) > tonumber(now) then return {0, oldest or '', now, 0} end
-- Without their scores: Redis would print each of them.
local members = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, limit)
local events, delivered = {}, {}

local function send(queue, id, event)
  local fields = events[queue]
  if not fields then
    fields = {}
    events[queue] = fields
  end
  fields[#fields + 1] = id
  fields[#fields + 1] = event
end

local function ended(status)
  return status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED'
end

-- The last entry of a stream that a worker was given; everything above is still waiting.
local function last_delivered(stream)
  if not delivered[stream] then
    delivered[stream] = '0-0'
    if redis.call('EXISTS', stream) == 1 then
      for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        for f = 1, #group, 2 do
          if group[f] == 'last-delivered-id' then delivered[stream] = group[f + 1] end
        end
      end
    end
  end
  return delivered[stream]
end

local function is_above(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms > b_ms or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
end

for first = 1, #members, 2000 do
  redis.call('ZREM', timers, unpack(members, first, math.min(first + 1999, #members)))
end
for _, member in ipairs(members) do
  local kind, queue, id, rest = string.match(member, '^(%a) (%S+) (%S+) (.*)$')
  if kind == 'T' then
    send(queue, id, rest)
  elseif kind == 'R' then
    local field = id .. ' ' .. rest
    local message = redis.call('HGET', tasks, field)
    local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'gen', 'status')
    -- The message names its run; a retry of an earlier one has nobody to report to.
    local run = found[1] and '"' .. found[1] .. '.' .. (found[2] or '0') .. '"'
    redis.call('HDEL', tasks, field)
    if message and run and not ended(found[3]) and string.find(message, run, 1, true) then
      redis.call('XADD', prefix .. 'activities:' .. queue, '*', id, message)
    end
  elseif kind == 'S' then
    local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'status', 'created')
    if found[1] == rest and not ended(found[2]) then
      if found[2] == 'PENDING' then
        redis.call('HDEL', prefix .. 'instance:' .. id, 'status')
        redis.call('ZREM', prefix .. 'index:PENDING', id)
        redis.call('ZADD', prefix .. 'index:RUNNING', found[3], id)
      end
      -- Without the birth record, unlike a start: turns may have been recorded while it waited.
      send(queue, id, '["S","' .. rest .. '"]')
    end
  elseif kind == 'Q' then
    local task, nonce, home = string.match(rest, '^(%S+) (%S+) (%S+)$')
    local stream, field = prefix .. 'activities:' .. queue, 's ' .. id .. ' ' .. task .. ' ' .. nonce
    local entry = redis.call('HGET', tasks, field)
    if entry then
      redis.call('HDEL', tasks, field)
      -- Only an attempt that no worker was given is late.
      if is_above(entry, last_delivered(stream)) then
        redis.call('XDEL', stream, entry)
        send(home, id, '["X",' .. task .. ',"' .. nonce .. '",{"type":"ActivityTimeout","message":"no worker took the activity within its schedule-to-start timeout","stack":"","cause":null}]')
      end
    end
  end
end
for queue, fields in pairs(events) do
  for first = 1, #fields, 512 do
    redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(fields, first, math.min(first + 511, #fields)))
  end
end
local head = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
return {#members, head[2] or '', now, tonumber(now) - tonumber(oldest)}
