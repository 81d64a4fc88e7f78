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
--       9… seven counts, and then what they count: names of cells read, names of permits
--          read, cells set and cells removed, permits set and permits removed, entries;
--          stamps follow the names that were read, values those that are set
-- Times are in microseconds. An empty stamp or value means that there is none.

local PART = 4000 -- Lua can hand over some 8000 values at once
local call, unpack, find = redis.call, unpack, string.find
local meta, cells, permits, journal, index = unpack(KEYS)
local id, writer, known, record = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local at, tolerance, floor_known = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lease, place = tonumber(ARGV[8]), 16

local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
local kept = call('HMGET', meta, 'id', 'floor', 'turn', 'count', writer)
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
  local different, stamps = {}, place + count
  for first = 0, count - 1, PART do
    local values = call('HMGET', kind, unpack(ARGV, place + first, place + math.min(first + PART, count) - 1))
    for i, value in ipairs(values) do
      local stamp = ARGV[stamps + first + i - 1]
      if value and (stamp == '' or find(value, stamp, 1, true) ~= 1) or not value and stamp ~= '' then
        different[#different + 1] = first + i - 1
        different[#different + 1] = value or ''
      end
    end
  end
  place = stamps + count
  return different
end

local other_cells = differing(cells, tonumber(ARGV[9]))
local other_permits = differing(permits, tonumber(ARGV[10]))
local in_time = math.abs(at - now) <= tolerance
if tolerance < 0 then in_time = floor == floor_known end
if #other_cells > 0 or #other_permits > 0 or not in_time then
  if lease > 0 then
    call('HSET', meta, 'turn', writer .. ' ' .. string.format('%.0f', clock + lease))
  end
  return {'stale', now, floor, other_cells, other_permits}
end
if record == '-' then return {'ok', now, floor} end

local function each_part(command, kind, count)
  for first = 0, count - 1, PART do
    call(command, kind, unpack(ARGV, place + first, place + math.min(first + PART, count) - 1))
  end
  place = place + count
end

-- The entries come last, and are written first: nothing but adding them can still be refused.
local set_cells, removed_cells = tonumber(ARGV[11]), tonumber(ARGV[12])
local set_permits, removed_permits = tonumber(ARGV[13]), tonumber(ARGV[14])
local entries, changes = tonumber(ARGV[15]), place
place = changes + 2 * (set_cells + set_permits) + removed_cells + removed_permits
local order, places, head = tonumber(kept[4] or 0), {}, nil
for i = 1, entries do
  order = order + 1
  local number, hash = ARGV[place], ARGV[place + 2]
  local name = string.format('%.0f', order)
  call('XADD', journal, name .. '-0', 'n', number, 'p', ARGV[place + 1], 'h', hash, 'b', ARGV[place + 3])
  places[2 * i - 1], places[2 * i] = number, name
  place = place + 4
  if i == entries then head = number .. ' ' .. hash end
end
for first = 1, #places, PART do
  call('HSET', index, unpack(places, first, math.min(first + PART - 1, #places)))
end
place = changes
each_part('HSET', cells, 2 * set_cells)
each_part('HDEL', cells, removed_cells)
each_part('HSET', permits, 2 * set_permits)
each_part('HDEL', permits, removed_permits)
local news = {'HSET', meta, writer, record}
if head then
  floor = math.max(floor, at)
  news = {'HSET', meta, writer, record, 'floor', string.format('%.0f', floor), 'count', places[#places], 'head', head}
end
if turn ~= '' then
  news[#news + 1] = 'turn'
  news[#news + 1] = ''
end
call(unpack(news))
return {'ok', math.max(now, floor), floor}
