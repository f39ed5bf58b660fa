-- How far each partition has been relayed to a bus. `epoch` is that of the newest relay; an older one moves nothing.
CREATE TABLE IF NOT EXISTS relay (
    partition BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    reference TEXT
);
