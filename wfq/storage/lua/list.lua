-- list: one page of instances of one partition and status, newest first.
--
-- Guarantee: stable order by creation time, then id (by its bytes); nothing is written.
--
-- KEYS[1]  sorted set  index of the status
-- KEYS[2]  string      prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  most rows
-- ARGV[2]  created at or before, ms ("+inf" for no bound)
-- ARGV[3]  id before which to go on within that millisecond, or ""
-- ARGV[4]  created at or after, ms ("-inf" for no bound)
-- ARGV[5]  workflow name, or ""
-- ARGV[6]  queue, or ""
-- ARGV[7]  text the tags must contain ('"key":"value"'), or ""
-- ARGV[8]  part of the id, or ""
-- ARGV[9]  most index entries to look at
-- Reply: {rows, next created ms or "", next id}; a row is {id, created, flat hash fields,
-- history length, time of the last record}. A next position means: look further from there.

local index, prefix = KEYS[1], KEYS[2]
local limit, high, after, low = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local name, queue, tag, part, budget = ARGV[5], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local rows, looked, offset = {}, 0, 0

-- Lua's own comparison follows the server's locale; the index is in the order of the bytes.
local function below(a, b)
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local last_score, last_id = '', ''
while true do
  local page = redis.call('ZREVRANGEBYSCORE', index, high, low, 'WITHSCORES', 'LIMIT', offset, 200)
  for n = 1, #page, 2 do
    local id, score = page[n], page[n + 1]
    if not (after ~= '' and score == high and not below(id, after)) then
      looked = looked + 1
      last_score, last_id = score, id
      local wanted = part == '' or string.find(id, part, 1, true)
      if wanted and (name ~= '' or queue ~= '' or tag ~= '') then
        local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'name', 'queue', 'tags')
        wanted = (name == '' or found[1] == name) and (queue == '' or found[2] == queue)
          and (tag == '' or (found[3] and string.find(found[3], tag, 1, true)))
      end
      if wanted then
        local last = redis.call('LINDEX', prefix .. 'history:' .. id, -1) or ''
        rows[#rows + 1] = {id, score, redis.call('HGETALL', prefix .. 'instance:' .. id),
          redis.call('LLEN', prefix .. 'history:' .. id), string.match(last, '^%["[BT]",(%d+)') or ''}
      end
      if #rows >= limit or looked >= budget then return {rows, last_score, last_id} end
    end
  end
  if #page < 400 then return {rows, '', ''} end
  offset = offset + 200
end
