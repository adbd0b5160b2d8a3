-- deliver: apply messages of another partition's outbox to this partition.
--
-- Guarantee: each message is applied once and in order: the id of the last one applied is
-- kept per source, and anything not above it is skipped. That an id is taken reaches the
-- parent by this partition's own outbox, in the same step. Works on a full Redis: messages
-- only move, and the work they belong to has begun.
--
-- Where the id of a child belongs to an instance of the same parent, whoever delivers must say
-- what that instance is: a child of another task, or the same child, of a time that the parent's
-- server has lost. Nothing behind such a message is applied before.
--
-- KEYS[1]  hash    last outbox id applied, by source partition
-- KEYS[2]  string  prefix of the partition's keys, "wfq:{ns:p}:"
-- ARGV[1]  source partition
-- ARGV[2]  number of messages; then per message ms and sequence of its outbox id, a letter and
--   four or twelve values:
--   E  id, incarnation or "", kind ("E", "L" or "T"), event        an event for an instance; kind
--      "T" (a task's outcome) is taken whole, the others are ["<kind>","<inc>"<event>
--   C  id, incarnation, name, queue, birth behind its time, parent id or "", its incarnation,
--      message for this partition's outbox if the id is taken (the parent's failed task) or "", "1" if the id may
--      replace an instance that has ended, then what the instance of the same parent is, its
--      incarnation, and a value            start a child, or one without a parent
--        other              of another task: the id is taken
--        live               the same, and it runs: the value is an event that tells it its parent
--        ended              the same, and it has ended: the value is a message for this
--                           partition's outbox that tells the parent
--        replace            it is to make room, even if it runs
--        ""                 not looked at yet
-- Reply: per message "applied" | "skipped" | "unknown" | "taken" | "finished" | "adopted" | "kin"
-- (to be looked at; nothing was done) | "waits" (behind such a one); then the id of the last one
-- applied before this call, "0-0" for none.

local applied, prefix = KEYS[1], KEYS[2]
local source, count = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local seen = redis.call('HGET', applied, source) or '0-0'
local seen_ms, seen_seq = string.match(seen, '^(%d+)-(%d+)$')
seen_ms, seen_seq = tonumber(seen_ms), tonumber(seen_seq)
-- A script that has begun to write is not stopped by a full Redis.
redis.call('HDEL', applied, '')
local replies, newest, posted, stopped = {}, nil, false, false
replies[count + 1] = seen
local at = 3
for n = 1, count do
  local ms, seq, kind = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local id, inc = ARGV[at + 3], ARGV[at + 4]
  local old = ms < seen_ms or (ms == seen_ms and seq <= seen_seq)
  local found = redis.call('HMGET', prefix .. 'instance:' .. id, 'inc', 'status', 'queue', 'parent', 'adopted')
  local status = found[2]
  local ended = status == 'COMPLETED' or status == 'FAILED' or status == 'TERMINATED'
  if old then
    replies[n] = 'skipped'
  elseif stopped then
    replies[n] = 'waits'
  elseif kind == 'E' then
    local form, event = ARGV[at + 5], ARGV[at + 6]
    if not found[1] or (inc ~= '' and inc ~= found[1] and inc ~= found[5]) then
      replies[n] = 'unknown'
    elseif ended then
      replies[n] = 'finished'
    else
      if form ~= 'T' then event = '["' .. form .. '","' .. found[1] .. '"' .. event end
      redis.call('XADD', prefix .. 'events:' .. found[3], '*', id, event)
      if form == 'E' then redis.call('HINCRBY', prefix .. 'instance:' .. id, 'inbox', 1) end
      replies[n] = 'applied'
    end
  else
    local name, queue, birth, parent = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
    local gone = ARGV[at + 11] == '1' and ended
    local is, value = ARGV[at + 12], ARGV[at + 14]
    if ARGV[at + 13] ~= found[1] then is = '' end
    local kin = found[1] and found[1] ~= inc and parent ~= '' and found[4] == parent
    if kin and is == 'replace' then
      gone = true
    elseif kin and is == 'other' then
      kin = false
    end
    if found[1] == inc then
      replies[n] = 'skipped'
    elseif kin and is == 'live' and not ended then
      redis.call('XADD', prefix .. 'events:' .. found[3], '*', id, value)
      -- What the parent will send to the incarnation that it has asked for, is for this one; and
      -- its outcome is for that task from now on, though no turn may read the event before it ends.
      redis.call('HSET', prefix .. 'instance:' .. id, 'adopted', inc, 'adopter', ARGV[at + 9])
      replies[n] = 'adopted'
    elseif kin and is == 'ended' and ended then
      redis.call('XADD', prefix .. 'outbox', '*', 'm', value)
      posted = true
      replies[n] = 'adopted'
    elseif kin and is ~= 'replace' then
      replies[n] = 'kin'
      stopped = true
    elseif found[1] and not gone then
      if ARGV[at + 10] ~= '' then
        redis.call('XADD', prefix .. 'outbox', '*', 'm', ARGV[at + 10])
        posted = true
      end
      replies[n] = 'taken'
    else
      birth = '["B",' .. now .. birth
      redis.call('RPUSH', prefix .. 'history:' .. id, birth)
      if found[1] then
        -- The id is used again: only the record just pushed survives.
        redis.call('LTRIM', prefix .. 'history:' .. id, -1, -1)
        redis.call('DEL', prefix .. 'instance:' .. id)
        redis.call('ZREM', prefix .. 'index:' .. (status or 'RUNNING'), id)
        if not ended then
          -- Its owner may have read its start already, and must look again: it has lost the lease,
          -- and is told of nothing else.
          local lease, stream = prefix .. 'lease:' .. found[3], prefix .. 'events:' .. found[3]
          local token = redis.call('HGET', lease, 'token')
          if token and redis.call('EXISTS', stream) == 1 then redis.call('XGROUP', 'DESTROY', stream, token) end
          if token then
            redis.call('HSET', lease, 'token', 'replaced', 'pos', '-')
            redis.call('HDEL', lease, 'expires')
          end
        end
        redis.call('HDEL', prefix .. 'cursors', id)
        redis.call('INCR', prefix .. 'removals')
      end
      redis.call('HSET', prefix .. 'instance:' .. id, 'inc', inc, 'name', name, 'queue', queue,
        'created', now)
      if parent ~= '' then redis.call('HSET', prefix .. 'instance:' .. id, 'parent', parent) end
      redis.call('ZADD', prefix .. 'index:RUNNING', now, id)
      redis.call('XADD', prefix .. 'events:' .. queue, '*', id, '["S","' .. inc .. '",' .. birth .. ']')
      replies[n] = 'applied'
    end
  end
  if not old and not stopped then
    seen_ms, seen_seq = ms, seq
    newest = string.format('%.0f-%.0f', ms, seq)
  end
  at = at + (kind == 'E' and 7 or 15)
end
if newest then redis.call('HSET', applied, source, newest) end
if posted then redis.call('PUBLISH', prefix .. 'wake', '0') end
return replies
