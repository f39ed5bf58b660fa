#!lua flags=no-writes
-- A page of rows with the checkpoints, in one snapshot.
-- KEYS: state, progress, and the row, or what gives the rows' order.
-- ARGV: revision, its identity, '1' where it must be the active one; 'row', or 'up', 'down' (through the order); where from, where to;
--       what rows' keys begin with; rows wanted; rows to look at, at most; bytes to give, at most; '1' where a part of the rows is of no use;
--       the number of filters, for each: number of the field, 'null', 'text' or 'decimal', value; the fields.
-- Gives {'ok', checkpoints, rows, '1' where there are more}, {'limit'}, {'active', which}, or {'revision', identity}.
local arg = 0
local function take()
  arg = arg + 1
  return ARGV[arg]
end
local revision, wanted, must_be_active = take(), take(), take()
if must_be_active == '1' then
  local active = redis.call('HGET', KEYS[1], 'active')
  if active ~= revision then
    return {'active', active}
  end
end
local identity = redis.call('HGET', KEYS[1], 'revision:' .. revision)
if identity ~= wanted then
  return {'revision', identity}
end
local way, low, high, prefix = take(), take(), take(), take()
local rows_wanted, look_at, bytes, whole = tonumber(take()), tonumber(take()), tonumber(take()), take() == '1'
local filters = {}
for _ = 1, tonumber(take()) do
  filters[#filters + 1] = {field = tonumber(take()), test = take(), value = take()}
end
local first_field, last_field = arg + 1, #ARGV

-- A decimal's text without what does not change its value.
local function plain(text)
  if string.find(text, '.', 1, true) then
    text = string.gsub(text, '0+$', '')
    text = string.gsub(text, '%.$', '')
  end
  if text == '-0' then
    return '0'
  end
  return text
end

local function passes(row)
  for _, filter in ipairs(filters) do
    local found = row[filter.field]
    if filter.test == 'null' then
      if found then
        return false
      end
    elseif not found then
      return false
    elseif filter.test == 'decimal' then
      if plain(found) ~= filter.value then
        return false
      end
    elseif found ~= filter.value then
      return false
    end
  end
  return true
end

local rows, size = {}, 0
-- Whether the page is not full yet.
local function add(row)
  if not passes(row) then
    return true
  end
  for at = 1, #row do
    size = size + (row[at] and #row[at] or 0) + 16
  end
  if size > bytes and #rows > 0 then
    return false
  end
  rows[#rows + 1] = row
  return #rows < rows_wanted
end

local checkpoints = redis.call('HGETALL', KEYS[2])
if way == 'row' then
  if redis.call('EXISTS', KEYS[3]) == 1 then
    add(redis.call('HMGET', KEYS[3], unpack(ARGV, first_field, last_field)))
  end
  return {'ok', checkpoints, rows, '0'}
end

local STEP = 100
local looked_at, more = 0, false
while not more do
  local places
  if way == 'up' then
    places = redis.call('ZRANGEBYLEX', KEYS[3], low, high, 'LIMIT', 0, STEP)
  else
    places = redis.call('ZREVRANGEBYLEX', KEYS[3], high, low, 'LIMIT', 0, STEP)
  end
  for _, place in ipairs(places) do
    if looked_at == look_at then
      return {'limit'}
    end
    looked_at = looked_at + 1
    -- A place ends with the row's name and, in four bytes, its length.
    local a, b, c, d = string.byte(place, -4, -1)
    local length = ((a * 256 + b) * 256 + c) * 256 + d
    local name = string.sub(place, -4 - length, -5)
    if not add(redis.call('HMGET', prefix .. name, unpack(ARGV, first_field, last_field))) then
      more = true
      break
    end
  end
  if #places < STEP then
    break
  end
  if way == 'up' then
    low = '(' .. places[#places]
  else
    high = '(' .. places[#places]
  end
end
if more and whole then
  return {'limit'}
end
return {'ok', checkpoints, rows, more and '1' or '0'}
