#!lua
-- Removes some of what a dropped revision has left, as long as it is dropped: a server that was set back may have it alive again.
-- KEYS: state, then what to remove; for rows, their versions and the rows.
-- ARGV: revision, its record; 'rows' and the rows' names, or 'end'.
-- Gives {'1'}, or {'0'} where it is not dropped.
if redis.call('HGET', KEYS[1], 'dropped:' .. ARGV[1]) ~= ARGV[2] then
  return {'0'}
end
if ARGV[3] == 'rows' then
  for at = 4, #ARGV do
    redis.call('UNLINK', KEYS[at - 1])
    redis.call('HDEL', KEYS[2], ARGV[at])
  end
else
  for at = 2, #KEYS do
    redis.call('UNLINK', KEYS[at])
  end
  redis.call('HDEL', KEYS[1], 'dropped:' .. ARGV[1])
end
return {'1'}
