-- isolate: note that an attempt which lost its workers is about to run alone.
--
-- Guarantee: each delivery of the attempt counts once, however often this is sent, and only for the
-- consumer that holds the entry. So who finds a count that was not there before knows that a worker
-- ended with this attempt as the only suspect it ran. Works on a full Redis: the first write frees
-- memory.
--
-- KEYS[1]  stream  activities of the partition and queue
-- KEYS[2]  hash    messages, heartbeats and lone runs of tasks
-- ARGV[1]  consumer
-- ARGV[2]  entry id of the attempt
-- ARGV[3]  field, "x <instance id> <task_id> <nonce>"; its value is "count entry/deliveries"
-- ARGV[4]  deliveries of the attempt, this one included
-- ARGV[5]  lone runs without a result after which there is no further
-- Reply: lone runs before this delivery; -1 when the consumer does not hold the entry. A run that
-- is not to be is not noted.

local stream, tasks, consumer, entry, field = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
-- Without the group (an error) nobody holds anything.
local held = redis.pcall('XPENDING', stream, 'activities', entry, entry, 1)[1]
if not held or held[2] ~= consumer then return -1 end
local this = entry .. '/' .. ARGV[4]
local count, last = string.match(redis.call('HGET', tasks, field) or '', '^(%d+) (.*)$')
local before = tonumber(count or 0)
if last == this then return before - 1 end
if before >= tonumber(ARGV[5]) then return before end
redis.call('HDEL', tasks, field)
redis.call('HSET', tasks, field, (before + 1) .. ' ' .. this)
return before
