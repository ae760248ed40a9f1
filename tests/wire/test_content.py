"""Content items: what is kept, what is refused, and that they come back."""

from typing import Any

import numpy as np
import pytest

from constellation.errors import InvalidContent, Malformed
from constellation.model import DIM
from constellation.wire.content import decode_content, encode_content
from constellation.wire.media import Media
from tests.wire.samples import (
    BOTH,
    FORMS,
    Fields,
    Path,
    changed,
    decode,
    encode,
    path_text,
    pattern_fields,
    put,
    without,
)


def content_fields() -> Fields:
    return {
        "content_id": "film-1",
        "title": "Solaris",
        "embedding": pattern_fields(1)["embedding"],
        "metadata": {"genre": "science fiction", "year": 1972, "duration_min": 167},
    }


@BOTH
def test_an_item_comes_back_in_every_form(media: Media) -> None:
    item = decode_content(encode(content_fields(), media), media)
    for form in FORMS:
        again = decode_content(encode_content(item, media, form), media)
        np.testing.assert_array_equal(again.code, item.code)
        assert (again.content_id, again.title, again.metadata) == ("film-1", "Solaris", content_fields()["metadata"])


@BOTH
@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        (None, None),
        ({}, {}),
        ({"genre": "drama"}, {"genre": "drama"}),
        ({"year": None, "director": ["x"]}, {"year": None}),
    ],
)
def test_metadata_keep_what_was_posted(media: Media, metadata: Any, kept: Any) -> None:
    item = decode_content(encode(content_fields() | {"metadata": metadata}, media), media)
    assert item.metadata == kept
    reply = decode(encode_content(item, media, "i8"), media)
    assert reply.get("metadata") == kept
    assert ("metadata" in reply) is (kept is not None)


@BOTH
def test_metadata_may_be_absent(media: Media) -> None:
    assert decode_content(encode(without(content_fields(), ("metadata",)), media), media).metadata is None


BAD: dict[Path, list[Any]] = {
    ("content_id",): ["genre:", "genre:drama", "", "x" * 65, "\u00e9" * 33, "a\0b", 1, None],
    ("title",): ["", "x" * 257, "\0", None, []],
    ("embedding",): [None, "", [], [0.0] * DIM, [1e300] * DIM, "A" * 512],
    ("metadata",): ["drama", [], 1],
    ("metadata", "genre"): ["x" * 65, ["drama"], 1],
    ("metadata", "year"): [1799, 3001, 1972.0, "1972", True],
    ("metadata", "duration_min"): [-1, 100_001, 90.5, "90"],
}


@BOTH
@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in BAD.items() for value in values], ids=repr
)
def test_a_bad_field_is_refused_with_its_path(media: Media, path: Path, value: Any) -> None:
    with pytest.raises(InvalidContent) as refused:
        decode_content(encode(changed(content_fields(), path, put(value)), media), media)
    assert refused.value.path == path_text(path)


@BOTH
@pytest.mark.parametrize("name", ["content_id", "title", "embedding"])
def test_a_missing_field_is_refused_with_its_path(media: Media, name: str) -> None:
    with pytest.raises(InvalidContent) as refused:
        decode_content(encode(without(content_fields(), (name,)), media), media)
    assert refused.value.path == name


@BOTH
def test_a_cut_body_is_malformed(media: Media) -> None:
    body = encode(content_fields(), media)
    for end in (0, 1, 20, len(body) // 2, len(body) - 1):
        with pytest.raises(Malformed):
            decode_content(body[:end], media)
