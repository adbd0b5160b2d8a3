-- read: what is known of instances of one partition, for status documents.
--
-- Guarantee: one consistent snapshot; nothing is written.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  "1" to include payload-bearing records, else only times and counts
-- ARGV[2]  onwards: instance ids
-- Reply: per id {} when unknown, else {flat field list of the instance hash, history length,
-- time of the last record as text, birth record or "", last record or ""}.

local prefix, payloads = KEYS[1], ARGV[1] == '1'
local replies = {}
for n = 2, #ARGV do
  local id = ARGV[n]
  local fields = redis.call('HGETALL', prefix .. 'instance:' .. id)
  if #fields == 0 then
    replies[n - 1] = {}
  else
    local history = prefix .. 'history:' .. id
    local last = redis.call('LINDEX', history, -1) or ''
    local birth = payloads and redis.call('LINDEX', history, 0) or ''
    local changed = string.match(last, '^%["[BT]",(%d+)') or ''
    replies[n - 1] = {fields, redis.call('LLEN', history), changed, birth, payloads and last or ''}
  end
end
return replies
