#!lua
-- A member is alive and holds what it asks for, as far as nobody else does; what else it holds is free. Time is this server's.
-- KEYS: leases. ARGV: member, its name, standing and report, term in milliseconds, then the partitions that it is to hold.
-- Gives {{member, name, standing, report, …}, {partition, holder, …}}.
local key, me = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local till = string.format('%.0f', now + ARGV[5])
local hold = {}
for at = 6, #ARGV do
  hold[ARGV[at]] = true
end

redis.call('HSET', key, 'until:' .. me, till, 'name:' .. me, ARGV[2], 'standing:' .. me, ARGV[3], 'report:' .. me, ARGV[4])
local members, leases, taken, all = {}, {}, {}, {}
local fields = redis.call('HGETALL', key)
for at = 1, #fields, 2 do
  all[fields[at]] = fields[at + 1]
end
for field, value in pairs(all) do
  local kind, of = string.match(field, '^(%l+):(.*)$')
  if kind == 'until' then
    if tonumber(value) > now then
      members[#members + 1] = of
      members[#members + 1] = all['name:' .. of]
      members[#members + 1] = all['standing:' .. of]
      members[#members + 1] = all['report:' .. of]
    else
      redis.call('HDEL', key, field, 'name:' .. of, 'standing:' .. of, 'report:' .. of)
    end
  elseif kind == 'lease' then
    local ends, holder = string.match(value, '^(%d+) (.*)$')
    if tonumber(ends) <= now or (holder == me and not hold[of]) then
      redis.call('HDEL', key, field)
    elseif holder ~= me then
      leases[#leases + 1] = of
      leases[#leases + 1] = holder
      taken[of] = true
    end
  end
end
for partition in pairs(hold) do
  if not taken[partition] then
    redis.call('HSET', key, 'lease:' .. partition, till .. ' ' .. me)
    leases[#leases + 1] = partition
    leases[#leases + 1] = me
  end
end
return {members, leases}
