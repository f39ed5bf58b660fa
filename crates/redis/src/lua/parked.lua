#!lua flags=no-writes
-- Parked stream ids with their first events, in one snapshot.
-- KEYS: state, parked, parked streams, parked events.
-- ARGV: revision, its identity; 'one' and a stream id, or 'after' and '-' or '(' with a stream id; how many stream ids; how many events of each.
-- Gives {'ok', {stream id, what is kept of it, number of events, events} for each}, or {'revision', identity}.
local identity = redis.call('HGET', KEYS[1], 'revision:' .. ARGV[1])
if identity ~= ARGV[2] then
  return {'revision', identity}
end
local streams
if ARGV[3] == 'one' then
  streams = {ARGV[4]}
else
  streams = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[4], '+', 'LIMIT', 0, ARGV[5])
end
local found = {}
for _, stream in ipairs(streams) do
  local kept = redis.call('HGET', KEYS[2], stream)
  if kept then
    local place = string.gsub(stream, '%z', '\0\255') .. '\0\0'
    local first, beyond = '[' .. place, '(' .. place .. '\255'
    found[#found + 1] = {
      stream, kept, redis.call('ZLEXCOUNT', KEYS[4], first, beyond),
      redis.call('ZRANGEBYLEX', KEYS[4], first, beyond, 'LIMIT', 0, ARGV[6]),
    }
  end
end
return {'ok', found}
