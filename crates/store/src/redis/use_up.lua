-- Uses up a name, which is good once. What it answers has the form of what a charge is answered.
-- KEYS: where the name is remembered, what is known of this server. ARGV: the time or '', the epoch, since when the name could
-- have been used, until when it could be.
local known, DOUBT, LONGEST = KEYS[2], 3600000, 1e15
if redis.call('HGET', known, 'epoch') ~= ARGV[2] then return {'epoch'} end
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lost = tonumber(redis.call('HGET', known, 'lost') or '0')
local function answer(word, charges) return {word, string.format('%.0f', now), string.format('%.0f', lost), '', charges} end
-- What was used before the loss is not known: this name may have been.
if lost > 0 and tonumber(ARGV[3]) <= lost then return answer('lost') end
local ttl = math.min(math.max(tonumber(ARGV[4]) - now, 0) + DOUBT, LONGEST)
if not redis.call('SET', KEYS[1], '', 'NX', 'PX', string.format('%.0f', ttl)) then return answer('used') end
-- Counted with the charges, so that a gateway notices where it is forgotten.
return answer('fresh', redis.call('HINCRBY', known, 'charges', 1))
