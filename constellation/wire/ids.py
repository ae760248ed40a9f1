"""UUIDs on the wire: 36 characters in JSON, 16 bytes or those characters in msgpack; elsewhere always 16 bytes."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from constellation.errors import Malformed
from constellation.model import ID_BYTES, Ids
from constellation.wire.media import Media
from constellation.wire.reading import Refusal, describe

NO_IDS: Ids = np.empty((0, ID_BYTES), np.uint8)

_BIN_16 = b"\xc4\x10"
_TEXT_LEN = 36
_HYPHENS = slice(8, 24, 5)
"""Where a UUID has its four hyphens."""
_RAW_BYTES_MAX = 64
"""A UUID in msgpack has at most 16 or 36 bytes and a head of 5: what is longer is not looked into."""
_EXPECTED = "a UUID such as 550e8400-e29b-41d4-a716-446655440000"


def read_ids(values: Sequence[str | Raw | bytes], path: str, refuse: Refusal) -> Ids:
    """(n, 16) bytes of n UUIDs; `path` has `{}` for the place of one. Writable, as kernels are compiled for that."""
    if not values:
        return NO_IDS
    whole = bytearray()
    for row, value in enumerate(values):
        try:
            whole += _parse(value)
        except _NotUuid as error:
            raise refuse(path.format(row), _EXPECTED, describe(error.args[0])) from None
    return np.frombuffer(whole, np.uint8).reshape(-1, ID_BYTES)


def read_id(value: str | Raw | bytes, path: str, refuse: Refusal) -> bytes:
    """One UUID as bytes."""
    try:
        return _parse(value)
    except _NotUuid as error:
        raise refuse(path, _EXPECTED, describe(error.args[0])) from None


def write_ids(ids: Ids, media: Media) -> list[str] | list[bytes]:
    """UUIDs as msgspec encodes them: canonical strings in JSON, bin in msgpack."""
    whole = ids.tobytes()
    if media is Media.MSGPACK:
        return [whole[start : start + ID_BYTES] for start in range(0, len(whole), ID_BYTES)]
    digits = whole.hex()
    return [_format(digits[start : start + 2 * ID_BYTES]) for start in range(0, len(digits), 2 * ID_BYTES)]


def write_id(value: bytes, media: Media) -> str | bytes:
    """One UUID as `write_ids` writes them."""
    return value if media is Media.MSGPACK else _format(value.hex())


def parse_uuid(text: str) -> bytes | None:
    """The bytes of a canonical UUID, in lower or upper case; None for any other string."""
    if len(text) != _TEXT_LEN or text[_HYPHENS] != "----":
        return None
    try:
        parsed = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return parsed if len(parsed) == ID_BYTES else None  # `fromhex` skips spaces


class _NotUuid(Exception):
    """What came instead of a UUID."""


def _parse(value: str | Raw | bytes) -> bytes:
    if isinstance(value, Raw):
        raw = bytes(value)
        if len(raw) == ID_BYTES + 2 and raw.startswith(_BIN_16):
            return raw[2:]
        decoded = _decode_raw(raw)
    else:
        decoded = value
    if isinstance(decoded, bytes) and len(decoded) == ID_BYTES:
        return decoded
    parsed = parse_uuid(decoded) if isinstance(decoded, str) else None
    if parsed is None:
        raise _NotUuid(decoded)
    return parsed


def _decode_raw(raw: bytes) -> Any:
    """The value of a short piece of msgpack, or its bytes where it is not short."""
    if len(raw) > _RAW_BYTES_MAX:
        return raw
    try:
        return msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"body: {error}") from None


def _format(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
