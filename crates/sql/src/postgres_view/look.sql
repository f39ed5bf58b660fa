-- The member is alive, and holds what it asks for, as far as nobody else does; what else it holds is free. One row for each other member,
-- and one for each partition that is held.
WITH clock AS (
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT AS now
),

alive AS (
    INSERT INTO hw_members (id, name, standing, report, alive_until)
    SELECT $1, $2, $3, $4, clock.now + $5 FROM clock
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name,
        standing = excluded.standing,
        report = excluded.report,
        alive_until = excluded.alive_until
    RETURNING id
),

-- Rows of others are not touched, and so not waited for.
changed AS (
    INSERT INTO hw_leases (partition, holder, lease_until)
    SELECT
        asked.partition,
        CASE WHEN asked.is_held THEN $1 END,
        clock.now + $5
    FROM clock, unnest($6::BIGINT [], $7::BOOLEAN []) AS asked (partition, is_held)
    LEFT JOIN hw_leases AS known ON asked.partition = known.partition
    WHERE
        known.holder = $1
        OR (asked.is_held AND (known.holder IS NULL OR known.lease_until <= (SELECT now FROM clock)))
    ORDER BY asked.partition
    ON CONFLICT (partition) DO UPDATE SET
        holder = excluded.holder,
        lease_until = excluded.lease_until
    -- Looked at anew, since others may have been here meanwhile.
    WHERE
        hw_leases.holder = $1
        OR (excluded.holder IS NOT NULL AND (hw_leases.holder IS NULL OR hw_leases.lease_until <= excluded.lease_until - $5))
    RETURNING partition, holder
)

SELECT
    m.id AS member,
    m.name,
    m.standing,
    m.report,
    NULL::BIGINT AS partition
FROM hw_members AS m, clock
WHERE m.id <> $1 AND m.alive_until > clock.now
UNION ALL
SELECT
    l.holder AS member,
    '' AS name,
    '' AS standing,
    '' AS report,
    l.partition
FROM hw_leases AS l, clock
WHERE l.holder <> $1 AND l.lease_until > clock.now AND l.partition NOT IN (SELECT c.partition FROM changed AS c)
UNION ALL
SELECT
    c.holder AS member,
    '' AS name,
    '' AS standing,
    '' AS report,
    c.partition
FROM changed AS c
WHERE c.holder IS NOT NULL
