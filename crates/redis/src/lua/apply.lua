#!lua
-- Applies a batch: checks everything that it was folded from, then everything that could fail, and only then writes. A script does not
-- roll back, so nothing may fail after the first write.
--
-- KEYS: state, progress, skips, parked, parked streams, parked events; then for each table: versions, order, for each of its indexes the
--       index and its entries, and the rows.
-- ARGV: revision, its identity, decisions; partition or '', from, to, recorded_at or '', skipped;
--       the number of tables, for each: rows, indexes, the rows' names, and for each row:
--         expected version or '', 'l' (live), 'd' (deleted) or 'n' (nothing), what else is kept beside the version, place in the order, and if live:
--         place in each index, the number of fields that are null and their names, twice the number of others, their names and values;
--       the number of parked stream ids, for each: stream id, partition, expected version or '', and
--         'a', since, reason, number of events, the events; or 'r', first, last, beyond all, skipped, reason;
--       the number of skipped events, and their ids.
-- Gives {'ok', version, decisions}, or {'revision', identity}, {'checkpoint', position}, {'conflict', what}, {'clash', key, type},
-- {'number', field}.
local STATE, PROGRESS, SKIPS, PARKED, STREAMS, EVENTS = unpack(KEYS, 1, 6)
-- What `unpack` puts on the stack is limited.
local STEP = 1000
-- Beyond it a double is not exact.
local LAST_EXACT = 9007199254740992

local key, arg = 6, 0
local function next_key()
  key = key + 1
  return KEYS[key]
end
local function take()
  arg = arg + 1
  return ARGV[arg]
end
local function number()
  return tonumber(take())
end
local function type_of(name)
  return redis.call('TYPE', name).ok
end

-- Whether what is at a key of our own is of its type, or nothing.
local clash
local function must_be(name, kind)
  local found = type_of(name)
  if found ~= 'none' and found ~= kind then
    clash = clash or {'clash', name, found}
  end
  return found
end

-- What it was folded from.

local revision, wanted = take(), take()
local identity = redis.call('HGET', STATE, 'revision:' .. revision)
if identity ~= wanted then
  return {'revision', identity}
end
local decisions = redis.call('HGET', STATE, 'decisions') or '0'
local expected_decisions = take()
local advance = {partition = take(), from = take(), to = take(), recorded_at = take(), skipped = take()}
if advance.partition ~= '' then
  local position = redis.call('HGET', PROGRESS, 'position:' .. advance.partition)
  if position ~= advance.from then
    return {'checkpoint', position}
  end
end
if decisions ~= expected_decisions then
  return {'conflict', 'the list of skipped events'}
end

local tables = {}
for _ = 1, number() do
  local rows, indexes = number(), number()
  local known_rows = {versions = next_key(), order = next_key(), indexes = {}, rows = {}}
  for _ = 1, indexes do
    known_rows.indexes[#known_rows.indexes + 1] = {places = next_key(), entries = next_key()}
  end
  local names = arg + 1
  arg = arg + rows
  for from = 0, rows - 1, STEP do
    local to = math.min(from + STEP, rows) - 1
    local known = redis.call('HMGET', known_rows.versions, unpack(ARGV, names + from, names + to))
    for at = from, to do
      local name = ARGV[names + at]
      local row = {name = name, key = next_key(), expected = take(), becomes = take(), beside = take(), place = take()}
      local version, is
      if known[at - from + 1] then
        version, is = string.match(known[at - from + 1], '^(%d+)(%a)')
      end
      if (version or '') ~= row.expected then
        return {'conflict', 'row ' .. name}
      end
      row.is_live = is == 'l'
      if row.becomes == 'l' then
        row.places = arg + 1
        arg = arg + indexes
        local nulls = number()
        row.nulls, row.last_null = arg + 1, arg + nulls
        arg = arg + nulls
        local fields = number()
        row.fields, row.last_field = arg + 1, arg + fields
        arg = arg + fields
      end
      known_rows.rows[#known_rows.rows + 1] = row
    end
  end
  tables[#tables + 1] = known_rows
end

local parks = {}
for _ = 1, number() do
  local park = {stream = take(), partition = take()}
  local expected = take()
  local found = redis.call('HGET', PARKED, park.stream)
  if found then
    park.version, park.since, park.reason = string.match(found, '^(%d+) %d+ (%-?%d+) (.*)$')
  end
  if (park.version or '') ~= expected then
    return {'conflict', 'the list of parked events of stream "' .. park.stream .. '"'}
  end
  park.change = take()
  if park.change == 'a' then
    local since, reason = take(), take()
    park.since, park.reason = park.since or since, park.reason or reason
    local events = number()
    park.events, park.last_event = arg + 1, arg + events
    arg = arg + events
  else
    park.first, park.last, park.beyond = take(), take(), take()
    park.skipped, park.reason = take(), take()
  end
  parks[#parks + 1] = park
end
local skips = number()
local first_skip = arg + 1

-- What could fail.

must_be(PROGRESS, 'hash')
must_be(SKIPS, 'set')
must_be(PARKED, 'hash')
must_be(STREAMS, 'zset')
must_be(EVENTS, 'zset')
for _, of in ipairs(tables) do
  must_be(of.versions, 'hash')
  must_be(of.order, 'zset')
  for _, index in ipairs(of.indexes) do
    must_be(index.places, 'zset')
    must_be(index.entries, 'hash')
  end
  for _, row in ipairs(of.rows) do
    local found = must_be(row.key, 'hash')
    if not row.is_live and found ~= 'none' then
      clash = clash or {'clash', row.key, found}
    end
  end
end
if clash then
  return clash
end
local counters = {}
local function count(field, by)
  if counters[field] == nil then
    local found = redis.call('HGET', PROGRESS, field) or '0'
    if not string.find(found, '^%d+$') or #found > 15 then
      return field
    end
    counters[field] = 0
  end
  counters[field] = counters[field] + by
end
local no_number = advance.partition ~= '' and count('skipped:' .. advance.partition, tonumber(advance.skipped))
for _, park in ipairs(parks) do
  if park.change == 'a' then
    no_number = no_number or count('parked:' .. park.partition, park.last_event - park.events + 1)
  else
    park.taken = redis.call('ZLEXCOUNT', EVENTS, park.first, park.last)
    no_number = no_number or count('parked:' .. park.partition, -park.taken)
    no_number = no_number or count('skipped:' .. park.partition, tonumber(park.skipped))
  end
end
if no_number then
  return {'number', no_number}
end
-- By the clock, so that it does not come again either when the server is set back to an older state.
local now = redis.call('TIME')
local write = now[1] * 1000000 + now[2]
local last = tonumber(redis.call('HGET', STATE, 'write') or '0')
if not last then
  return {'number', 'write'}
end
if write <= last then
  write = last + 1
end
if write >= LAST_EXACT then
  return {'number', 'write'}
end
local version = string.format('%.0f', write)

-- All is well: the writes.

redis.call('HSET', STATE, 'write', version)
for _, of in ipairs(tables) do
  for _, row in ipairs(of.rows) do
    if row.becomes == 'l' then
      if row.is_live and row.last_null >= row.nulls then
        redis.call('HDEL', row.key, unpack(ARGV, row.nulls, row.last_null))
      end
      redis.call('HSET', row.key, unpack(ARGV, row.fields, row.last_field))
      if not row.is_live then
        redis.call('ZADD', of.order, 0, row.place)
      end
      for number, index in ipairs(of.indexes) do
        local place = ARGV[row.places + number - 1]
        local before = row.is_live and redis.call('HGET', index.entries, row.name)
        if before ~= place then
          if before then
            redis.call('ZREM', index.places, before)
          end
          redis.call('ZADD', index.places, 0, place)
          redis.call('HSET', index.entries, row.name, place)
        end
      end
    elseif row.is_live then
      redis.call('UNLINK', row.key)
      redis.call('ZREM', of.order, row.place)
      for _, index in ipairs(of.indexes) do
        local before = redis.call('HGET', index.entries, row.name)
        if before then
          redis.call('ZREM', index.places, before)
          redis.call('HDEL', index.entries, row.name)
        end
      end
    end
    if row.becomes == 'n' then
      redis.call('HDEL', of.versions, row.name)
    else
      redis.call('HSET', of.versions, row.name, version .. row.becomes .. row.beside)
    end
  end
end
for _, park in ipairs(parks) do
  local remains = true
  if park.change == 'a' then
    for event = park.events, park.last_event do
      redis.call('ZADD', EVENTS, 0, ARGV[event])
    end
    redis.call('ZADD', STREAMS, 0, park.stream)
  else
    redis.call('ZREMRANGEBYLEX', EVENTS, park.first, park.last)
    remains = redis.call('ZLEXCOUNT', EVENTS, park.first, park.beyond) > 0
  end
  if remains then
    redis.call('HSET', PARKED, park.stream,
      version .. ' ' .. park.partition .. ' ' .. park.since .. ' ' .. park.reason)
  else
    redis.call('HDEL', PARKED, park.stream)
    redis.call('ZREM', STREAMS, park.stream)
  end
end
local decided = 0
for skip = first_skip, first_skip + skips - 1 do
  decided = decided + redis.call('SADD', SKIPS, ARGV[skip])
end
if decided > 0 then
  decisions = version
  redis.call('HSET', STATE, 'decisions', decisions)
end
for field, by in pairs(counters) do
  if by ~= 0 then
    redis.call('HINCRBY', PROGRESS, field, string.format('%.0f', by))
  end
end
if advance.partition ~= '' then
  redis.call('HSET', PROGRESS, 'position:' .. advance.partition, advance.to)
  if advance.recorded_at ~= '' then
    redis.call('HSET', PROGRESS, 'recorded_at:' .. advance.partition, advance.recorded_at)
  end
end
return {'ok', version, decisions}
