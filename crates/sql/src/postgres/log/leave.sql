-- Those that ended without a word are forgotten after a day.
WITH gone AS (
    DELETE FROM member
    WHERE id = $1 OR alive_until < (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT - 86400000000
    RETURNING id
),

released AS (
    UPDATE partition_head
    SET holder = NULL, holder_address = NULL, lease_until = NULL
    WHERE holder = $1
    RETURNING partition
)

SELECT
    (SELECT count(*) FROM gone) AS members,
    (SELECT count(*) FROM released) AS partitions
