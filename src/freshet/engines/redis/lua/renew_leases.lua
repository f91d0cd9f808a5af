-- Renews the leases of one owner, as far as they are still its own.
--
-- KEYS: of each name the lease, `fence:owner`, and the last fence. All are on one server, in a cluster in one slot.
-- ARGV[3..]: the owner, the time of a lease in ms, and the fence of each name.
-- Replies for each name 1, or 0. One that has ended is renewed, too, if its fence is the last: nobody has taken it since.
local owner, time = ARGV[3], ARGV[4]
local renewed = {}

for n = 1, #KEYS / 2 do
    local key, fence = KEYS[2 * n - 1], ARGV[4 + n]
    local mine = fence .. ':' .. owner
    local lease = redis.call('GET', key)
    renewed[n] = 0
    if lease == mine then
        redis.call('PEXPIRE', key, time)
        renewed[n] = 1
    elseif not lease and redis.call('GET', KEYS[2 * n]) == fence then
        redis.call('SET', key, mine, 'PX', time)
        renewed[n] = 1
    end
end
return renewed
