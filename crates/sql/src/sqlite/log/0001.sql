-- Format 1 of the log.

CREATE TABLE log (
    singleton  INTEGER PRIMARY KEY CHECK (singleton = 1),
    log_id     BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    partitions INTEGER NOT NULL,
    created_at INTEGER NOT NULL               -- microseconds since 1970, UTC, as all times here
) STRICT;

CREATE TABLE partition_head (
    partition        INTEGER PRIMARY KEY,
    epoch            INTEGER NOT NULL,
    head             INTEGER NOT NULL,
    last_recorded_at INTEGER
) STRICT;

-- Clustered by partition and position in one integer: SQLite keeps rows of any size in the order of an integer key,
-- and appends to it fastest. What is small stands before what is large, so that a filter reads no overflow pages.
CREATE TABLE events (
    place          INTEGER PRIMARY KEY,       -- partition * 2^48 + position
    event_id       BLOB    NOT NULL,
    stream_id      TEXT    NOT NULL,
    version        INTEGER NOT NULL,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    content_type   TEXT,                      -- NULL: application/json
    recorded_at    INTEGER NOT NULL,
    digest         BLOB    NOT NULL,
    metadata       BLOB,                      -- NULL: {}
    data           BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_by_stream ON events (stream_id, version);
CREATE UNIQUE INDEX events_by_id ON events (event_id);

-- For people with a sqlite3 shell.
CREATE VIEW events_json AS
SELECT
    place >> 48                      AS partition,
    place & 281474976710655          AS position,
    stream_id,
    version,
    type,
    schema_version,
    lower(substr(hex(event_id), 1, 8) || '-' || substr(hex(event_id), 9, 4) || '-' || substr(hex(event_id), 13, 4)
        || '-' || substr(hex(event_id), 17, 4) || '-' || substr(hex(event_id), 21)) AS id,
    coalesce(content_type, 'application/json')                                      AS content_type,
    CASE WHEN content_type IS NULL OR content_type LIKE '%json%' THEN CAST(data AS TEXT) END AS data,
    coalesce(CAST(metadata AS TEXT), '{}')                                          AS metadata,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000, 'unixepoch')
        || printf('.%06dZ', recorded_at % 1000000)                                  AS recorded_at
FROM events;
