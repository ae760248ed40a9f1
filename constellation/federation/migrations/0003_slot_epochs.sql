-- Of two that say whose a slot is, a database and a shard that remembers, the one with the higher map epoch is right.

ALTER TABLE slots ADD epoch bigint NOT NULL DEFAULT 0;  -- 0: free slots that a new shard took
UPDATE slots SET epoch = (SELECT epoch FROM map);
