-- Writes one transaction, if the fence is the room's. Replies 1, or 0: nothing was written.
--
-- KEYS: the room, its keys in their order, its values, the reply that is remembered.
-- ARGV[3..]: the fence, whether all is deleted before, the alarm (empty: as it was; none), how long the reply is
-- remembered in ms (0: there is none), the reply, how many keys are deleted, these, and keys with their values.
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[3] then
    return 0
end
if ARGV[4] == '1' then
    redis.call('DEL', KEYS[2], KEYS[3])
end
if ARGV[5] == 'none' then
    redis.call('HDEL', KEYS[1], 'alarm')
elseif ARGV[5] ~= '' then
    redis.call('HSET', KEYS[1], 'alarm', ARGV[5])
end
if ARGV[6] ~= '0' then
    redis.call('SET', KEYS[4], ARGV[7], 'PX', ARGV[6])
end
local last = 8 + tonumber(ARGV[8])
for at = 9, last do
    redis.call('ZREM', KEYS[2], ARGV[at])
    redis.call('HDEL', KEYS[3], ARGV[at])
end
for at = last + 1, #ARGV, 2 do
    redis.call('ZADD', KEYS[2], 0, ARGV[at])
    redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
end
return 1
