-- What the shards of a federation share. Times are the clock of this database, which all of them can see.

CREATE TABLE map (
    epoch bigint NOT NULL               -- one more with every change of who is a shard and where, or of whose a slot is
);
CREATE UNIQUE INDEX map_exactly_one ON map ((true));
INSERT INTO map VALUES (0);

CREATE TABLE shards (
    shard_id text PRIMARY KEY,
    region text NOT NULL,
    url text NOT NULL,
    sharing text NOT NULL CHECK (sharing IN ('patterns', 'aggregates')),
    epoch bigint NOT NULL,              -- map epoch that it serves by
    heartbeat timestamptz NOT NULL,
    devices bigint NOT NULL,
    patterns bigint NOT NULL,
    codebook_version bigint NOT NULL    -- newest under which all its patterns are in buckets; 0 = none yet
);

CREATE TABLE slots (
    region text NOT NULL,
    slot integer NOT NULL CHECK (slot BETWEEN 0 AND 16383),
    shard_id text NOT NULL REFERENCES shards,
    PRIMARY KEY (region, slot)
);

CREATE TABLE codebooks (
    version bigint PRIMARY KEY,
    content bytea NOT NULL,
    checksum text NOT NULL,
    published_at timestamptz NOT NULL
);

CREATE TABLE rounds (
    number bigint PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('collecting', 'merging', 'published', 'abandoned')),
    opened_at timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    map_epoch bigint NOT NULL,
    codebook_version bigint NOT NULL REFERENCES codebooks,
    terms bytea NOT NULL,
    expected integer NOT NULL,          -- shards that are asked
    reported integer NOT NULL DEFAULT 0,    -- shards that are in the result
    devices bigint NOT NULL DEFAULT 0,
    patterns bigint NOT NULL DEFAULT 0,
    prototypes bigint NOT NULL DEFAULT 0,
    trends bigint NOT NULL DEFAULT 0,
    result bytea,
    ended_at timestamptz,               -- published or abandoned
    why text NOT NULL DEFAULT ''        -- what was refused or missing
);
CREATE UNIQUE INDEX rounds_at_most_one_goes_on ON rounds ((true)) WHERE state IN ('collecting', 'merging');

CREATE TABLE releases (                 -- what rounds with noise have cost: never deleted
    round bigint PRIMARY KEY,
    at bigint NOT NULL,                 -- unix seconds
    multiplier double precision NOT NULL,
    names_delta double precision NOT NULL,
    epsilon double precision NOT NULL,  -- of this one
    spent double precision              -- of all of its window, this one included; null if the worker had no budget
);

CREATE TABLE partials (
    round bigint NOT NULL REFERENCES rounds ON DELETE CASCADE,
    shard_id text NOT NULL,             -- every shard that is asked has a row
    content bytea,                      -- once it has reported
    reported_at timestamptz,
    PRIMARY KEY (round, shard_id)
);
ALTER TABLE partials ALTER content SET STORAGE EXTERNAL;  -- compressed already

CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,               -- for people
    epoch bigint NOT NULL,              -- one more with every holder: what an earlier one still sends is refused
    until timestamptz NOT NULL
);
