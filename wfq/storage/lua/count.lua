-- count: how many instances of one partition and status fit a filter.
--
-- Guarantee: without a filter on names, queues, tags or ids, and without a look at the
-- histories, one exact number; else the entries looked at in this call, and where to go on.
-- Nothing is written.
--
-- KEYS[1]  sorted set  index of the status
-- KEYS[2]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  created at or before, ms ("+inf" for no bound)
-- ARGV[2]  id before which to go on within that millisecond, or ""
-- ARGV[3]  created at or after, ms ("-inf" for no bound)
-- ARGV[4]  workflow name, or ""
-- ARGV[5]  queue, or ""
-- ARGV[6]  number of texts the tags must contain ('"key":"value"'), then the texts
-- then     part of the id, or ""
-- then     most index entries to look at
-- then     1 to tell those apart that had no turn yet, else 0
-- Reply: {count, next created ms or "", next id, how many of them had no turn yet}.

local index, prefix = KEYS[1], KEYS[2]
local high, after, low, name, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local tags, at = {}, 7
for n = 1, tonumber(ARGV[6]) do
  tags[n] = ARGV[at]
  at = at + 1
end
local part, budget, apart = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2] == '1'
if name == '' and queue == '' and part == '' and #tags == 0 and not apart then
  return {redis.call('ZCOUNT', index, low, high), '', '', 0}
end

-- Lua's own comparison follows the server's locale; the index is in the order of the bytes.
local function below(a, b)
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function fits(id)
  if part ~= '' and not string.find(id, part, 1, true) then return false end
  if name == '' and queue == '' and #tags == 0 then return true end
  local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'name', 'queue', 'tags')
  if (name ~= '' and found[1] ~= name) or (queue ~= '' and found[2] ~= queue) then return false end
  for _, tag in ipairs(tags) do
    if not found[3] or not string.find(found[3], tag, 1, true) then return false end
  end
  return true
end

-- Whether an instance waits for its very first turn; most have a longer history.
local function is_new(id)
  if redis.call('LLEN', prefix .. 'history:' .. id) > 1 then return false end
  local generation = redis.call('HGET', prefix .. 'instance:' .. id, 'gen')
  return not generation or generation == '0'
end

local count, looked, offset, new = 0, 0, 0, 0
while true do
  local page = redis.call('ZREVRANGEBYSCORE', index, high, low, 'WITHSCORES', 'LIMIT', offset, 200)
  for n = 1, #page, 2 do
    local id, score = page[n], page[n + 1]
    if not (after ~= '' and score == high and not below(id, after)) then
      looked = looked + 1
      if fits(id) then
        count = count + 1
        if apart and is_new(id) then new = new + 1 end
      end
      if looked >= budget then return {count, score, id, new} end
    end
  end
  if #page < 400 then return {count, '', '', new} end
  offset = offset + 200
end
