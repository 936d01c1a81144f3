-- Answer what a daemon asks the ledger of a shared quota: `limits.ledger.reserve` says why, step by step.
-- KEYS[1]: a hash. ARGV[1]: the ask, as JSON. Moments are seconds since 1970, with all of their digits.
local ask = cjson.decode(ARGV[1])
local book = KEYS[1]
local law = ask.law

local function text(number) return string.format('%.17g', number) end
local function number(field) return tonumber(redis.call('HGET', book, field) or '0') end

local now = ask.now
if now == cjson.null then
    local time = redis.call('TIME')
    now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local locked_until = number('locked_until')
if ask.lock_seconds > 0 then locked_until = math.max(locked_until, now + ask.lock_seconds) end
local is_locked = locked_until > now
local refusals = number('refusals') + ask.refusals

local known, askers, silent = redis.call('HGETALL', book), 0, 0
for place = 1, #known, 2 do
    local field, asked_at = known[place], tonumber(known[place + 1])
    if string.sub(field, 1, 6) == 'asker:' then
        if field == 'asker:' .. ask.asker or asked_at <= now - law.forget_seconds then
            redis.call('HDEL', book, field)
        else
            askers = askers + 1
            if asked_at < now - law.active_seconds then silent = silent + 1 end
        end
    end
end
if not ask.leaves then
    redis.call('HSET', book, 'asker:' .. ask.asker, text(now))
    askers = askers + 1
end
local sharers = math.max(askers - silent, 1)
local part = math.max(1 - law.fraction * silent / math.max(ask.daemons, askers, 1), law.least_part)

local begins, first, starts_at, near_at = {}, {}, now, now
for place, want in ipairs(ask.wants) do
    local since = math.max(now, locked_until)
    if ask.empty or is_locked then since = since + want.saved end
    begins[place] = math.max(number('due:' .. want.name), since) - want.saved
    first[place] = (want.least - 1) * want.interval / part
    if place == 1 then starts_at, near_at = begins[1] + first[1], begins[1] end
    starts_at = math.max(starts_at, begins[place] + first[place])
    near_at = math.max(near_at, begins[place])
end

local blocks = {}
for place, want in ipairs(ask.wants) do
    local interval, begins_at, count = want.interval / part, begins[place], 0
    if near_at <= now + law.horizon_seconds then
        begins_at = math.max(begins_at, starts_at - first[place])
        local share = math.max(math.floor(law.horizon_seconds / interval / sharers), 1) - want.held
        local room = math.floor((now + law.horizon_seconds - begins_at) / interval) + 1
        local least = math.max(want.least, want.least_block)
        if want.held > 0 then least = 0 end
        count = math.min(want.count, math.max(least, math.min(share, room), 0))
    end
    if count > 0 then
        redis.call('HSET', book, 'due:' .. want.name, text(begins_at + want.saved + count * interval + want.guard))
    end
    blocks[place] = { want.name, text(begins_at), count, text(interval) }
end

redis.call('HSET', book, 'locked_until', text(locked_until), 'refusals', refusals)
redis.call('EXPIRE', book, law.keep_seconds)
if #blocks == 0 then blocks = cjson.null end
return cjson.encode({ text(now), text(locked_until), refusals, sharers, blocks })
