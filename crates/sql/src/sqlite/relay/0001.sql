-- How far each partition has been relayed to a bus. `epoch` is that of the newest relay; an older one moves nothing.
CREATE TABLE relay (
    partition INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL,
    reference TEXT
) STRICT;
