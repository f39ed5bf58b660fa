-- The member is alive, and what it holds it holds on.
WITH alive AS (
    INSERT INTO member (id, address, alive_until)
    VALUES ($2, $3, coalesce($1::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) + $4)
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
    RETURNING id
),

renewed AS (
    UPDATE partition_head
    SET lease_until = coalesce($1::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) + $4
    WHERE holder = $2 AND lease_until > coalesce($1::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
    RETURNING partition
)

SELECT
    (SELECT count(*) FROM alive) AS members,
    (SELECT count(*) FROM renewed) AS partitions
