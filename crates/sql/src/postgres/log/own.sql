-- $5: whoever has it now. Else the first has it, and says later who it is, if that was not known.
INSERT INTO log_owner AS known (singleton, namespace, kind, name, uid, since)
VALUES (1, $1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT)
ON CONFLICT (singleton) DO UPDATE
SET namespace = excluded.namespace, kind = excluded.kind, name = excluded.name, uid = excluded.uid, since = excluded.since
WHERE $5 OR (known.namespace = excluded.namespace AND known.kind = excluded.kind AND known.name = excluded.name AND known.uid IS NULL)
