UPDATE partition_head SET epoch = epoch + 1 WHERE partition = $1 RETURNING epoch, head, last_recorded_at
