SELECT place, event_id, stream_id, version, type, schema_version, content_type, recorded_at, metadata, data
FROM events
WHERE place > ?1 AND place <= ?2
ORDER BY place
