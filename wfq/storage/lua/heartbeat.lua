-- heartbeat: keep an activity's heartbeat details for the attempt that may follow it.
--
-- Guarantee: only the consumer that holds the entry leaves details: one that was frozen, and
-- whose task has an outcome by now, leaves nothing behind. Works on a full Redis: the first
-- write frees memory.
--
-- KEYS[1]  stream  activities of the partition and queue
-- KEYS[2]  hash    messages and heartbeats of tasks
-- ARGV[1]  consumer
-- ARGV[2]  entry id of the attempt
-- ARGV[3]  field, "hb <instance id> <task_id> <nonce>"
-- ARGV[4]  details
-- Reply: 1 when kept, else 0.

local stream, tasks, consumer, entry, field, details = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- Without the group (an error) nobody holds anything.
local held = redis.pcall('XPENDING', stream, 'activities', entry, entry, 1)[1]
if not held or held[2] ~= consumer then return 0 end
redis.call('HDEL', tasks, field)
redis.call('HSET', tasks, field, details)
return 1
