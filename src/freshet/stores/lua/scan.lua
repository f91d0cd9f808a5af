-- Replies keys and their values, one after the other, in the order of the keys.
--
-- KEYS: the room's keys in their order, its values. ARGV[3..]: from where, to where, how many; below 0: all.
local keys = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
local found = {}
for at, key in ipairs(keys) do
    found[2 * at - 1] = key
    found[2 * at] = redis.call('HGET', KEYS[2], key)
end
return found
