#!lua
-- Changes the rollout, if it is still as it was, and the place is still the projection's.
-- KEYS: state, the pointer for readers, and the created revision's progress, where there is one.
-- ARGV: the projection's name; version expected, the new one, the rollout, the active revision or '';
--       the number of created revisions, for each: revision, its identity, its record, the number of partitions, their positions;
--       the dropped revisions.
-- Gives {'ok'}, {'stale', version}, {'other', whose it is}, or {'clash', key, type}.
local arg = 0
local function take()
  arg = arg + 1
  return ARGV[arg]
end
local projection = redis.call('HGET', KEYS[1], 'projection')
if projection ~= take() then
  return {'other', projection}
end
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= take() then
  return {'stale', version}
end
for at = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[at]).ok
  -- Nothing is at the key of a revision's progress before it is created.
  if kind ~= 'none' and (at > 2 or kind ~= 'string') then
    return {'clash', KEYS[at], kind}
  end
end
redis.call('HSET', KEYS[1], 'version', take(), 'rollout', take())
local active = take()
if active == '' then
  redis.call('HDEL', KEYS[1], 'active')
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[1], 'active', active)
  redis.call('SET', KEYS[2], active)
end
for created = 1, tonumber(take()) do
  local revision = take()
  redis.call('HSET', KEYS[1], 'revision:' .. revision, take(), 'record:' .. revision, take())
  for partition = 0, tonumber(take()) - 1 do
    redis.call('HSET', KEYS[2 + created], 'position:' .. partition, take())
  end
end
while arg < #ARGV do
  local dropped = take()
  local record = redis.call('HGET', KEYS[1], 'record:' .. dropped)
  redis.call('HDEL', KEYS[1], 'revision:' .. dropped, 'record:' .. dropped)
  -- Nobody uses it from here on; what it has left is collected in steps.
  redis.call('HSET', KEYS[1], 'dropped:' .. dropped, record)
end
return {'ok'}
