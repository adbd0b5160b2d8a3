-- reconcile: put back what should wake one instance and is missing; remove what is left over.
--
-- Guarantee: what exists is never added a second time: each item looks for itself first, in
-- this same step, so the call may be sent as often as one likes. Nothing is done when the
-- instance has changed since it was looked at.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  instance id
-- ARGV[2]  incarnation as it was looked at, or "" for one that did not exist
-- ARGV[3]  generation
-- ARGV[4]  number of history elements
-- ARGV[5]  queue of the instance, whose stream holds its events
-- ARGV[6]  number of items; then per item a letter and:
--   A queue task_id nonce message   an open activity: its entry, unless an entry that is pending
--                                   or undelivered, a retry or its outcome is there
--   T due member beginning          an open timer, unless its event (told by its beginning) waits
--   S event member                  the start event, unless one waits or the delayed start
--   E beginning event               an event, unless one with that beginning waits
--   C id inc name queue birth created   a child, unless an instance has its id
--   O id inc message                a child of another partition: a message, unless one waits
--   I status created                the index: in that of its status, and in no other
--   z member                        a timer that is left over
--   h field                         a waiting message, heartbeat or deadline that is left over
--   u                               an unfinished dispatch that is left over
-- Reply: {"changed"} | {"mended", per item "added" | "there"}.

local prefix = KEYS[1]
local id, inc, gen, turns, home, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local WIDTH = {A = 4, T = 3, S = 2, E = 2, C = 6, O = 3, I = 2, z = 1, h = 1, u = 0}
local STATUSES = {'RUNNING', 'PENDING', 'SUSPENDED', 'STALLED', 'COMPLETED', 'FAILED', 'TERMINATED'}
local timers, tasks, stream = prefix .. 'timers', prefix .. 'tasks', prefix .. 'events:' .. home

local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'gen')
local length = redis.call('LLEN', prefix .. 'history:' .. id)
if (found[1] or '') ~= inc or (inc ~= '' and (found[2] or '0') ~= gen) or length ~= tonumber(turns) then
  return {'changed'}
end

-- Calls look(entry id, value, whether it has others too) for every value of an instance in a stream, until it returns true.
local function search(key, whose, look)
  local from = '-'
  while true do
    local page = redis.call('XRANGE', key, from, '+', 'COUNT', 500)
    for _, entry in ipairs(page) do
      for f = 1, #entry[2], 2 do
        if (not whose or entry[2][f] == whose) and look(entry[1], entry[2][f + 1], #entry[2] > 2) then return true end
      end
    end
    if #page < 500 then return false end
    from = '(' .. page[#page][1]
  end
end

local function waits(beginning)
  return search(stream, id, function(_, event) return string.sub(event, 1, #beginning) == beginning end)
end

local function send(event) redis.call('XADD', stream, '*', id, event) end

local function is_held(key, entry)
  local delivered = nil
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local info = {}
    for f = 1, #group, 2 do info[group[f]] = group[f + 1] end
    if info['name'] == 'activities' then delivered = info['last-delivered-id'] end
  end
  if not delivered then return true end
  if redis.call('XPENDING', key, 'activities', entry, entry, 1)[1] then return true end
  -- Undelivered: nothing up to the last delivered entry is this one.
  return #redis.call('XRANGE', key, entry, delivered) == 0
end

local function add_activity(queue, task, nonce, message)
  local key, field = prefix .. 'activities:' .. queue, id .. ' ' .. task .. ' ' .. nonce
  local retry = 'R ' .. queue .. ' ' .. field
  local timer, waiting = redis.call('ZSCORE', timers, retry), redis.call('HGET', tasks, field)
  if timer and waiting then return 'there' end
  local tail = task .. ',"' .. nonce .. '"'
  if waits('["C",' .. tail) or waits('["X",' .. tail) then return 'there' end
  local lost, lost_message, task_text = nil, nil, '["A",' .. task .. ','
  local held = search(key, id, function(entry, value, packed)
    if string.sub(value, 1, #nonce + 4) ~= '["' .. nonce .. '",' or not string.find(value, task_text, 1, true) then
      return false
    end
    if is_held(key, entry) then return true end
    -- The others of a pack may have nothing else.
    lost, lost_message = not packed and entry, value
    return false
  end)
  if held then return 'there' end
  -- The attempt that was under way counts on where it is still known.
  if waiting then
    redis.call('ZADD', timers, 0, retry)
    return 'added'
  end
  redis.call('ZREM', timers, retry)
  if lost then redis.call('XDEL', key, lost) end
  redis.call('XADD', key, '*', id, lost_message or message)
  return 'added'
end

local reply, at = {'mended'}, 7
for n = 1, count do
  local letter, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local word = 'there'
  if letter == 'A' then
    word = add_activity(a, b, c, ARGV[at + 4])
  elseif letter == 'T' then
    if not redis.call('ZSCORE', timers, b) and not waits(c) then
      redis.call('ZADD', timers, a, b)
      word = 'added'
    end
  elseif letter == 'S' then
    if not redis.call('ZSCORE', timers, b) and not waits('["S",') then
      send(a)
      word = 'added'
    end
  elseif letter == 'E' then
    if not waits(a) then
      send(b)
      word = 'added'
    end
  elseif letter == 'C' then
    local queue, birth, created = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
    if redis.call('EXISTS', prefix .. 'instance:' .. a) == 0 then
      redis.call('DEL', prefix .. 'history:' .. a)
      redis.call('RPUSH', prefix .. 'history:' .. a, birth)
      redis.call('HSET', prefix .. 'instance:' .. a, 'inc', b, 'name', c, 'queue', queue,
        'created', created, 'parent', id)
      redis.call('ZADD', prefix .. 'index:RUNNING', created, a)
      redis.call('XADD', prefix .. 'events:' .. queue, '*', a, '["S","' .. b .. '"]')
      word = 'added'
    end
  elseif letter == 'O' then
    local beginning = '["C","' .. a .. '","' .. b .. '",'
    if not search(prefix .. 'outbox', nil, function(_, message)
      return string.sub(message, 1, #beginning) == beginning
    end) then
      redis.call('XADD', prefix .. 'outbox', '*', 'm', c)
      redis.call('PUBLISH', prefix .. 'wake', '0')
      word = 'added'
    end
  elseif letter == 'I' then
    for _, status in ipairs(STATUSES) do
      local index = prefix .. 'index:' .. status
      if status == a then
        if redis.call('ZSCORE', index, id) ~= b then
          redis.call('ZADD', index, b, id)
          word = 'added'
        end
      elseif redis.call('ZREM', index, id) == 1 then
        word = 'added'
      end
    end
  elseif letter == 'z' then
    if redis.call('ZREM', timers, a) == 1 then word = 'added' end
  elseif letter == 'h' then
    if redis.call('HDEL', tasks, a) == 1 then word = 'added' end
  elseif letter == 'u' then
    if redis.call('HDEL', prefix .. 'cursors', id) == 1 then word = 'added' end
  end
  reply[#reply + 1] = word
  at = at + 1 + WIDTH[letter]
end
return reply
