-- renew_tasks: keep activity attempts that take long, and learn whether they are still wanted.
--
-- Guarantee: only the consumer that holds an entry renews it, and the delivery count stays.
--
-- KEYS[1]  stream  activities of the partition and queue
-- KEYS[2]  string  prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  consumer
-- ARGV[2]  onwards: triples of entry id, instance id, run ("inc.gen")
-- Reply: per triple "ok" | "lost" (another worker holds it or it is done) | "over" (held, but its
-- run has ended or gone on without it: nobody waits for the result) | "cancelled" (held, but its
-- instance was terminated or is gone: nobody wants it to run either).

local stream, prefix, consumer = KEYS[1], KEYS[2], ARGV[1]
local replies = {}
for n = 2, #ARGV, 3 do
  local entry, id, run = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  -- Without the group (an error) nobody holds anything.
  local held = redis.pcall('XPENDING', stream, 'activities', entry, entry, 1)[1]
  local answer = 'lost'
  if held and held[2] == consumer then
    redis.call('XCLAIM', stream, 'activities', consumer, 0, entry, 'JUSTID')
    local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'gen', 'status')
    local status = found[3]
    answer = 'ok'
    local inc = string.match(run, '^(.*)%.')
    if found[1] ~= inc or status == 'TERMINATED' then
      answer = 'cancelled'
    elseif inc .. '.' .. (found[2] or '0') ~= run or status == 'COMPLETED' or status == 'FAILED' then
      answer = 'over'
    end
  end
  replies[#replies + 1] = answer
end
return replies
