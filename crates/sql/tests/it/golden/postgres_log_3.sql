-- A log of format 3, as it was released, with two events. What the program makes now may be written otherwise.

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

-- Format 2: the processes that write a log together.

CREATE TABLE IF NOT EXISTS member (
    id          TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    alive_until BIGINT NOT NULL
);

-- How far each partition has been relayed to a bus. `epoch` is that of the newest relay; an older one moves nothing.
CREATE TABLE IF NOT EXISTS relay (
    partition BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    reference TEXT
);

INSERT INTO log (singleton, format, log_id, name, partitions, created_at)
VALUES (1, 3, '6f1d2c3b-4a59-4e68-8d77-0a1b2c3d4e5f', 'orders', 1, 1767225600000000);

INSERT INTO partition_head (partition, epoch, head, last_recorded_at) VALUES (0, 7, 2, 1767225600000002);

INSERT INTO events (partition, position, event_id, stream_id, version, type, schema_version, recorded_at, size, digest, data)
VALUES
(0, 1, '00000000-0000-4000-8000-000000000001', 'order-1', 1, 'Placed', 1, 1767225600000001, 7, '\x01', '{"n":1}'),
(0, 2, '00000000-0000-4000-8000-000000000002', 'order-1', 2, 'Paid', 1, 1767225600000002, 7, '\x02', '{"n":2}');
