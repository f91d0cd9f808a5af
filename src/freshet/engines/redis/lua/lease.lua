-- Takes or releases the lease of a name.
--
-- KEYS[1]: the lease, `fence:owner`. KEYS[2]: the last fence of the name.
-- ARGV[3..]: what to do (take, release), the owner, the time of the lease in ms, the fence (not of take), the time of
-- the last fence in ms.
-- Replies the lease as it is then; empty: nobody's.
local what, owner, time, fence = ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local lease = redis.call('GET', KEYS[1])
if what == 'release' then
    if lease ~= fence .. ':' .. owner then
        return lease or ''
    end
    redis.call('DEL', KEYS[1])
    redis.call('INCR', KEYS[2]) -- so that it cannot be renewed as one that has ended
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
    return ''
end
if not lease then
    lease = string.format('%.0f:%s', redis.call('INCR', KEYS[2]), owner)
    redis.call('SET', KEYS[1], lease)
    redis.call('PEXPIRE', KEYS[2], ARGV[7]) -- forgotten, it begins anew: the store's fence is larger
end
if string.match(lease, '^%d+:(.*)$') == owner then
    redis.call('PEXPIRE', KEYS[1], time)
end
return lease
