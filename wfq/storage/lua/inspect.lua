-- inspect: everything that concerns some instances of one partition, for the checker.
--
-- Guarantee: one consistent snapshot; nothing is written.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  most entries and members to look at in all; what is beyond is told as truncated
-- ARGV[2]  number of instance ids, then the ids; number of orchestrator queues, then their
--          names; number of activity queues, then their names
-- Reply: {now ms, instances, events, activities, timers, tasks, outbox, leases, truncated 0/1}:
--   instances   per id {} or {flat hash, history elements, statuses and scores of its index
--               entries, cursor or "", 1 if a key of it has a TTL else 0}
--   events      {queue, entry id, field number, id, beginning of the event}
--   activities  {queue, entry id, id, nonce, attempt, task id, "new"|"pending"|"lost", consumer,
--               ms idle, deliveries}
--   timers      {member, due ms}        tasks  {field, value for entries of timeouts else ""}
--   outbox      {entry id, message}     leases {queue, token or "", owner, expires, group 0/1}

local prefix, budget = KEYS[1], tonumber(ARGV[1])
local STATUSES = {'RUNNING', 'PENDING', 'SUSPENDED', 'STALLED', 'COMPLETED', 'FAILED', 'TERMINATED'}
local time = redis.call('TIME')
local at, truncated = 2, 0

local function names()
  local found = {}
  for n = 1, tonumber(ARGV[at]) do found[n] = ARGV[at + n] end
  at = at + 1 + #found
  return found
end

local ids, homes, queues = names(), names(), names()
local wanted, instances = {}, {}
for n, id in ipairs(ids) do
  wanted[id] = true
  local instance, history = prefix .. 'instance:' .. id, prefix .. 'history:' .. id
  local fields, elements = redis.call('HGETALL', instance), redis.call('LRANGE', history, 0, -1)
  local places = {}
  for _, status in ipairs(STATUSES) do
    local score = redis.call('ZSCORE', prefix .. 'index:' .. status, id)
    if score then
      places[#places + 1] = status
      places[#places + 1] = score
    end
  end
  local expires = redis.call('PTTL', instance) >= 0 or redis.call('PTTL', history) >= 0
  instances[n] = {fields, elements, places, redis.call('HGET', prefix .. 'cursors', id) or '',
    expires and 1 or 0}
end

-- Calls look(entry id, flat fields) for every entry of a stream.
local function walk(stream, look)
  local from = '-'
  while true do
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', 500)
    for _, entry in ipairs(page) do look(entry[1], entry[2]) end
    budget = budget - #page
    if #page < 500 then return end
    if budget <= 0 then
      truncated = 1
      return
    end
    from = '(' .. page[#page][1]
  end
end

local function is_above(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms > b_ms or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
end

local function groups_of(stream)
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found end
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for f = 1, #group, 2 do info[group[f]] = group[f + 1] end
    found[info['name']] = info['last-delivered-id']
  end
  return found
end

local events, leases = {}, {}
for _, queue in ipairs(homes) do
  local stream = prefix .. 'events:' .. queue
  walk(stream, function(entry, fields)
    for f = 1, #fields, 2 do
      if wanted[fields[f]] then
        events[#events + 1] = {queue, entry, (f - 1) / 2, fields[f], string.sub(fields[f + 1], 1, 2000)}
      end
    end
  end)
  local held = redis.call('HMGET', prefix .. 'lease:' .. queue, 'token', 'owner', 'expires')
  leases[#leases + 1] = {queue, held[1] or '', held[2] or '', held[3] or '0',
    held[1] and groups_of(stream)[held[1]] and 1 or 0}
end

local activities = {}
for _, queue in ipairs(queues) do
  local stream = prefix .. 'activities:' .. queue
  local delivered = groups_of(stream)['activities']
  walk(stream, function(entry, fields)
    for f = 1, #fields, 2 do
      if wanted[fields[f]] then
        local nonce, attempt, task =
          string.match(fields[f + 1], '^%["([^"]*)",(%d+),%d+,"[^"]*","[^"]*",%["A",(%d+),')
        local state, held = 'new', nil
        if delivered and not is_above(entry, delivered) then
          held = redis.call('XPENDING', stream, 'activities', entry, entry, 1)[1]
          state = held and 'pending' or 'lost'
        end
        activities[#activities + 1] = {queue, entry, fields[f], nonce or '', attempt or '0', task or '',
          state, held and held[2] or '', held and held[3] or 0, held and held[4] or 0}
      end
    end
  end)
end

local timers, first = {}, 0
while true do
  local page = redis.call('ZRANGE', prefix .. 'timers', first, first + 999, 'WITHSCORES')
  for n = 1, #page, 2 do
    local id = string.match(page[n], '^%a %S+ (%S+)')
    if id and wanted[id] then timers[#timers + 1] = {page[n], page[n + 1]} end
  end
  budget = budget - #page / 2
  if #page < 2000 then break end
  if budget <= 0 then
    truncated = 1
    break
  end
  first = first + 1000
end

local tasks = {}
for _, field in ipairs(redis.call('HKEYS', prefix .. 'tasks')) do
  local kind, id = string.match(field, '^(%a+) (%S+) %d+ %S+$')
  if not kind then id = string.match(field, '^(%S+) %d+ %S+$') end
  if id and wanted[id] then
    tasks[#tasks + 1] = {field, kind == 's' and redis.call('HGET', prefix .. 'tasks', field) or ''}
  end
end

local outbox = {}
walk(prefix .. 'outbox', function(entry, fields) outbox[#outbox + 1] = {entry, fields[2]} end)
return {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), instances, events, activities,
  timers, tasks, outbox, leases, truncated}
