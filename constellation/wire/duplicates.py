"""Refuses a body that gives a name twice in one object, which msgspec lets pass with the last one winning.

Readers disagree about such bodies, so a proxy that checks `device_id` and a shard that uses it might see two devices.
Looks at the objects that a shape names, not into unknown fields. Costs about 9 us for a msgpack delta of two patterns.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw

from constellation.errors import Malformed
from constellation.wire.media import Media

NAMES_MAX = 16_384
"""Names in one msgpack map, colons in a JSON body (the largest delta has 4,200): bounds the time names can take."""

Shape = Mapping[str, "Shape | list[Shape]"]
"""The objects inside an object by the name that holds them: one, or in brackets a list."""
OpenObject = Callable[[bytes | Raw], dict[str, Raw]]
OpenList = Callable[[Raw], list[Raw] | None]


def refuse_duplicates(body: bytes, media: Media, shape: Shape) -> None:
    """Raises `Malformed`. The body has been decoded before: what `shape` names has the right type, or is null."""
    if media is Media.MSGPACK:
        _check(body, shape, _open_msgpack_map, _decode_msgpack_list)
        return
    if body.count(b":") > NAMES_MAX:
        raise Malformed(f"body: more than {NAMES_MAX} names in its objects")
    _check(body, shape, _open_json_object, _decode_json_list)


def _check(raw: bytes | Raw, shape: Shape, open_object: OpenObject, open_list: OpenList) -> None:
    values = open_object(raw)
    for name, inner in shape.items():
        value = values.get(name)
        if value is None:
            continue
        if isinstance(inner, list):
            for item in open_list(value) or ():
                _check(item, inner[0], open_object, open_list)
        else:
            _check(value, inner, open_object, open_list)


class _Name(str):
    """A name that equals only itself, so that a dict keeps both of two that read the same."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


_FIXMAP_END, _NULL, _MAP_16 = 0x90, 0xC0, 0xDE

_decode_msgpack_list = msgspec.msgpack.Decoder(list[Raw] | None).decode
_decode_msgpack_map = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_decode_json_list = msgspec.json.Decoder(list[Raw] | None).decode
_decode_json_object = msgspec.json.Decoder(dict[_Name, Raw] | None, dec_hook=lambda _, name: _Name(name)).decode


def _open_msgpack_map(raw: bytes | Raw) -> dict[str, Raw]:
    """The head of a map says how many names the dict must have."""
    view = memoryview(raw)
    head = view[0]
    if head == _NULL:
        return {}
    names_len = head & 0x0F if head < _FIXMAP_END else int.from_bytes(view[1 : 3 if head == _MAP_16 else 5])
    if names_len > NAMES_MAX:
        raise Malformed(f"body: more than {NAMES_MAX} names in one map")
    return _refuse_fewer(_decode_msgpack_map(raw), names_len)


def _open_json_object(raw: bytes | Raw) -> dict[str, Raw]:
    names = _decode_json_object(raw) or {}
    return _refuse_fewer({str(name): value for name, value in names.items()}, len(names))


def _refuse_fewer(values: dict[str, Raw], names_len: int) -> dict[str, Raw]:
    if len(values) != names_len:
        raise Malformed(f"body: a name comes twice in the object of {', '.join(values)[:200]}")
    return values
