SELECT
    partition, epoch, head, last_recorded_at,
    (SELECT coalesce(max(place), partition << 48) - (partition << 48) FROM events
     WHERE place > partition << 48 AND place < (partition + 1) << 48)
FROM partition_head
ORDER BY partition
