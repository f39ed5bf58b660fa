-- A projection's read model, format 1. The tables of a revision are made beside these, as r{revision}_{table};
-- views with the tables' plain names show those of the active revision.

-- Which revisions there are and what each is for. One row.
CREATE TABLE hw_rollout (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    version        INTEGER NOT NULL,
    log_id         BLOB,               -- the log's UUID, with the first revision
    partitions     INTEGER,
    start          TEXT,               -- token that every revision starts at
    active         INTEGER,
    candidate      INTEGER,
    previous       INTEGER,
    previous_until INTEGER,            -- microseconds since 1970, as all moments here
    held_digest    TEXT,
    last_revision  INTEGER NOT NULL,
    writes         INTEGER NOT NULL,   -- batches applied: the version of the rows that they wrote
    decisions      INTEGER NOT NULL    -- changes of hw_skips
) STRICT;
INSERT INTO hw_rollout (id, version, last_revision, writes, decisions) VALUES (1, 0, 0, 0, 0);

CREATE TABLE hw_revisions (
    revision   INTEGER PRIMARY KEY,
    digest     TEXT NOT NULL,
    definition TEXT NOT NULL,
    tables     TEXT NOT NULL,          -- JSON
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE hw_checkpoints (
    revision    INTEGER NOT NULL REFERENCES hw_revisions ON DELETE CASCADE,
    partition   INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    recorded_at INTEGER,
    parked      INTEGER NOT NULL,
    skipped     INTEGER NOT NULL,
    PRIMARY KEY (revision, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE hw_parked_streams (
    revision  INTEGER NOT NULL REFERENCES hw_revisions ON DELETE CASCADE,
    stream_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (revision, stream_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE hw_parked_events (
    revision   INTEGER NOT NULL,
    stream_id  TEXT NOT NULL,
    position   INTEGER NOT NULL,
    event_id   BLOB NOT NULL,
    event_type TEXT NOT NULL,
    PRIMARY KEY (revision, stream_id, position),
    FOREIGN KEY (revision, stream_id) REFERENCES hw_parked_streams ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Events that people decided to skip, in every revision from then on.
CREATE TABLE hw_skips (
    event_id  BLOB PRIMARY KEY,
    partition INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    at        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
