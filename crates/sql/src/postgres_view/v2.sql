-- Format 2: the processes that fold a projection together, and which of them has which partition. Apart from what is folded: a lease only
-- decides who tries. Times are this database's.

CREATE TABLE IF NOT EXISTS hw_members (
    id          UUID PRIMARY KEY,
    name        TEXT NOT NULL,            -- for people
    standing    TEXT NOT NULL,            -- folds, reserve, watches
    report      TEXT NOT NULL,            -- what it tells the others
    alive_until BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS hw_leases (
    partition   BIGINT PRIMARY KEY,
    holder      UUID,
    lease_until BIGINT NOT NULL
)
