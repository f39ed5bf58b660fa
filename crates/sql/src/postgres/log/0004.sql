-- Format 4: whose the log is. One of an older format is the first's who comes.
CREATE TABLE IF NOT EXISTS log_owner (
    singleton BIGINT PRIMARY KEY CHECK (singleton = 1),
    namespace TEXT NOT NULL,
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,
    uid       TEXT,                          -- NULL: not known
    since     BIGINT NOT NULL
);
