#!lua flags=no-writes
-- How far a revision's partitions are.
-- KEYS: state, progress. ARGV: revision, its identity.
-- Gives {'ok', {field, value, …}}, or {'revision', identity}.
local identity = redis.call('HGET', KEYS[1], 'revision:' .. ARGV[1])
if identity ~= ARGV[2] then
  return {'revision', identity}
end
return {'ok', redis.call('HGETALL', KEYS[2])}
