-- name: announce
-- Note fields that no record class knows; answer with those that were not noted before.
INSERT INTO syncd.unknown_field (instance, stream, field, seen_at)
SELECT %(instance)s, %(stream)s, field, syncd.clock(%(now)s)
FROM unnest(%(fields)s::text[]) AS field
WHERE NOT EXISTS (SELECT FROM syncd.unknown_field u
                  WHERE u.instance = %(instance)s AND u.stream = %(stream)s AND u.field = field.field)
ORDER BY field
LIMIT greatest(0, %(most)s - (SELECT count(*) FROM syncd.unknown_field u
                              WHERE u.instance = %(instance)s AND u.stream = %(stream)s))
ON CONFLICT DO NOTHING
RETURNING field;
