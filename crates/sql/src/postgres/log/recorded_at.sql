SELECT recorded_at FROM events WHERE partition = $1 AND position = $2
