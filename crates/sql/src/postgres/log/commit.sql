-- One round trip: the head moves, and the events are there, or neither. No row: another writer has moved it, or the batch before this one is not there.
-- A batch behind one that is being committed meets the row by `head <= $3`, waits for its lock, and is judged by what is there then: a plain
-- `head = $3` would not see the row, and not wait.
WITH moved AS (
    UPDATE partition_head
    SET
        head = CASE WHEN head = $3 THEN head + $4 ELSE head END,
        last_recorded_at = CASE
            WHEN head = $3 THEN greatest(
                coalesce($5::BIGINT, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT),
                coalesce(last_recorded_at, 0)
            )
            ELSE last_recorded_at
        END
    WHERE partition = $1 AND epoch = $2 AND head <= $3
    RETURNING head, last_recorded_at
),

inserted AS (
    INSERT INTO events (
        partition, position, event_id, stream_id, version, type, schema_version, content_type, recorded_at, size,
        digest, metadata, data
    )
    SELECT
        $1, $3 + e.number, e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.content_type,
        moved.last_recorded_at, e.size, e.digest, e.metadata, e.data
    FROM moved
    INNER JOIN unnest(
        $6::UUID [], $7::TEXT [], $8::BIGINT [], $9::TEXT [], $10::BIGINT [], $11::TEXT [], $12::BIGINT [],
        $13::BYTEA [], $14::BYTEA [], $15::BYTEA []
    ) WITH ORDINALITY
        AS e (event_id, stream_id, version, type, schema_version, content_type, size, digest, metadata, data, number)
        ON moved.head = $3 + $4
    RETURNING position
)

SELECT
    last_recorded_at,
    (SELECT count(*) FROM inserted) AS events
FROM moved
WHERE head = $3 + $4
