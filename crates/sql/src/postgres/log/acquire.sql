-- No row: somebody else holds it.
UPDATE partition_head
SET epoch = epoch + 1
WHERE
    partition = $1
    AND (holder IS NULL OR lease_until <= coalesce($2::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT))
RETURNING epoch, head, last_recorded_at
