INSERT INTO relay AS r (partition, epoch, position)
VALUES ($1, $2, 0)
ON CONFLICT (partition) DO UPDATE SET epoch = excluded.epoch WHERE r.epoch <= excluded.epoch
RETURNING r.position, r.reference
