SELECT digest, stream_id, version, place FROM events WHERE event_id = ?1
