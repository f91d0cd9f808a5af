-- Takes a room over. KEYS[1]: the room. ARGV[3]: the least fence. Replies the fence.
local last = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
local fence = string.format('%.0f', math.max(tonumber(ARGV[3]), last + 1))
redis.call('HSET', KEYS[1], 'fence', fence)
return fence
