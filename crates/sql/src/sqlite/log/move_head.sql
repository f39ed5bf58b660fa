UPDATE partition_head
SET head = head + ?4, last_recorded_at = max(?5, coalesce(last_recorded_at, ?5))
WHERE partition = ?1 AND epoch = ?2 AND head = ?3
RETURNING last_recorded_at
