UPDATE partition_head
SET holder = NULL, holder_address = NULL, lease_until = NULL
WHERE holder = $2 AND partition = ANY($1)
