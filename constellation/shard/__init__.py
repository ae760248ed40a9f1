"""The state of one shard and its rules; `Shard` is the only way in. No I/O, no clock, no event loop."""

from constellation.shard.federating import Taste
from constellation.shard.shard import Shard
from constellation.shard.sizing import memory_bytes

__all__ = ["Shard", "Taste", "memory_bytes"]
