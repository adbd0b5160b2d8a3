-- count: how many instances of one partition and status fit a filter.
--
-- Guarantee: without a filter on names, queues, tags or ids one exact number; with one, the
-- entries looked at in this call, and where to go on. Nothing is written.
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
-- Reply: {count, next created ms or "", next id}.

local index, prefix = KEYS[1], KEYS[2]
local high, after, low, name, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local tags, at = {}, 7
for n = 1, tonumber(ARGV[6]) do
  tags[n] = ARGV[at]
  at = at + 1
end
local part, budget = ARGV[at], tonumber(ARGV[at + 1])
if name == '' and queue == '' and part == '' and #tags == 0 then
  return {redis.call('ZCOUNT', index, low, high), '', ''}
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

local count, looked, offset = 0, 0, 0
while true do
  local page = redis.call('ZREVRANGEBYSCORE', index, high, low, 'WITHSCORES', 'LIMIT', offset, 200)
  for n = 1, #page, 2 do
    local id, score = page[n], page[n + 1]
    if not (after ~= '' and score == high and not below(id, after)) then
      looked = looked + 1
      if fits(id) then count = count + 1 end
      if looked >= budget then return {count, score, id} end
    end
  end
  if #page < 400 then return {count, '', ''} end
  offset = offset + 200
end
