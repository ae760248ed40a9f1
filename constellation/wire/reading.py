"""Typed decoding of untrusted bodies: msgspec does the work, here every way to fail becomes a problem with a path.

Not of the declared type or nested too deeply: `Malformed`. Of the right type but with a field missing, mistyped or
out of range: what the body's `Refusal` makes. Of a name that comes twice in one object the last one counts, and it may
not be the one that a proxy read. Used by the codecs of sync, reply, content.
"""

import re
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from constellation.errors import Malformed, Problem
from constellation.wire.media import Media

SHOWN_MAX = 40
"""Longest value, in characters, that an error repeats."""

Json = TypeVar("Json")
Msgpack = TypeVar("Msgpack")


class Refusal(Protocol):
    """Makes the problem of one field: where, what was expected, what came."""

    def __call__(self, path: str, expected: str, got: str) -> Problem: ...


def refusal(problem: type[Problem]) -> Refusal:
    """The refusal that makes problems of one class."""

    def refuse(path: str, expected: str, got: str) -> Problem:
        return problem(f"{path or 'body'}: expected {expected}, got {got}", path=path or None)

    return refuse


class Reader(Generic[Json, Msgpack]):
    """Decodes one kind of body to a Struct: one type for JSON, one for msgpack, which differ in ids and embeddings."""

    def __init__(self, json: type[Json], msgpack: type[Msgpack], refuse: Refusal) -> None:
        self._json = msgspec.json.Decoder(json)
        self._msgpack = msgspec.msgpack.Decoder(msgpack)
        self._refuse = refuse

    def read(self, body: bytes, media: Media) -> Json | Msgpack:
        """Raises `Malformed`, or what the refusal makes."""
        try:
            return self._read(body, media)
        except RecursionError:
            raise Malformed("body: nested too deeply") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"body: {error}") from None

    def _read(self, body: bytes, media: Media) -> Json | Msgpack:
        if media is Media.JSON and not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        try:
            return (self._json if media is Media.JSON else self._msgpack).decode(body)
        except msgspec.ValidationError as error:
            _SYNTAX[media].decode(body)  # a field is only to blame if all the bytes are what they claim to be
            raise _translate(str(error), self._refuse) from None


_SYNTAX: dict[Media, msgspec.json.Decoder[msgspec.Raw] | msgspec.msgpack.Decoder[msgspec.Raw]] = {
    Media.JSON: msgspec.json.Decoder(msgspec.Raw),
    Media.MSGPACK: msgspec.msgpack.Decoder(msgspec.Raw),
}


def check_range(values: Iterable[float], low: float, high: float, path: str, refuse: Refusal) -> None:
    """Refuse the first value outside low..high, NaN too; `path` has `{}` for its place."""
    for row, value in enumerate(values):
        if not low <= value <= high:
            raise refuse(path.format(row), f"{low}..{high}", describe(value))


def check_text(text: str, len_bytes_min: int, len_bytes_max: int, path: str, refuse: Refusal) -> None:
    """Refuse a string of too few or too many bytes, and NUL, which PostgreSQL cannot store."""
    len_bytes = len(text.encode())
    if not len_bytes_min <= len_bytes <= len_bytes_max:
        raise refuse(path, f"{len_bytes_min}..{len_bytes_max} bytes of UTF-8", f"{len_bytes} bytes")
    if "\0" in text:
        raise refuse(path, "a string without NUL", describe(text))


def describe(value: Any) -> str:
    """A value as an error shows it: itself if it is short, else its size or type."""
    if isinstance(value, str) and len(value) > SHOWN_MAX:
        return f"a string of {len(value)} characters"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 2 * SHOWN_MAX else f"a {type(value).__name__}"


_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`")
_MISTYPED = re.compile(r"Expected `(?P<expected>[^`]*)`(?P<bound>[^,]*)(?:, got `(?P<got>.*)`)?")


def _translate(message: str, refuse: Refusal) -> Problem:
    """msgspec's message, such as "Expected `int`, got `str` - at `$.delta.sequence`", as the problem of that field."""
    match = _MESSAGE.fullmatch(message)
    assert match is not None
    what, path = match["what"], match["path"] or ""
    if missing := _MISSING.fullmatch(what):
        return refuse(f"{path}.{missing['field']}".lstrip("."), "a value", "nothing")
    if mistyped := _MISTYPED.fullmatch(what):
        return refuse(path, mistyped["expected"] + mistyped["bound"], mistyped["got"] or "one beyond that")
    return refuse(path, "a value in range", what[:1].lower() + what[1:])
