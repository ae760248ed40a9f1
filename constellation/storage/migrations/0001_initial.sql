-- What one shard keeps. A database holds one shard. Times are unix seconds, hours are unix seconds / 3,600.
-- Where the extension has no halfvec (before 0.7), vector is put in its place.

CREATE TABLE shards (
    id text PRIMARY KEY,
    epoch bigint NOT NULL,              -- one more with every claim: a writer with an older one is fenced
    journal_id bytea NOT NULL,          -- the journal whose positions these are
    position bigint NOT NULL,           -- everything up to it is in this database
    version bigint NOT NULL,            -- global version of the last change written
    owner text NOT NULL,                -- who claimed it last, for people
    tombstone_key bytea NOT NULL,
    claimed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX shards_at_most_one ON shards ((true));

CREATE TABLE devices (
    id uuid PRIMARY KEY,
    sequence bigint NOT NULL,
    fingerprint bigint NOT NULL,        -- 64 bits without a sign, kept as two's complement
    cursor bigint NOT NULL,
    last_sync bigint NOT NULL,
    credit_hour bigint NOT NULL,
    credit_used bigint NOT NULL,
    position bigint NOT NULL            -- journal position that the row reflects
);

CREATE TABLE patterns (
    device_id uuid NOT NULL,
    id uuid NOT NULL,
    embedding halfvec(384) NOT NULL,    -- the code's unit vector; exactly the same code comes back from it
    success_rate real NOT NULL,
    sample_count integer NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    entered bigint NOT NULL,
    version bigint NOT NULL,
    item_samples bigint NOT NULL,
    item_hour bigint NOT NULL,
    context jsonb NOT NULL,
    item text NOT NULL,                 -- what trends credit it to: a content id, genre:<name> or nothing
    PRIMARY KEY (device_id, id)
);
CREATE INDEX patterns_success_rate ON patterns (success_rate);

CREATE TABLE content (
    number bigint PRIMARY KEY,          -- order of first posting
    code halfvec(384) NOT NULL,         -- as patterns.embedding
    content_id text NOT NULL UNIQUE,
    title text NOT NULL,
    metadata jsonb NOT NULL             -- null where none was posted
);

CREATE TABLE trend_counts (
    hour bigint NOT NULL,
    count bigint NOT NULL,
    item text NOT NULL,
    PRIMARY KEY (item, hour)
);
CREATE INDEX trend_counts_hour ON trend_counts (hour);  -- by it they are deleted after a week

CREATE TABLE tombstones (
    hash bytea PRIMARY KEY,
    sequence bigint NOT NULL,
    at bigint NOT NULL
);
