-- fetch: read what an orchestrator needs to load instances of one partition.
--
-- Guarantee: one consistent snapshot; nothing is written.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV     instance ids
-- Reply: per id {} when unknown, else
-- {incarnation, queue, status or "", stalled reason or "", version or "", history elements}.

local prefix = KEYS[1]
local replies = {}
for n, id in ipairs(ARGV) do
  local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'queue', 'status', 'stalled', 'version')
  if found[1] then
    replies[n] = {found[1], found[2], found[3] or '', found[4] or '', found[5] or '',
      redis.call('LRANGE', prefix .. 'history:' .. id, 0, -1)}
  else
    replies[n] = {}
  end
end
return replies
