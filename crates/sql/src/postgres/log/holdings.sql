-- Who is alive, and who holds what; one row each.
SELECT
    id AS member,
    address,
    NULL::BIGINT AS partition
FROM member
WHERE alive_until > coalesce($1::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
UNION ALL
SELECT
    holder AS member,
    holder_address AS address,
    partition
FROM partition_head
WHERE holder IS NOT NULL AND lease_until > coalesce($1::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
