#!lua
-- Removes keys of a prefix that was let go, as long as nobody else does.
-- KEYS: state, then what to remove. ARGV: the token of who removes them.
-- Gives {'1'}, or {'0'} where somebody else does.
if redis.call('HGET', KEYS[1], 'removing') ~= ARGV[1] then
  return {'0'}
end
for at = 2, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
return {'1'}
