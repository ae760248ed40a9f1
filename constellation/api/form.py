"""In which form a body came and its reply goes: media types and encodings, out of four headers."""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from constellation.wire.media import Media, accepts_zstd, negotiate, parse_content_type


class Form(msgspec.Struct, frozen=True):
    """How a request is written and how its reply must be."""

    media: Media
    encoding: str
    reply_media: Media
    reply_zstd: bool


def read_form(headers: Mapping[bytes, bytes]) -> Form:
    """Raises `UnsupportedMediaType` for the type; an unknown encoding fails where the body is decompressed."""
    return _form(
        headers.get(b"content-type"),
        headers.get(b"content-encoding"),
        headers.get(b"accept"),
        headers.get(b"accept-encoding"),
    )


def reply_media(headers: Mapping[bytes, bytes]) -> Media:
    """What `Accept` asks for, else the type of the request's own body, else JSON. Never fails: errors use it, too."""
    mirror = Media.MSGPACK if b"msgpack" in headers.get(b"content-type", b"").lower() else Media.JSON
    return negotiate(_text(headers.get(b"accept")), mirror)


@lru_cache(maxsize=1024)
def _form(
    content_type: bytes | None, content_encoding: bytes | None, accept: bytes | None, accept_encoding: bytes | None
) -> Form:
    # Remembered: a fleet has few kinds of TVs, and parsing lists of weights for each sync costs 10 us.
    media = parse_content_type(_text(content_type))
    return Form(
        media=media,
        encoding=(_text(content_encoding) or "identity").strip().lower(),
        reply_media=negotiate(_text(accept), media),
        reply_zstd=accepts_zstd(_text(accept_encoding)),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
