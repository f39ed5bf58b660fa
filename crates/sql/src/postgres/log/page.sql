-- What a partition has after $2 and up to $3, in one snapshot with its head; at least one row, which has no event when there is none.
-- Of what passes the filter, $4 events at most, and as many as fit into $7 bytes, but at least one.
SELECT
    h.head, e.position, e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.content_type, e.recorded_at,
    e.metadata, e.data
FROM partition_head AS h
LEFT JOIN (
    SELECT wanted.*
    FROM (
        SELECT
            w.position,
            sum(w.size) OVER (ORDER BY w.position) - w.size AS before
        FROM (
            SELECT position, size
            FROM events
            WHERE
                partition = $1 AND position > $2 AND position <= $3
                AND (cardinality($5::TEXT []) = 0 OR type = ANY($5::TEXT []))
                AND ($6::TEXT IS NULL OR substr(stream_id, 1, char_length($6::TEXT)) = $6::TEXT)
            ORDER BY position
            LIMIT $4
        ) AS w
    ) AS sized
    INNER JOIN events AS wanted ON wanted.partition = $1 AND wanted.position = sized.position
    WHERE sized.before < $7::BIGINT
) AS e ON e.position <= h.head
WHERE h.partition = $1
ORDER BY e.position
