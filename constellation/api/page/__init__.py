"""The page at `/`: what a shard does, live, for people. Made of what is measured anyway; nothing depends on it."""
