#!lua flags=no-writes
-- Rows by key, in one snapshot.
-- KEYS: state, then for each table: its versions and the rows.
-- ARGV: revision, its identity, then for each table: how many rows, how many fields, the rows' names, the fields.
-- Gives {'ok', {version, cell, …} or {} for each row}, or {'revision', identity}.
local identity = redis.call('HGET', KEYS[1], 'revision:' .. ARGV[1])
if identity ~= ARGV[2] then
  return {'revision', identity}
end
-- What `unpack` puts on the stack is limited.
local STEP = 1000
local found = {}
local key, arg = 2, 3
while arg <= #ARGV do
  local rows, fields = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local names = arg + 2
  local first_field = names + rows
  local versions = KEYS[key]
  for from = 0, rows - 1, STEP do
    local to = math.min(from + STEP, rows) - 1
    local known = redis.call('HMGET', versions, unpack(ARGV, names + from, names + to))
    for at = from, to do
      local version = known[at - from + 1]
      local row = {}
      if version then
        if string.find(version, '^%d+l') then
          row = redis.call('HMGET', KEYS[key + 1 + at], unpack(ARGV, first_field, first_field + fields - 1))
        end
        table.insert(row, 1, version)
      end
      found[#found + 1] = row
    end
  end
  key = key + 1 + rows
  arg = first_field + fields
end
return {'ok', found}
