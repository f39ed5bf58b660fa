SELECT coalesce((SELECT max(version) FROM events WHERE events.stream_id = s.stream_id), 0) AS version
FROM unnest($1::TEXT []) WITH ORDINALITY AS s (stream_id, number)
ORDER BY s.number
