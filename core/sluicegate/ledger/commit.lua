-- Commits a batch of answered requests, or changes nothing and says what is different.
--
-- What requests mean is not decided here (see meaning.py). The client has computed the
-- answers from the values that it knew. If those are what is kept, and the batch's time
-- fits the server's, all of it is written; else the client is told, and computes again.
-- All that can fail is read before the first write, because a script is not rolled back.
--
-- KEYS  meta, cells, permits, journal, index
-- ARGV  1 the ledger's id      2 the writer       3 its record, as the client knows it
--       4 its record afterwards, or - if the batch changes nothing
--       5 the batch's time     6 how far it may be from the server's, or -1: the floor is exact
--       7 the floor, as the client knows it        8 for how long to take the turn, if at all
--       9… five counts, and then what they count: cells read, permits read (key, stamp),
--          cells written, permits written (key, value), entries (number, prev, hash, body)
-- Times are in microseconds. An empty stamp or value means that there is none.

local PART = 4000 -- Lua can hand over some 8000 values at once
local meta, cells, permits, journal, index = unpack(KEYS)
local id, writer, known, record = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at, tolerance, floor_known = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lease, place = tonumber(ARGV[8]), 14

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local kept = redis.call('HMGET', meta, 'id', 'floor', 'turn', 'count', writer)
local floor = tonumber(kept[2] or 0)
local now = math.max(clock, floor)

if kept[1] ~= id then return {'gone', now, floor} end
local last = kept[5] or ''
if last == record then return {'ok', now, floor} end -- the reply to it was lost
if last ~= known then return {'moved', now, floor, last} end
if floor < floor_known then return {'lost', now, floor} end

local turn = kept[3] or ''
if turn ~= '' then
  local holder, ends = string.match(turn, '^(%S+) (%d+)$')
  local left = tonumber(ends) - clock
  -- A turn is short: one that ends later than that was taken before the clock was set back.
  if holder ~= writer and left > 0 and left <= 1000000 then return {'wait', now, floor, left} end
end

-- What of the keys that were read is not as the client knew it: positions and values.
local function differing(kind, count)
  local names, stamps, different = {}, {}, {}
  for i = 1, count do
    names[i], stamps[i] = ARGV[place], ARGV[place + 1]
    place = place + 2
  end
  for first = 1, count, PART do
    local values = redis.call('HMGET', kind, unpack(names, first, math.min(first + PART - 1, count)))
    for i, value in ipairs(values) do
      local stamp = stamps[first + i - 1]
      value = value or ''
      if (stamp == '' and value ~= '') or string.sub(value, 1, #stamp) ~= stamp then
        different[#different + 1] = first + i - 2
        different[#different + 1] = value
      end
    end
  end
  return different
end

local other_cells = differing(cells, tonumber(ARGV[9]))
local other_permits = differing(permits, tonumber(ARGV[10]))
local in_time = math.abs(at - now) <= tolerance
if tolerance < 0 then in_time = floor == floor_known end
if #other_cells > 0 or #other_permits > 0 or not in_time then
  if lease > 0 then
    redis.call('HSET', meta, 'turn', writer .. ' ' .. string.format('%.0f', clock + lease))
  end
  return {'stale', now, floor, other_cells, other_permits}
end
if record == '-' then return {'ok', now, floor} end

local function write(kind, count)
  local set, removed = {}, {}
  for _ = 1, count do
    local name, value = ARGV[place], ARGV[place + 1]
    place = place + 2
    if value == '' then
      removed[#removed + 1] = name
    else
      set[#set + 1] = name
      set[#set + 1] = value
    end
  end
  for first = 1, #set, PART do
    redis.call('HSET', kind, unpack(set, first, math.min(first + PART - 1, #set)))
  end
  for first = 1, #removed, PART do
    redis.call('HDEL', kind, unpack(removed, first, math.min(first + PART - 1, #removed)))
  end
end

local new_cells, new_permits, entries = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local changes = place
place = changes + 2 * (new_cells + new_permits)
local order, places, head = tonumber(kept[4] or 0), {}, nil
for _ = 1, entries do
  order = order + 1
  local number, prev, hash, body = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  place = place + 4
  local name = string.format('%.0f', order)
  redis.call('XADD', journal, name .. '-0', 'n', number, 'p', prev, 'h', hash, 'b', body)
  places[#places + 1] = number
  places[#places + 1] = name
  head = number .. ' ' .. hash
end
if entries > 0 then
  redis.call('HSET', index, unpack(places))
  floor = math.max(floor, at)
end
place = changes
write(cells, new_cells)
write(permits, new_permits)
local news = {'HSET', meta, writer, record}
if head then
  for _, value in ipairs({
    'floor', string.format('%.0f', floor), 'count', string.format('%.0f', order), 'head', head,
  }) do
    news[#news + 1] = value
  end
end
if turn ~= '' then
  news[#news + 1] = 'turn'
  news[#news + 1] = ''
end
redis.call(unpack(news))
return {'ok', math.max(now, floor), floor}
