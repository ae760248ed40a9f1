"""Refuses a body that gives a name twice in one object, which msgspec lets pass with the last one winning.

Readers disagree about such bodies, so a proxy that checks `device_id` and a shard that uses it might see two devices.
Looks at the objects that a shape names, not into unknown fields. Costs 4 us for a msgpack delta of two patterns.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from constellation.errors import Malformed
from constellation.wire.media import Media

NAMES_PER_BODY_MAX = 16_384
"""Names in the known objects of one body; the largest delta has some 4,200. Bounds the time of the search."""

Shape = Mapping[str, "Shape | list[Shape]"]
"""The objects inside an object by the name that holds them: one, or in brackets a list."""
Open = Callable[[bytes | Raw], dict[str, Raw]]

_open_msgpack_map = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_open_json_list = msgspec.json.Decoder(list[Raw] | None).decode
_open_msgpack_list = msgspec.msgpack.Decoder(list[Raw] | None).decode


def refuse_duplicates(body: bytes, media: Media, shape: Shape) -> None:
    """Raises `Malformed`. The body has been decoded before: what `shape` names has the right type, or is null."""
    counter = _Counter()
    if media is Media.JSON:
        _check(body, shape, counter.open_json, _open_json_list)
    else:
        _check(body, shape, counter.open_msgpack, _open_msgpack_list)


def _check(raw: bytes | Raw, shape: Shape, open_object: Open, open_list: Callable[[Raw], list[Raw] | None]) -> None:
    names = open_object(raw)
    for name, inner in shape.items():
        value = names.get(name)
        if value is None:
            continue
        if isinstance(inner, list):
            for item in open_list(value) or ():
                _check(item, inner[0], open_object, open_list)
        else:
            _check(value, inner, open_object, open_list)


class _Name(str):
    """A name that equals only itself, so that a dict keeps both of two equal ones."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class _Counter:
    """Opens the objects of one body and counts their names."""

    def __init__(self) -> None:
        self._left = NAMES_PER_BODY_MAX

    def open_json(self, raw: bytes | Raw) -> dict[str, Raw]:
        names = msgspec.json.decode(raw, type=dict[_Name, Raw] | None, dec_hook=self._take_name) or {}
        values = {str(name): value for name, value in names.items()}
        _check_len(values, len(names))
        return values

    def open_msgpack(self, raw: bytes | Raw) -> dict[str, Raw]:
        head = bytes(memoryview(raw)[:5])
        if head[0] == 0xC0:  # null
            return {}
        names_len = head[0] & 0x0F if head[0] < 0x90 else int.from_bytes(head[1 : 3 if head[0] == 0xDE else 5])
        self._take(names_len)
        values = _open_msgpack_map(raw)
        _check_len(values, names_len)
        return values

    def _take_name(self, _: type, name: Any) -> _Name:
        self._take(1)
        return _Name(name)

    def _take(self, names_len: int) -> None:
        self._left -= names_len
        if self._left < 0:
            raise Malformed(f"body: more than {NAMES_PER_BODY_MAX} names in its objects")


def _check_len(values: dict[str, Raw], names_len: int) -> None:
    if len(values) != names_len:
        raise Malformed(f"body: a name comes twice in the object that has {', '.join(sorted(values)[:12])[:200]}")
