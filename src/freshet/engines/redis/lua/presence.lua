-- Removes clients whose time is over, then sets some or removes one, or reads them all.
--
-- KEYS[1]: who is present, by client. KEYS[2]: until when, ms since 1970 of this server.
-- ARGV[3..6]: topic, PUBLISH or SPUBLISH, what to do (set, remove, read, sweep), the presence time in ms.
-- ARGV[7..]: client, info; of `set` any number of such pairs, of `remove` one client.
-- Replies how many are present, whether more have to go (1), and, of a read after which none has to go, all clients.
local topic, broadcast, what, time = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local AT_ONCE = 1000 -- so that a script takes little time

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function leave(client)
    local known = redis.call('HGET', KEYS[1], client)
    redis.call('ZREM', KEYS[2], client)
    if known then
        redis.call('HDEL', KEYS[1], client)
        redis.call(broadcast, topic, 'l' .. known)
    end
end

-- A Redis that evicts keys may have taken the times alone: who has none would stay for ever.
if redis.call('HLEN', KEYS[1]) > redis.call('ZCARD', KEYS[2]) then
    for _, client in ipairs(redis.call('HKEYS', KEYS[1])) do
        redis.call('ZADD', KEYS[2], 'NX', now + time, client)
    end
    redis.call('PEXPIRE', KEYS[2], 2 * time + 60000)
end

local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, AT_ONCE)
for _, client in ipairs(gone) do
    leave(client)
end
if what == 'set' then
    for index = 7, #ARGV, 2 do
        local client, info = ARGV[index], ARGV[index + 1]
        redis.call('ZADD', KEYS[2], now + time, client)
        if redis.call('HSET', KEYS[1], client, info) == 1 then
            redis.call(broadcast, topic, 'j' .. info)
        end
    end
    -- Longer than any client's time, so that one that is over is removed and not only forgotten.
    redis.call('PEXPIRE', KEYS[1], 2 * time + 60000)
    redis.call('PEXPIRE', KEYS[2], 2 * time + 60000)
elseif what == 'remove' then
    leave(ARGV[7])
end
local more = #gone == AT_ONCE and 1 or 0
local clients = {}
if what == 'read' and more == 0 then
    clients = redis.call('HGETALL', KEYS[1])
end
return { redis.call('HLEN', KEYS[1]), more, clients }
