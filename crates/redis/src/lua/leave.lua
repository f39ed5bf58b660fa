#!lua
-- A member is gone, and holds nothing.
-- KEYS: leases. ARGV: member. Gives {how many partitions it held}.
local key, me = KEYS[1], ARGV[1]
redis.call('HDEL', key, 'until:' .. me, 'name:' .. me, 'standing:' .. me, 'report:' .. me)
local held = 0
local fields = redis.call('HGETALL', key)
for at = 1, #fields, 2 do
  if string.match(fields[at], '^lease:') and string.match(fields[at + 1], '^%d+ (.*)$') == me then
    redis.call('HDEL', key, fields[at])
    held = held + 1
  end
end
return {held}
