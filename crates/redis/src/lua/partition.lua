#!lua flags=no-writes
-- What a worker must know of a partition, in one snapshot.
-- KEYS: state, progress, skips, parked. ARGV: revision, its identity, partition.
-- Gives {'ok', {position, recorded_at, parked, skipped}, decisions, skips, {stream id, version, …}}, or {'revision', identity}.
local identity = redis.call('HGET', KEYS[1], 'revision:' .. ARGV[1])
if identity ~= ARGV[2] then
  return {'revision', identity}
end
local partition = ARGV[3]
local progress = redis.call('HMGET', KEYS[2], 'position:' .. partition, 'recorded_at:' .. partition,
  'parked:' .. partition, 'skipped:' .. partition)
local parked = redis.call('HGETALL', KEYS[4])
local streams = {}
for at = 1, #parked, 2 do
  local version, of = string.match(parked[at + 1], '^(%d+) (%d+) ')
  if of == partition then
    streams[#streams + 1] = parked[at]
    streams[#streams + 1] = version
  end
end
return {'ok', progress, redis.call('HGET', KEYS[1], 'decisions'), redis.call('SMEMBERS', KEYS[3]), streams}
