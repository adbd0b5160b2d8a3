-- start: create instances of one partition and queue their first event.
--
-- Guarantee: an item either leaves an instance with its birth record, index entry and
-- start event (or delayed-start timer), or nothing. Safe to send twice: an instance that
-- already has the given incarnation answers "started" again. A full Redis refuses the
-- whole call before anything is written (the first write is RPUSH).
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  number of items
-- ARGV[2]  queue of all items; "" where each has its own queue, name, due time, policy and tags
-- ARGV[3]  name of all items, or ""; what is started in batches is mostly alike
-- ARGV[4]  policy of all items, or ""; per item of those that are alike, three values:
--   id           instance id
--   incarnation  random, new for every start
--   birth        the birth record behind its creation time: ',"inc",gen,...]'
-- and, where nothing is shared:
--   queue        the application that has the code
--   name         workflow name
--   due          epoch ms of a delayed start, or "" for now
--   policy       what an existing instance means: "error", "existing" or "replace"
--   tags         JSON object, or ""
-- Reply: "started" when all of them are, else per item {"started", incarnation} |
-- {"exists", incarnation, status} where status is "" for a live instance.

local prefix = KEYS[1]
local count, all_queue, all_name, all_policy = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local shared = all_name ~= ''
local width = shared and 3 or 8
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local call = redis.call
local replies, fresh, seen = {}, {}, {}
local events, running, waiting, timers = {}, {}, {}, {}

local function add(key, values)
  for first = 1, #values, 2000 do
    redis.call('ZADD', key, unpack(values, first, math.min(first + 1999, #values)))
  end
end

local function queue_events(queue, fields)
  for first = 1, #fields, 512 do
    redis.call('XADD', prefix .. 'events:' .. queue, '*', unpack(fields, first, math.min(first + 511, #fields)))
  end
end

if shared then
  -- All new, as most are: done with it, without looking at each.
  local keys, twice, size = {}, false, 0
  for at = 5, #ARGV, 3 do
    size = size + 1
    local id = ARGV[at]
    keys[size] = prefix .. 'instance:' .. id
    twice = twice or seen[id]
    seen[id] = true
  end
  seen = {}
  if not twice and call('EXISTS', unpack(keys)) == 0 then
    local history, head, at = prefix .. 'history:', '["B",' .. now, 5
    local born = {}
    for n = 1, count do
      local id, inc, birth = ARGV[at], ARGV[at + 1], head .. ARGV[at + 2]
      at = at + 3
      call('RPUSH', history .. id, birth)
      call('HSET', keys[n], 'inc', inc, 'name', all_name, 'queue', all_queue, 'created', now)
      local size = 2 * n
      running[size - 1], running[size] = now, id
      born[size - 1], born[size] = id, '["S","' .. inc .. '",' .. birth .. ']'
    end
    add(prefix .. 'index:RUNNING', running)
    queue_events(all_queue, born)
    return 'started'
  end
end

local at = 5
for n = 1, count do
  local item = {
    id = ARGV[at], inc = ARGV[at + 1], birth = ARGV[at + 2], queue = all_queue, name = all_name,
    due = '', tags = '',
  }
  local policy = all_policy
  if not shared then
    item.queue, item.name, item.due, item.tags = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 7]
    policy = ARGV[at + 6]
  end
  at = at + width
  local inc, status, gone = seen[item.id], false, false
  if not inc then
    local found = redis.call('HMGET', prefix .. 'instance:' .. item.id, 'inc', 'status')
    inc, status = found[1], found[2]
    gone = status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED'
  end
  if not inc or (gone and policy == 'replace' and inc ~= item.inc) then
    item.old = gone and status
    fresh[#fresh + 1] = item
    seen[item.id] = item.inc
    replies[n] = {'started', item.inc}
  elseif inc == item.inc then
    replies[n] = {'started', inc}
  else
    replies[n] = {'exists', inc, status or ''}
  end
end

for _, item in ipairs(fresh) do
  local instance, history = prefix .. 'instance:' .. item.id, prefix .. 'history:' .. item.id
  local birth = '["B",' .. now .. item.birth
  redis.call('RPUSH', history, birth)
  if item.old then
    -- The id is used again: only the record just pushed survives.
    redis.call('LTRIM', history, -1, -1)
    redis.call('DEL', instance)
    redis.call('INCR', prefix .. 'removals')
    redis.call('ZREM', prefix .. 'index:' .. item.old, item.id)
    redis.call('HDEL', prefix .. 'cursors', item.id)
  end
  redis.call('HSET', instance, 'inc', item.inc, 'name', item.name, 'queue', item.queue, 'created', now)
  if item.tags ~= '' then redis.call('HSET', instance, 'tags', item.tags) end
  if item.due == '' then
    running[#running + 1] = now
    running[#running + 1] = item.id
    local pairs_of = events[item.queue]
    if not pairs_of then
      pairs_of = {}
      events[item.queue] = pairs_of
    end
    pairs_of[#pairs_of + 1] = item.id
    pairs_of[#pairs_of + 1] = '["S","' .. item.inc .. '",' .. birth .. ']'
  else
    redis.call('HSET', instance, 'status', 'PENDING')
    waiting[#waiting + 1] = now
    waiting[#waiting + 1] = item.id
    timers[#timers + 1] = item.due
    timers[#timers + 1] = 'S ' .. item.queue .. ' ' .. item.id .. ' ' .. item.inc
  end
end

add(prefix .. 'index:RUNNING', running)
add(prefix .. 'index:PENDING', waiting)
for queue, fields in pairs(events) do queue_events(queue, fields) end
if #timers > 0 then
  local head = redis.call('ZRANGE', prefix .. 'timers', 0, 0, 'WITHSCORES')
  add(prefix .. 'timers', timers)
  local new = redis.call('ZRANGE', prefix .. 'timers', 0, 0, 'WITHSCORES')
  if new[2] ~= head[2] then redis.call('PUBLISH', prefix .. 'wake', new[2]) end
end
return replies
