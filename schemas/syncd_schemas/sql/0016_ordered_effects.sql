-- What may be claimed, in its order, by account: however much one has, what another has is found at once. First
-- what has no ordering key, then what has one, so that those that wait behind a dead effect do not stand in the way
-- of all others.

DROP INDEX syncd.effect_due;
CREATE INDEX effect_due
    ON syncd.effect (kind, instance, account, ((ordering_key IS NOT NULL)::int), due_at, id)
    WHERE state IN ('pending', 'delivering');
