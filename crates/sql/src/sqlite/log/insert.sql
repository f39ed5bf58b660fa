INSERT INTO events
    (place, event_id, stream_id, version, type, schema_version, content_type, recorded_at, digest, metadata, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
