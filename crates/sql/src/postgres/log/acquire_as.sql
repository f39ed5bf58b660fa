-- No row: the member does not hold it, or no longer.
UPDATE partition_head
SET epoch = epoch + 1
WHERE
    partition = $1
    AND holder = $3
    AND lease_until > coalesce($2::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
RETURNING epoch, head, last_recorded_at
