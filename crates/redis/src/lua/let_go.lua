#!lua
-- Lets go of a prefix, if it is the projection's and nobody folds there: its revisions are forgotten at once, their keys are removed afterwards.
-- KEYS: state, leases, the pointer for readers. ARGV: the projection's name, its log's id or '', a token of who removes them.
-- Gives {'ok'}, {'nothing'}, {'other', projection, log's id}, or {'used', name of a member, …}.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  return {'nothing'}
end
local projection, rollout = false, false
if kind == 'hash' then
  projection, rollout = unpack(redis.call('HMGET', KEYS[1], 'projection', 'rollout'))
end
local log_id = ''
if rollout then
  local known = cjson.decode(rollout).log_id
  log_id = type(known) == 'string' and known or ''
end
-- What was built from a log is of nobody for whom that is not known.
if projection ~= ARGV[1] or (log_id ~= '' and log_id ~= ARGV[2]) then
  return {'other', projection or '', log_id}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local used = {'used'}
local fields = redis.call('HGETALL', KEYS[2])
for at = 1, #fields, 2 do
  local member = string.match(fields[at], '^until:(.*)$')
  if member and tonumber(fields[at + 1]) > now then
    used[#used + 1] = redis.call('HGET', KEYS[2], 'name:' .. member) or member
  end
end
if #used > 1 then
  return used
end
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('HSET', KEYS[1], 'projection', ARGV[1], 'removing', ARGV[3])
return {'ok'}
