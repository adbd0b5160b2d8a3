-- fire: turn timers that are due, by this server's clock, into events and activity entries.
--
-- Guarantee: a timer leaves the set in the step that queues its effect, so it fires once
-- however many schedulers call. Works on a full Redis: the first write frees memory.
--
-- KEYS[1]  sorted set  timers
-- KEYS[2]  hash        messages of waiting tasks
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
local due = redis.call('ZRANGEBYSCORE', timers, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
local lateness = due[2] and tonumber(now) - tonumber(due[2]) or 0
local members, events, entering = {}, {}, {}

local function send(queue, id, event)
  local fields = events[queue]
  if not fields then
    fields = {}
    events[queue] = fields
  end
  fields[#fields + 1] = id
  fields[#fields + 1] = event
end

for n = 1, #due, 2 do members[#members + 1] = due[n] end
if #members > 0 then redis.call('ZREM', timers, unpack(members)) end
for _, member in ipairs(members) do
  local kind, queue, id, rest = string.match(member, '^(%a) (%S+) (%S+) (.*)$')
  if kind == 'T' then
    send(queue, id, rest)
  elseif kind == 'R' then
    local message = redis.call('HGET', tasks, id .. ' ' .. rest)
    if message then
      redis.call('HDEL', tasks, id .. ' ' .. rest)
      redis.call('XADD', prefix .. 'activities:' .. queue, '*', id, message)
    end
  elseif kind == 'S' then
    local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'status', 'created')
    if found[1] == rest then
      local birth = redis.call('LINDEX', prefix .. 'history:' .. id, 0)
      if found[2] == 'PENDING' then
        redis.call('HDEL', prefix .. 'instance:' .. id, 'status')
        redis.call('ZREM', prefix .. 'index:PENDING', id)
        redis.call('ZADD', prefix .. 'index:RUNNING', found[3], id)
      end
      send(queue, id, '["S","' .. rest .. '",' .. birth .. ']')
    end
  elseif kind == 'Q' then
    local task, nonce, home = string.match(rest, '^(%S+) (%S+) (%S+)$')
    local stream = prefix .. 'activities:' .. queue
    local field = id .. ' ' .. task .. ' ' .. nonce
    -- Only an attempt that no worker has taken is late; its entry is found by its nonce.
    local delivered = '0-0'
    if redis.call('EXISTS', stream) == 1 then
      for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        for f = 1, #group, 2 do
          if group[f] == 'last-delivered-id' then delivered = group[f + 1] end
        end
      end
      local from, found = '(' .. delivered, false
      while not found do
        local page = redis.call('XRANGE', stream, from, '+', 'COUNT', 200)
        for _, entry in ipairs(page) do
          if entry[2][1] == id and string.find(entry[2][2], '^%["' .. nonce:gsub('%p', '%%%1') .. '",')
            and string.find(entry[2][2], '["A",' .. task .. ',', 1, true) then
            redis.call('XDEL', stream, entry[1])
            send(home, id, '["X",' .. task .. ',"' .. nonce .. '",{"type":"ActivityTimeout","message":"no worker took the activity within its schedule-to-start timeout","stack":"","cause":null}]')
            found = true
            break
          end
          from = '(' .. entry[1]
        end
        if #page < 200 then found = true end
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
return {#members, head[2] or '', now, lateness}
