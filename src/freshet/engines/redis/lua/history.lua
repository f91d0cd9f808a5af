-- Reads a part of a log, and its position.
--
-- ARGV[3..]: an epoch for a new log, the time of its epoch in ms, XRANGE or XREVRANGE (empty: the position alone), from,
-- to, at most how many.
-- Replies epoch, offset, entries.
local epoch, offset = open_log(ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[5] == '' then
    return { epoch, offset, {} }
end
return { epoch, offset, redis.call(ARGV[5], KEYS[2], ARGV[6], ARGV[7], 'COUNT', ARGV[8]) }
