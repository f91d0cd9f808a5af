-- Takes a room out of the index of alarms, if it is still there with the time that was seen.
--
-- KEYS[1]: the index. ARGV[3..]: the room, the time.
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or '-1') == tonumber(ARGV[4]) then
    redis.call('ZREM', KEYS[1], ARGV[3])
end
return 1
