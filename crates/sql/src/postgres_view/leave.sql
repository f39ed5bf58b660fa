-- The member is gone, and with it those that have not been heard of; what it held is free.
WITH gone AS (
    DELETE FROM hw_members
    WHERE id = $1 OR alive_until <= (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT
    RETURNING id
)

UPDATE hw_leases
SET holder = NULL
WHERE holder = $1
