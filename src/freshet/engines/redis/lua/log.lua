-- Stands before publish.lua and history.lua.
--
-- ARGV[1]: the run id of this server. ARGV[2]: the name under which it finds its data again after a restart; empty: some
-- of the last may be lost then. KEYS[1]: what is known of a log: e(poch), o(ffset), r(un id), n(ame). KEYS[2]: its
-- publications, a stream with the ids offset-0.

-- The epoch and the offset of the log, which is begun with `epoch` when there is none.
local function open_log(epoch)
    local known = redis.call('HMGET', KEYS[1], 'e', 'o', 'r', 'n')
    local e, o = known[1], known[2]
    if not e then
        redis.call('DEL', KEYS[2]) -- left without its epoch: of an older log
        e, o = epoch, '0'
    elseif known[3] == ARGV[1] and known[4] == ARGV[2] then
        return e, o
    elseif known[3] ~= ARGV[1] and (ARGV[2] == '' or known[4] ~= ARGV[2]) then
        -- Another server, or one that came back from an older copy: offsets that were given may be given again.
        e = epoch
    end
    redis.call('HSET', KEYS[1], 'e', e, 'o', o, 'r', ARGV[1], 'n', ARGV[2])
    return e, o
end
