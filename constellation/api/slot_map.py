"""Which shard a device belongs to, as the last look at the shard map tells it."""

import msgspec

from constellation.federation.database import Held, MapEntry
from constellation.slots import SLOTS


class Place(msgspec.Struct, frozen=True, array_like=True):
    """What a shard knows of whom it serves: the map, and those of its slots that are on their way to another shard."""

    epoch: int
    shards: list[MapEntry]
    leaving: list[int]


class SlotMap:
    """The shards of every region; the slots of one region as its shards have them."""

    def __init__(self, place: Place, region: str, was_told: bool = True) -> None:
        """`was_told`: by a coordinator database, in this life or an earlier one."""
        self.place, self.epoch, self.shards = place, place.epoch, place.shards
        self.leaving = frozenset(place.leaving)
        self.was_told = was_told
        self._region = [entry for entry in place.shards if entry.region == region]
        self._owners: list[MapEntry | None] = [None] * SLOTS
        for entry in self._region:
            for first, last in entry.slots:
                self._owners[first : last + 1] = [entry] * (last + 1 - first)

    def held(self, shard_id: str) -> Held | None:
        """What this shard of the region has by a map that was told; None before the first."""
        mine = [entry.slots for entry in self._region if entry.shard_id == shard_id and self.was_told]
        return Held(self.epoch, [slot for first, last in mine[0] for slot in range(first, last + 1)]) if mine else None

    def owner(self, slot: int) -> MapEntry | None:
        """The shard that has the slot; None if nobody has."""
        return self._owners[slot]


def alone(shard_id: str, region: str) -> SlotMap:
    """The map of a shard without others."""
    place = Place(1, [MapEntry(shard_id, region, "", [(0, SLOTS - 1)], 0, 0, True, 1, 0.0)], [])
    return SlotMap(place, region, was_told=False)
