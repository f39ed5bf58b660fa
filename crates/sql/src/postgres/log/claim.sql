-- What nobody holds is the member's from here on, and whoever wrote it before is fenced.
UPDATE partition_head
SET
    epoch = epoch + 1,
    holder = $3,
    holder_address = $4,
    lease_until = coalesce($2::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) + $5
WHERE
    partition = ANY($1)
    AND (holder IS NULL OR lease_until <= coalesce($2::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT))
RETURNING partition
