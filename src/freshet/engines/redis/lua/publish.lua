-- Appends a publication and broadcasts it, or replies the position that it has when it was published before.
--
-- KEYS[3]: the position of what was published under the idempotency key, if there is one.
-- ARGV[3..]: topic, PUBLISH or SPUBLISH, body, an epoch for a new log, the log's size (0: there is none), its time,
-- the time of its epoch, the time of the idempotency key; times in ms; the epoch and the offset at which the log has to
-- stand (empty: anywhere).
-- Replies epoch, offset; offset -1: the log stands elsewhere.
local topic, broadcast, body, candidate = ARGV[3], ARGV[4], ARGV[5], ARGV[6]

if KEYS[3] then
    local known = redis.call('GET', KEYS[3])
    if known then
        local offset, epoch = string.match(known, '^(%d+):(.*)$')
        return { epoch, offset }
    end
end

local epoch, offset = '', '0'
if ARGV[7] ~= '0' then
    local stands
    epoch, stands = open_log(candidate)
    if ARGV[11] ~= '' and (ARGV[11] ~= epoch or ARGV[12] ~= stands) then
        return { epoch, '-1' }
    end
    offset = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'o', 1))
    redis.call('XADD', KEYS[2], 'MAXLEN', '=', ARGV[7], offset .. '-0', 'd', body)
    redis.call('PEXPIRE', KEYS[2], ARGV[8])
    redis.call('PEXPIRE', KEYS[1], ARGV[9])
end
if KEYS[3] then
    redis.call('SET', KEYS[3], offset .. ':' .. epoch, 'PX', ARGV[10])
end
redis.call(broadcast, topic, 'p' .. offset .. ':' .. epoch .. ':' .. body)
return { epoch, offset }
