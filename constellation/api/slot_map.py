"""Which shard a device belongs to, as the last look at the shard map tells it."""

from constellation.federation.database import MapEntry
from constellation.slots import SLOTS, slot_of


class SlotMap:
    """The shards of every region; the slots of one region as its shards have them."""

    def __init__(self, epoch: int, shards: list[MapEntry], region: str) -> None:
        self.epoch, self.shards = epoch, shards
        self._owners: list[MapEntry | None] = [None] * SLOTS
        for entry in shards:
            if entry.region == region:
                for first, last in entry.slots:
                    self._owners[first : last + 1] = [entry] * (last + 1 - first)

    def owner(self, device_id: bytes) -> MapEntry | None:
        """The shard that has the device's slot; None if nobody has."""
        return self._owners[slot_of(device_id)]


def alone(shard_id: str, region: str) -> SlotMap:
    """The map of a shard without others."""
    return SlotMap(1, [MapEntry(shard_id, region, "", [(0, SLOTS - 1)], 0, 0, True, 1)], region)
