-- Versions $2 to $3 of a stream id: $4 events at most, and as many as fit into $5 bytes, but at least one.
SELECT
    e.partition, e.position, e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.content_type,
    e.recorded_at, e.metadata, e.data
FROM (
    SELECT
        w.version,
        sum(w.size) OVER (ORDER BY w.version DESC) - w.size AS before
    FROM (
        SELECT version, size
        FROM events
        WHERE stream_id = $1 AND version >= $2 AND version <= $3
        ORDER BY version DESC
        LIMIT $4
    ) AS w
) AS sized
INNER JOIN events AS e ON e.stream_id = $1 AND e.version = sized.version
WHERE sized.before < $5::BIGINT
ORDER BY e.version DESC
