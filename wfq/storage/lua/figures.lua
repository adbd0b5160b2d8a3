-- figures: how much of everything there is in one partition, for metrics.
--
-- Guarantee: one moment's numbers; a fixed number of cheap reads for each status and queue, so
-- that it costs the same however many instances there are. Nothing is written.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  number of statuses, then the statuses
-- then     the queues (per queue one argument)
-- Reply: {now ms, {instances per status}, timers, due ms of the first timer or "", messages in
--         the outbox, dead letters, {per queue {events, ms of the oldest, activities that wait,
--         ms of the oldest, activities that run}}}; ms 0 where there is none.

local prefix, statuses = KEYS[1], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

-- The time of the first entry above an id; 0 without one.
local function first_above(stream, id)
  local found = redis.call('XRANGE', stream, id, '+', 'COUNT', 1)
  return found[1] and tonumber(string.match(found[1][1], '^(%d+)')) or 0
end

local counts = {}
for n = 1, statuses do
  counts[n] = redis.call('ZCARD', prefix .. 'index:' .. ARGV[n + 1])
end

-- Entries that wait, the time of the oldest of them, and entries that somebody holds.
local function waiting(stream)
  local length = redis.call('XLEN', stream)
  if length == 0 then return 0, 0, 0 end
  local pending, last = 0, '0-0'
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    for f = 1, #group, 2 do
      if group[f] == 'pending' then pending = group[f + 1] end
      if group[f] == 'last-delivered-id' then last = group[f + 1] end
    end
  end
  if length <= pending then return 0, 0, pending end
  return length - pending, first_above(stream, '(' .. last), pending
end

local queues = {}
for n = statuses + 2, #ARGV do
  local events = prefix .. 'events:' .. ARGV[n]
  local new, oldest, running = waiting(prefix .. 'activities:' .. ARGV[n])
  queues[#queues + 1] = {
    redis.call('XLEN', events), first_above(events, '-'), new, oldest, running,
  }
end

local first = redis.call('ZRANGE', prefix .. 'timers', 0, 0, 'WITHSCORES')
return {
  now, counts, redis.call('ZCARD', prefix .. 'timers'), first[2] or '',
  redis.call('XLEN', prefix .. 'outbox'), redis.call('XLEN', prefix .. 'dead'), queues,
}
