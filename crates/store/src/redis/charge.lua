-- Takes every charge of a call, or none. Amounts are millionths in decimal digits, of up to 63 bits: more than a number of
-- Lua holds exactly, so they are added in two parts.
-- KEYS: for each charge its counter's buckets (a sorted set) and their amounts (a hash); last, what is known of this server.
-- ARGV: the time or '', the epoch; for each charge length, grain, start and end (of a calendar's span), amount, kind, bound.
local known, MAX, DOUBT = KEYS[#KEYS], '9223372036854775807', 3600000
if redis.call('HGET', known, 'epoch') ~= ARGV[2] then return {'epoch'} end
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lost = tonumber(redis.call('HGET', known, 'lost') or '0')
local function text(number) return string.format('%.0f', number) end
local function parts(amount) return tonumber(string.sub(amount, 1, -7)) or 0, tonumber(string.sub(amount, -6)) or 0 end
local function sum(high, low, amount)
  local h, l = parts(amount)
  l = l + low
  return high + h + math.floor(l / 1000000), l % 1000000
end
local function exceeds(high, low, bound)
  local h, l = parts(bound)
  return high > h or (high == h and low > l)
end

local found, takes, before, refused = {}, {}, {}, false
for i = 1, (#KEYS - 1) / 2 do
  local buckets, amounts, at = KEYS[2 * i - 1], KEYS[2 * i], 7 * i - 5
  local length, grain, first, last = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local amount, kind, bound = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local bucket, from, frees, since_loss
  if grain > 0 then
    bucket = math.floor(now / grain) * grain
    from, frees = now - length - grain + 1, bucket + length + grain
    since_loss = math.floor(lost / grain) * grain
  else
    if now < first or now >= last then return {'clock', text(now)} end
    bucket, from, frees, since_loss = first, first, last, lost
  end
  local rows, high, low = {}, 0, 0
  for _, start in ipairs(redis.call('ZRANGEBYSCORE', buckets, text(from), '+inf')) do
    -- An amount that is missing or none was spoilt, and a spoilt counter is a full one.
    local held = redis.call('HGET', amounts, start)
    if not held or not string.match(held, '^%d+$') then held = MAX end
    rows[#rows + 1] = start
    rows[#rows + 1] = held
    high, low = sum(high, low, held)
  end
  for _, earlier in ipairs(before[buckets] or {}) do high, low = sum(high, low, earlier) end
  if kind == 'most' then
    local h, l = sum(high, low, amount)
    -- What was counted before the loss is not known: it may have been everything.
    if exceeds(h, l, bound) or (lost > 0 and since_loss >= from) then refused = true end
  elseif kind == 'least' then
    local h, l = parts(bound)
    if h > high or (h == high and l > low) then refused = true end
  end
  if amount ~= '0' then
    before[buckets] = before[buckets] or {}
    table.insert(before[buckets], amount)
    takes[#takes + 1] = {buckets, amounts, text(bucket), amount, frees - now + DOUBT, text(from - DOUBT)}
  end
  found[i] = rows
end
if refused then return {'no', text(now), text(lost), found} end

for _, take in ipairs(takes) do
  local buckets, amounts, bucket, amount, ttl, over = unpack(take)
  redis.call('ZADD', buckets, bucket, bucket)
  local high, low = sum(0, 0, redis.call('HGET', amounts, bucket) or '0')
  high, low = sum(high, low, amount)
  -- Only a shadow charge, which is never refused, can get so far.
  if exceeds(high, low, MAX) then redis.call('HSET', amounts, bucket, MAX) else redis.call('HINCRBY', amounts, bucket, amount) end
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', buckets, '-inf', '(' .. over, 'LIMIT', 0, 100)) do
    redis.call('ZREM', buckets, old)
    redis.call('HDEL', amounts, old)
  end
  -- Never sooner than what lies there already: the clock may have been set back.
  if redis.call('PTTL', buckets) < ttl then redis.call('PEXPIRE', buckets, text(ttl)) end
  if redis.call('PTTL', amounts) < ttl then redis.call('PEXPIRE', amounts, text(ttl)) end
end
return {'ok', text(now), text(lost), found, redis.call('HINCRBY', known, 'charges', 1)}
