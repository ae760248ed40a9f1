"""What was acknowledged survives: real shards and real databases, killed, cut off, filled up and failed over."""
