-- Format 1 of the log, in one schema for each event stream. Every statement may be run again, by several processes at once.

CREATE TABLE IF NOT EXISTS log (
    singleton  BIGINT PRIMARY KEY CHECK (singleton = 1),
    format     BIGINT NOT NULL,
    log_id     UUID   NOT NULL,
    name       TEXT   NOT NULL,
    partitions BIGINT NOT NULL,
    created_at BIGINT NOT NULL               -- microseconds since 1970, UTC, as all times here
);

CREATE TABLE IF NOT EXISTS partition_head (
    partition        BIGINT PRIMARY KEY,
    epoch            BIGINT NOT NULL,
    head             BIGINT NOT NULL,
    last_recorded_at BIGINT,
    holder           TEXT,
    holder_address   TEXT,
    lease_until      BIGINT
);

CREATE TABLE IF NOT EXISTS events (
    partition      BIGINT NOT NULL,
    position       BIGINT NOT NULL,
    event_id       UUID   NOT NULL,
    stream_id      TEXT   NOT NULL,
    version        BIGINT NOT NULL,
    type           TEXT   NOT NULL,
    schema_version BIGINT NOT NULL,
    content_type   TEXT,                     -- NULL: application/json
    recorded_at    BIGINT NOT NULL,
    size           BIGINT NOT NULL,          -- bytes of data and metadata, so that pages can be bounded without reading them
    digest         BYTEA  NOT NULL,
    metadata       BYTEA,                    -- NULL: {}
    data           BYTEA  NOT NULL,
    PRIMARY KEY (partition, position)
);

CREATE UNIQUE INDEX IF NOT EXISTS events_by_stream ON events (stream_id, version);

CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (event_id);

-- For people with psql. Data that is no JSON is left out.
CREATE OR REPLACE VIEW events_json AS
SELECT
    partition, position, stream_id, version, type, schema_version, event_id AS id,
    coalesce(content_type, 'application/json') AS content_type,
    CASE WHEN content_type IS NULL OR content_type LIKE '%json%' THEN convert_from(data, 'UTF8')::JSONB END AS data,
    convert_from(coalesce(metadata, '{}'::BYTEA), 'UTF8')::JSONB AS metadata,
    to_timestamp(recorded_at / 1000000.0) AS recorded_at
FROM events;
