#!lua
-- Takes a prefix for a projection, or finds out whose it is.
-- KEYS: state. ARGV: the projection's name, the format of all that is kept here.
-- Gives {format, name}, {'removing', name} where what was there is being removed, or {'clash', type} where something else is at the key.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  redis.call('HSET', KEYS[1], 'projection', ARGV[1], 'format', ARGV[2])
elseif kind ~= 'hash' then
  return {'clash', kind}
elseif redis.call('HEXISTS', KEYS[1], 'removing') == 1 then
  return {'removing', redis.call('HGET', KEYS[1], 'projection')}
end
return redis.call('HMGET', KEYS[1], 'format', 'projection')
