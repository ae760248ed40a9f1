"""Content-Type, Accept and Accept-Encoding."""

import pytest

from constellation.errors import UnsupportedMediaType
from constellation.wire.media import Media, accepts_zstd, negotiate, parse_content_type

JSON, MSGPACK = Media.JSON, Media.MSGPACK


@pytest.mark.parametrize(
    ("value", "media"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        (" application/json ;x=y;z", JSON),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
    ],
)
def test_content_type_names_the_media(value: str, media: Media) -> None:
    assert parse_content_type(value) is media


@pytest.mark.parametrize("value", [None, "", "text/plain", "application/jsonx", "json", "*/*", "x" * 100_000])
def test_other_content_types_are_refused_and_shown(value: str | None) -> None:
    with pytest.raises(UnsupportedMediaType, match="expected application/json or") as refused:
        parse_content_type(value)
    assert len(refused.value.detail) < 250


@pytest.mark.parametrize(
    ("accept", "mirror", "media"),
    [
        (None, JSON, JSON),
        ("", MSGPACK, MSGPACK),
        ("*/*", MSGPACK, MSGPACK),
        ("*/*", JSON, JSON),
        ("application/*", MSGPACK, MSGPACK),
        ("application/msgpack", JSON, MSGPACK),
        ("application/x-msgpack", JSON, MSGPACK),
        ("application/json", MSGPACK, JSON),
        ("application/json, application/msgpack", MSGPACK, MSGPACK),
        ("application/json;q=0.5, application/msgpack;q=0.9", JSON, MSGPACK),
        ("application/msgpack;q=0.5, */*", MSGPACK, JSON),
        ("application/msgpack;q=0, */*;q=0.1", MSGPACK, JSON),
        ("APPLICATION/MSGPACK ; Q=1.0", JSON, MSGPACK),
        ("text/html", JSON, JSON),
        ("application/msgpack;q=broken", JSON, JSON),
        ("application/msgpack;q=nan", JSON, JSON),
        ("application/msgpack;q=7", JSON, JSON),
        (",;,", JSON, JSON),
    ],
)
def test_reply_mirrors_the_request_unless_accept_prefers_the_other(
    accept: str | None, mirror: Media, media: Media
) -> None:
    assert negotiate(accept, mirror) is media


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip, br", False),
        ("zstd", True),
        ("gzip, ZSTD;q=0.3", True),
        ("zstd;q=0", False),
        ("*", False),
    ],
)
def test_zstd_is_accepted_when_it_is_named(value: str | None, accepted: bool) -> None:
    assert accepts_zstd(value) is accepted
