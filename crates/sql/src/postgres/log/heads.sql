SELECT partition, epoch, head, last_recorded_at FROM partition_head ORDER BY partition
