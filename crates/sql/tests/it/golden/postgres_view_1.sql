-- A projection's read model, format 1, in one schema for each projection. The tables of a revision are made beside these, as
-- r{revision}_{table}; views with the tables' plain names show those of the active revision. Every statement may be run again.

CREATE TABLE IF NOT EXISTS hw_rollout (
    id             BIGINT PRIMARY KEY CHECK (id = 1),
    format         BIGINT NOT NULL,
    name           TEXT,                     -- of the projection
    version        BIGINT NOT NULL,
    log_id         UUID,                     -- with the first revision
    partitions     BIGINT,
    start          TEXT,                     -- token that every revision starts at
    active         BIGINT,
    candidate      BIGINT,
    previous       BIGINT,
    previous_until BIGINT,                   -- microseconds since 1970, UTC, as all times here
    held_digest    TEXT,
    last_revision  BIGINT NOT NULL,
    writes         BIGINT NOT NULL,          -- batches applied: the version of the rows that they wrote
    decisions      BIGINT NOT NULL           -- changes of hw_skips
);

CREATE TABLE IF NOT EXISTS hw_revisions (
    revision   BIGINT PRIMARY KEY,
    digest     TEXT   NOT NULL,
    definition TEXT   NOT NULL,
    tables     TEXT   NOT NULL,              -- JSON
    created_at BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS hw_checkpoints (
    revision    BIGINT NOT NULL REFERENCES hw_revisions ON DELETE CASCADE,
    partition   BIGINT NOT NULL,
    position    BIGINT NOT NULL,
    recorded_at BIGINT,
    parked      BIGINT NOT NULL,
    skipped     BIGINT NOT NULL,
    PRIMARY KEY (revision, partition)
);

CREATE TABLE IF NOT EXISTS hw_parked_streams (
    revision  BIGINT NOT NULL REFERENCES hw_revisions ON DELETE CASCADE,
    stream_id TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    version   BIGINT NOT NULL,
    count     BIGINT NOT NULL,
    reason    TEXT   NOT NULL,
    since     BIGINT NOT NULL,
    PRIMARY KEY (revision, stream_id)
);

CREATE TABLE IF NOT EXISTS hw_parked_events (
    revision   BIGINT NOT NULL,
    stream_id  TEXT COLLATE "C" NOT NULL,
    position   BIGINT NOT NULL,
    event_id   UUID   NOT NULL,
    event_type TEXT   NOT NULL,
    PRIMARY KEY (revision, stream_id, position),
    FOREIGN KEY (revision, stream_id) REFERENCES hw_parked_streams ON DELETE CASCADE
);

-- Events that people decided to skip, in every revision from then on.
CREATE TABLE IF NOT EXISTS hw_skips (
    event_id  UUID PRIMARY KEY,
    partition BIGINT NOT NULL,
    position  BIGINT NOT NULL,
    at        BIGINT NOT NULL
);

INSERT INTO hw_rollout (id, format, version, last_revision, writes, decisions) VALUES (1, 1, 0, 0, 0, 0)
ON CONFLICT DO NOTHING
