-- Format 2: the processes that write a log together.

CREATE TABLE IF NOT EXISTS member (
    id          TEXT PRIMARY KEY,
    address     TEXT NOT NULL,
    alive_until BIGINT NOT NULL
);
