-- dispatch: continue a turn that decided more activities than one commit carries.
--
-- Guarantee: each activity of the turn is added once: the cursor moves in the same step.
-- Refused when the token is not valid or the cursor stands elsewhere.
--
-- KEYS[1]  hash    lease of the partition and queue
-- KEYS[2]  hash    cursors of turns whose dispatch is unfinished
-- KEYS[3]  string  prefix of the partition's keys, "wfq:{ns:p}:"
-- KEYS[4]  hash    messages of waiting tasks, and entries with a schedule-to-start timeout
-- ARGV[1]  lease token
-- ARGV[2]  instance id
-- ARGV[3]  cursor as it stands
-- ARGV[4]  cursor afterwards, or "" when this call finishes the turn
-- ARGV[5]  onwards: triples of queue, message and task ("task_id nonce" when it has a
--          schedule-to-start timeout, see commit.lua; "+" when it is known to be short, and up
--          to PACK of them may share an entry; else "")
-- Reply: {"dispatched"} | {"stale", reason}.

local lease, cursors, prefix, tasks = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, id, before, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', lease, 'token') ~= token then return {'stale', 'token'} end
if redis.call('HGET', cursors, id) ~= before then return {'stale', 'cursor'} end
redis.call('HDEL', cursors, id)
local PACK, packs = 16, {}
for n = 5, #ARGV, 3 do
  local queue, message, task = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  if task == '+' then
    local pack = packs[queue] or {}
    packs[queue] = pack
    pack[#pack + 1] = id
    pack[#pack + 1] = message
    if #pack == 2 * PACK then
      redis.call('XADD', prefix .. 'activities:' .. queue, '*', unpack(pack))
      packs[queue] = nil
    end
  else
    local entry = redis.call('XADD', prefix .. 'activities:' .. queue, '*', id, message)
    if task ~= '' then redis.call('HSET', tasks, 's ' .. id .. ' ' .. task, entry) end
  end
end
for queue, pack in pairs(packs) do
  redis.call('XADD', prefix .. 'activities:' .. queue, '*', unpack(pack))
end
if after ~= '' then redis.call('HSET', cursors, id, after) end
return {'dispatched'}
