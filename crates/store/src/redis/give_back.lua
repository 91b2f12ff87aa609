-- Gives back what a call has taken, into the very buckets that it was taken from.
-- KEYS: for each the amounts of its counter. ARGV: for each the bucket and the amount.
for i = 1, #KEYS do
  local bucket, amount = ARGV[2 * i - 1], ARGV[2 * i]
  if redis.call('HEXISTS', KEYS[i], bucket) == 1 then
    if redis.call('HINCRBY', KEYS[i], bucket, '-' .. amount) < 0 then redis.call('HSET', KEYS[i], bucket, '0') end
  end
end
return 'given'
