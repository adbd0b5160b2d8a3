-- purge: remove everything of one instance that has ended.
--
-- Guarantee: a live instance is refused; afterwards no key of the instance is left. Where a
-- live one is removed all the same, its owner loses the lease: it may have read the start
-- event, and must look again.
--
-- KEYS[1]  string  prefix of the partition's keys, "wfq:{ns:p}:"; names its slot
-- ARGV[1]  instance id
-- ARGV[2]  "1" to remove a live instance as well (repair only)
-- Reply: {"purged"} | {"unknown"} | {"running"}.

local prefix, id, force = KEYS[1], ARGV[1], ARGV[2] == '1'
local instance = prefix .. 'instance:' .. id
local found = redis.call('HMGET', instance, 'inc', 'status', 'queue')
if not found[1] then return {'unknown'} end
local status = found[2]
local ended = status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED'
if not ended and not force then return {'running'} end
if not ended then
  local lease, stream = prefix .. 'lease:' .. found[3], prefix .. 'events:' .. found[3]
  local token = redis.call('HGET', lease, 'token')
  if token then
    if redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DESTROY', stream, token) end
    redis.call('DEL', lease)
  end
end
redis.call('DEL', instance, prefix .. 'history:' .. id)
redis.call('ZREM', prefix .. 'index:' .. (status or 'RUNNING'), id)
redis.call('HDEL', prefix .. 'cursors', id)
redis.call('INCR', prefix .. 'removals')
return {'purged'}
