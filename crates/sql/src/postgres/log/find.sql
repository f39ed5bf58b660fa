SELECT event_id, digest, stream_id, version, partition, position FROM events WHERE event_id = ANY($1)
