"""Who was forgotten since a backup was taken, and a backup's rows without them. Part of `restore`.

A device of the backup stays out if the database or its journal has a tombstone of it that is later than the backup's
own; without a later one it had come again before the backup was taken.
"""

from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from constellation.records import Change, Forgotten, only
from constellation.storage.loading import Tombstone, tombstones
from constellation.storage.migrating import LONG_COMMAND_S_MAX


class Graves:
    """Tombstones that the database and its journal knew, by their hashes under the backup's key (`known`).

    Hashes are those of `shard.tombstones`. Those that were made under another key are found by the devices of the
    backup that they are of.
    """

    def __init__(self, own: dict[bytes, Tombstone], key: bytes, old_key: bytes) -> None:
        """The backup's own tombstones and its key; the key of the database."""
        self._own, self._key, self._old_key = own, key, old_key
        self.known: dict[bytes, Tombstone] = {}
        self.kept_out: set[bytes] = set()
        self._foreign: dict[bytes, Tombstone] = {}

    async def read(self, connection: Any, journaled: list[Forgotten]) -> None:
        """Those of the database, which loses them where its key is another, and of the journal."""
        stored = {dead.hash: dead for dead in await tombstones(connection)}
        if self._key == self._old_key:
            self.known = stored
        else:
            self._foreign = stored
            await connection.execute("DELETE FROM tombstones", timeout=LONG_COMMAND_S_MAX)
        for dead in journaled:
            # One that came from another shard is a hash alone.
            self._add(_hash(self._key, dead.device_id) if dead.device_id else dead.tombstone, Tombstone(*dead[1:]))

    @property
    def lost(self) -> int:
        return len(self._foreign)

    def without(self, change: Change, debts: list[tuple[str, int, int]]) -> Change:
        """The change without them and without tombstones; what trends credited them with is put into debts."""
        ids = [row.tobytes() for row in change.devices.ids]
        if self.known or self._foreign:
            self.kept_out.update(device for device in ids if self._is_forgotten(device))
        stays = np.array([device not in self.kept_out for device in ids], bool)
        rows = change.patterns
        remain = np.array([owner.tobytes() not in self.kept_out for owner in rows.owners], bool)
        debts += [
            (rows.items[row], int(rows.item_samples[row]), int(rows.item_hours[row]))
            for row in np.flatnonzero(~remain).tolist()
            if rows.items[row]
        ]
        return msgspec.structs.replace(
            change, forgotten=[], devices=only(change.devices, stays), patterns=only(rows, remain)
        )

    def _is_forgotten(self, device_id: bytes) -> bool:
        """Was it after the backup's own tombstone of that device, if there is one? Else it had come again since."""
        of = _hash(self._key, device_id)
        if self._foreign and (foreign := self._foreign.pop(_hash(self._old_key, device_id), None)):
            self._add(of, foreign)
        dead, own = self.known.get(of), self._own.get(of)
        return dead is not None and (own is None or (dead.at, dead.sequence) > (own.at, own.sequence))

    def _add(self, of: bytes, dead: Tombstone) -> None:
        before = self.known.get(of, dead)
        self.known[of] = Tombstone(of, max(before.sequence, dead.sequence), max(before.at, dead.at))


def _hash(key: bytes, device_id: bytes) -> bytes:
    return blake2b(device_id, digest_size=16, key=key).digest()
