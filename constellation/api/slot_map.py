"""Which shard a device belongs to, as the last look at the shard map tells it."""

import msgspec

from constellation.federation.database import MapEntry
from constellation.slots import SLOTS


class Place(msgspec.Struct, frozen=True, array_like=True):
    """What a shard knows of whom it serves: the map, and those of its slots that are on their way to another shard."""

    epoch: int
    shards: list[MapEntry]
    leaving: list[int]


class SlotMap:
    """The shards of every region; the slots of one region as its shards have them."""

    def __init__(self, place: Place, region: str) -> None:
        self.place, self.epoch, self.shards = place, place.epoch, place.shards
        self.leaving = frozenset(place.leaving)
        self._owners: list[MapEntry | None] = [None] * SLOTS
        for entry in place.shards:
            if entry.region == region:
                for first, last in entry.slots:
                    self._owners[first : last + 1] = [entry] * (last + 1 - first)

    def owner(self, slot: int) -> MapEntry | None:
        """The shard that has the slot; None if nobody has."""
        return self._owners[slot]


def alone(shard_id: str, region: str) -> SlotMap:
    """The map of a shard without others."""
    return SlotMap(Place(1, [MapEntry(shard_id, region, "", [(0, SLOTS - 1)], 0, 0, True, 1, 0.0)], []), region)
