"""Households that were forgotten, so that a delta they sent before cannot bring them back.

Only a keyed hash of a device id is kept. A device may come again with a sequence above its last. Where devices came
from another shard, so did its tombstones, and among them the key of their hashes. Owned by the shard.
"""

from hashlib import blake2b

KEY_BYTES = 32
HASH_BYTES = 16


class Tombstones:
    """Hash of a forgotten device -> the last sequence that was applied; another shard's key -> 0."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._keys = [key]
        self._sequences: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def hash_of(self, device_id: bytes) -> bytes:
        return _hash(device_id, self._keys[0])

    def put(self, tombstone: bytes, sequence: int) -> bool:
        """A device with this hash was forgotten; a later one counts if it was forgotten before. Is this news?"""
        if tombstone in self._keys or sequence <= self._sequences.get(tombstone, -1):
            return False
        if len(tombstone) == KEY_BYTES:
            self._keys.append(tombstone)
        self._sequences[tombstone] = sequence
        return True

    def all(self) -> list[tuple[bytes, int]]:
        """Hashes with the last sequence of each."""
        return list(self._sequences.items())

    def portable(self) -> list[tuple[bytes, int]]:
        """The same for another shard."""
        return [(self._keys[0], 0), *self.all()] if self._sequences else []

    def last_sequence(self, device_id: bytes) -> int | None:
        """The last sequence of a forgotten device, None if there was no such device."""
        if not self._sequences:
            return None
        found = [self._sequences.get(_hash(device_id, key), -1) for key in self._keys]
        return max(found) if max(found) >= 0 else None


def _hash(device_id: bytes, key: bytes) -> bytes:
    return blake2b(device_id, digest_size=HASH_BYTES, key=key).digest()
