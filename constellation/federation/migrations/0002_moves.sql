-- Slots on their way from one shard to another.

CREATE TABLE moves (
    number bigint PRIMARY KEY,
    from_shard text NOT NULL REFERENCES shards,
    to_shard text NOT NULL REFERENCES shards,
    slots integer[] NOT NULL,
    state text NOT NULL CHECK (state IN ('planned', 'copying', 'copied', 'owned', 'done', 'cancelled', 'undone')),
    devices bigint NOT NULL,            -- in these slots, about
    copied bigint NOT NULL DEFAULT 0,   -- told by the one
    imported bigint NOT NULL DEFAULT 0, -- and taken in by the other
    why text NOT NULL DEFAULT ''        -- it was taken back
);
CREATE INDEX moves_unfinished ON moves (number) WHERE state NOT IN ('done', 'undone');

CREATE TABLE moving (
    move bigint NOT NULL REFERENCES moves ON DELETE CASCADE,
    number bigint NOT NULL,
    devices bigint NOT NULL,
    content bytea NOT NULL,             -- a change, for the shard that they go to
    PRIMARY KEY (move, number)
);
