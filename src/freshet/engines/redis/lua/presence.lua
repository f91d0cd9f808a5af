-- Sends away whose time is over, then sets or removes one client, or reads them all.
--
-- KEYS[1]: who is there, by client. KEYS[2]: until when, ms since 1970 of this server.
-- ARGV[3..]: topic, PUBLISH or SPUBLISH, what to do (set, remove, read, sweep), the presence time in ms, client, info.
-- Answers how many are there, whether more have to go (1), and, of a read after which none has to go, all clients.
local topic, spread, what, time, client, info = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local AT_ONCE = 1000 -- so that a script takes little time

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function leave(each)
    local known = redis.call('HGET', KEYS[1], each)
    if known then
        redis.call('HDEL', KEYS[1], each)
        redis.call('ZREM', KEYS[2], each)
        redis.call(spread, topic, 'l' .. known)
    end
end

local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, AT_ONCE)
for _, each in ipairs(gone) do
    leave(each)
end
if what == 'set' then
    redis.call('ZADD', KEYS[2], now + time, client)
    if redis.call('HSET', KEYS[1], client, info) == 1 then
        redis.call(spread, topic, 'j' .. info)
    end
    -- Longer than any client's time, so that one that is over is sent away and not only forgotten.
    redis.call('PEXPIRE', KEYS[1], 2 * time + 60000)
    redis.call('PEXPIRE', KEYS[2], 2 * time + 60000)
elseif what == 'remove' then
    leave(client)
end
local more = #gone == AT_ONCE and 1 or 0
local clients = {}
if what == 'read' and more == 0 then
    clients = redis.call('HGETALL', KEYS[1])
end
return { redis.call('HLEN', KEYS[1]), more, clients }
