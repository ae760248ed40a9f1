"""Households that were forgotten, so that a delta they sent before cannot bring them back.

Only a keyed hash of a device id is kept. A device may come again with a sequence above its last. Owned by the shard.
"""

from hashlib import blake2b

KEY_BYTES = 32
HASH_BYTES = 16


class Tombstones:
    """Hash of a forgotten device -> the last sequence that was applied."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._key = key
        self._sequences: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def hash_of(self, device_id: bytes) -> bytes:
        return blake2b(device_id, digest_size=HASH_BYTES, key=self._key).digest()

    def put(self, tombstone: bytes, sequence: int) -> None:
        """A device with this hash was forgotten; a later one counts if it was forgotten before."""
        self._sequences[tombstone] = max(sequence, self._sequences.get(tombstone, 0))

    def all(self) -> list[tuple[bytes, int]]:
        """Hashes with the last sequence of each."""
        return list(self._sequences.items())

    def last_sequence(self, device_id: bytes) -> int | None:
        """The last sequence of a forgotten device, None if there was no such device."""
        if not self._sequences:
            return None
        return self._sequences.get(self.hash_of(device_id))
