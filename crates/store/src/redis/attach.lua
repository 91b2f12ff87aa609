-- Finds out whether this server still knows all that was counted, and marks the moment where it does not.
-- KEYS: what is known of this server. ARGV: the time or '', the epoch that the gateway knows or '', the number of the last
-- charge it has seen, the server's run, whether charges survive its end ('1'), an epoch for the case that there is none.
local known = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local epoch, run = redis.call('HGET', known, 'epoch'), redis.call('HGET', known, 'run')
local lost = false
if not epoch then
  epoch = ARGV[6]
  redis.call('HSET', known, 'epoch', epoch)
  lost = ARGV[2] ~= ''
elseif ARGV[2] ~= '' and ARGV[2] ~= epoch then
  lost = not redis.call('HGET', known, 'lost')
else
  lost = ARGV[2] ~= '' and tonumber(ARGV[3]) > tonumber(redis.call('HGET', known, 'charges') or '0')
end
if run and run ~= ARGV[4] and ARGV[5] ~= '1' then lost = true end
redis.call('HSET', known, 'run', ARGV[4])
if lost then redis.call('HSET', known, 'lost', string.format('%.0f', now)) end
return {epoch, string.format('%.0f', now), lost and 'lost' or 'known'}
