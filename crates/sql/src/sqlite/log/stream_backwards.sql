SELECT place, event_id, stream_id, version, type, schema_version, content_type, recorded_at, metadata, data
FROM events
WHERE stream_id = ?1 AND version >= ?2 AND version <= ?3
ORDER BY version DESC
LIMIT ?4
