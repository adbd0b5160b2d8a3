-- acquire: lease one partition of one queue to an orchestrator lane.
--
-- Guarantee: at most one token is valid; taking the lease destroys the consumer group of
-- the token before it (which wakes a zombie blocked on it) and makes a group that reads
-- the events stream from its start, because whatever is in the stream is unprocessed.
-- Works on a full Redis: the first write frees memory.
--
-- KEYS[1]  hash    lease of the partition and queue
-- KEYS[2]  stream  events of the partition and queue
-- KEYS[3]  hash    cursors of turns whose dispatch is unfinished
-- ARGV[1]  new token, random
-- ARGV[2]  owner, a worker id
-- ARGV[3]  lease in ms
-- ARGV[4]  the caller's present token ("" for none)
-- ARGV[5]  id of the last entry the caller has committed under it, or ""
-- A lease held under the present token, under the new one (the call was sent twice) or by the
-- same owner is taken over at once; so is one that ends later than any lease can: the server's
-- clock was set back.
-- Reply: {"held", ms until it expires, owner} | {"taken", now ms, takeovers without a commit,
-- what an owner that ended has named as in accuse.lua or "", last entry id in the stream, cursor
-- pairs, 1 when nobody else has
-- held the partition since and nothing was lost, so that what the caller knows of its
-- instances still holds; -1 when it has committed what is not here any more: the server was
-- emptied or rolled back; else 0}.

local lease, stream, cursors = KEYS[1], KEYS[2], KEYS[3]
local token, owner, lease_ms, mine = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local position = ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local held = redis.call('HMGET', lease, 'token', 'expires', 'owner', 'pos', 'takeovers', 'suspect')
local old, expires = held[1], tonumber(held[2] or 0)
local own = old and (old == mine or old == token or held[3] == owner)
local live = expires > now and expires <= now + math.max(60000, 2 * lease_ms)
if old and not own and live then
  return {'held', expires - now, held[3] or ''}
end

local function number(id)
  local ms, seq = string.match(id or '', '^(%d+)%-(%d+)')
  return tonumber(ms or 0), tonumber(seq or 0)
end
local behind = false
if not old or old == mine then
  local here, here_seq = number(held[4])
  local there, there_seq = number(position)
  behind = here < there or (here == there and here_seq < there_seq)
end

-- Whether a token's group has read any entry; it has, for all we know, where the group is gone.
local function was_given(token)
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for f = 1, #group, 2 do info[group[f]] = group[f + 1] end
    if info['name'] == token then return info['last-delivered-id'] ~= '0-0' end
  end
  return true
end

-- An owner that was given events and ended without a commit, and was neither released nor
-- replaced by itself, may have been killed by an instance: the count leads to suspect mode. What
-- came only after its end says nothing against anybody.
local takeovers = 0
local last = redis.call('EXISTS', stream) == 1 and redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
-- One that has finished parts of a batch, "0+", may yet have ended on another.
if old and last and string.match(held[4] or '', '^0%+*$') then
  takeovers = tonumber(held[5] or 0) + ((own or not was_given(old)) and 0 or 1)
end
-- An owner that comes back has outlived whatever it named.
redis.call('HDEL', lease, 'pos', own and 'suspect' or '')
local suspect = not own and held[6] or ''
if old and redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DESTROY', stream, old) end
redis.call('XGROUP', 'CREATE', stream, token, '0', 'MKSTREAM')
redis.call('HSET', lease, 'token', token, 'owner', owner, 'pos', '0',
  'expires', string.format('%.0f', now + lease_ms), 'takeovers', takeovers)
return {'taken', string.format('%.0f', now), takeovers, suspect,
  last and last[1] or '0-0', redis.call('HGETALL', cursors),
  (old and old == mine and held[4] == position) and 1 or behind and -1 or 0}
