-- expire: remove the instances of one partition that ended too long ago, a bounded step.
--
-- Guarantee: what has not ended, or not that long ago by this server's clock, is left alone; of
-- what is removed no key is left. One caller at a time works on a partition: its claim expires by
-- itself, and the next caller begins anew. Works on a full Redis: the first write frees memory,
-- and a claim that finds no room is done without.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  the caller's token
-- ARGV[2]  for how long the claim holds, ms
-- ARGV[3]  status whose index is looked through
-- ARGV[4]  age from which an ended instance is removed, ms
-- ARGV[5]  creation ms of the last one that earlier steps of this pass kept, or ""
-- ARGV[6]  its id, or ""
-- ARGV[7]  most index entries to look at
-- Reply: {"held", ms until the claim expires}
--      | {"swept", number removed, 1 if there may be more, ARGV[5] and ARGV[6] for the next step}.

local prefix, token, hold_ms, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local age_ms, after_ms, after_id, budget = tonumber(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7])
local claim, index = prefix .. 'sweep', prefix .. 'index:' .. status
local holder = redis.call('GET', claim)
if holder and holder ~= token then return {'held', redis.call('PTTL', claim)} end

local time = redis.call('TIME')
local limit = time[1] * 1000 + math.floor(time[2] / 1000) - age_ms

-- Nothing ends before it was created, so whatever was created after the limit is too young.
local first = 0
if after_ms ~= '' then
  local rank = redis.call('ZRANK', index, after_id)
  first = rank and rank + 1 or redis.call('ZCOUNT', index, '-inf', '(' .. after_ms)
end
local page = redis.call('ZRANGE', index, first, first + budget - 1, 'WITHSCORES')
local more, doomed = #page == 2 * budget and 1 or 0, {}
for n = 1, #page, 2 do
  local id, created = page[n], page[n + 1]
  if tonumber(created) > limit then
    more = 0
    break
  end
  local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'status', 'ended')
  if found[1] == status and tonumber(found[2] or created) <= limit then
    doomed[#doomed + 1] = id
  else
    after_ms, after_id = created, id
  end
end

for _, id in ipairs(doomed) do
  redis.call('UNLINK', prefix .. 'instance:' .. id, prefix .. 'history:' .. id)
  redis.call('ZREM', index, id)
  redis.call('HDEL', prefix .. 'cursors', id)
end
if #doomed > 0 then redis.call('INCRBY', prefix .. 'removals', #doomed) end
redis.pcall('SET', claim, token, 'PX', hold_ms)
return {'swept', #doomed, more, after_ms, after_id}
