"""Which slot of a region's map a device belongs to: the hash of Redis Cluster, so that a proxy can compute it, too."""

import binascii

SLOTS = 16_384


def slot_of(device_id: bytes) -> int:
    """CRC-16/XMODEM of the id's 16 bytes, modulo `SLOTS`."""
    return binascii.crc_hqx(device_id, 0) % SLOTS
