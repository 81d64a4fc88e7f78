-- Takes the oldest entries out of the journal, and forgets those that were kept of them.
--
-- It may be sent again when its reply is lost, and may arrive late: what has gone stays gone,
-- and nothing is kept that is not in the journal.
-- All that can fail is read before the first write, because a script is not rolled back.
--
-- KEYS  meta, journal, index, kept
-- ARGV  1 the ledger's id    2 the floor, as the client knows it
--       3… three counts, and then the numbers of so many entries: those that leave the
--          journal and are kept, those that leave it and are not, and kept ones to forget

local PART = 4000 -- Lua can hand over some 8000 values at once
local call, unpack = redis.call, unpack
local meta, journal, index, kept = unpack(KEYS)
local keep, leave, forget = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
leave = leave + keep

local known = call('HMGET', meta, 'id', 'floor', 'count')
if known[1] ~= ARGV[1] then return 'gone' end
if tonumber(known[2] or 0) < tonumber(ARGV[2]) then return 'lost' end

local function each_part(first, count, step)
  for at = first, first + count - 1, PART do
    step(unpack(ARGV, at, math.min(at + PART, first + count) - 1))
  end
end

local places, here, last = {}, 0, 0
each_part(6, leave, function(...)
  for i, place in ipairs(call('HMGET', index, ...)) do
    places[#places + 1] = place
    if place then
      here, last = here + 1, math.max(last, tonumber(place))
    end
  end
end)

if here > 0 then
  local oldest = call('XRANGE', journal, '-', '+', 'COUNT', 1)[1][1]
  oldest = tonumber(string.match(oldest, '^%d+'))
  if last - oldest + 1 ~= here then return 'split' end
  if last >= tonumber(known[3]) then return 'all' end
  local copies = {}
  for i = 1, keep do
    if places[i] then
      local entry = call('XRANGE', journal, places[i], places[i])[1][2]
      copies[ARGV[5 + i]] = entry[4] .. ' ' .. entry[6] .. ' ' .. entry[8]
    end
  end
  for number, copy in pairs(copies) do call('HSET', kept, number, copy) end
  each_part(6, leave, function(...) call('HDEL', index, ...) end)
  call('XTRIM', journal, 'MINID', string.format('%.0f', last + 1))
end
each_part(6 + leave, forget, function(...) call('HDEL', kept, ...) end)
return 'ok'
