"""`decode_sync`: one meaning in every form, and the fingerprint of that meaning."""

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings

from constellation.limits import SAMPLE_COUNT_MAX, UNIX_SECONDS_MAX
from constellation.model import (
    DIM,
    VERSION_MAX,
    Delta,
)
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import decode_sync
from tests.wire.samples import (
    ADDED,
    BOTH,
    DEVICE_ID,
    FORMS,
    UPDATED,
    Fields,
    Path,
    assert_same_batch,
    changed,
    deltas,
    encode,
    pattern_fields,
    sync_fields,
    uuid_text,
    without,
)


@given(deltas())
@settings(max_examples=60)
def test_every_form_of_a_delta_decodes_to_the_same(delta: Delta) -> None:
    fingerprints = set()
    for media in Media:
        for form in FORMS:
            request = decode_sync(encode_delta(DEVICE_ID, delta, media, form), media)
            assert request.device_id == DEVICE_ID
            assert_same_batch(request.delta.added, delta.added)
            np.testing.assert_array_equal(request.delta.updated.ids, delta.updated.ids)
            np.testing.assert_array_equal(request.delta.updated.rates, delta.updated.rates)
            np.testing.assert_array_equal(request.delta.updated.samples, delta.updated.samples)
            np.testing.assert_array_equal(request.delta.removed, delta.removed)
            assert (request.delta.local_version, request.delta.sequence) == (delta.local_version, delta.sequence)
            fingerprints.add(request.delta.fingerprint)
    assert len(fingerprints) == 1


@BOTH
def test_columns_are_writable_and_contiguous(media: Media) -> None:
    added = decode_sync(encode(sync_fields(), media), media).delta.added
    for column in (added.ids, added.codes, added.rates, added.counts, added.created_at, added.updated_at):
        assert column.flags.writeable
        assert column.flags.c_contiguous


@BOTH
def test_unknown_fields_are_ignored_everywhere(media: Media) -> None:
    plain = decode_sync(encode(sync_fields(), media), media)
    fields = sync_fields()
    for place in (fields, fields["delta"], fields["delta"]["patterns_added"][0]["context"]):
        place["x"] = {"y": [1, None, {"y": 2.5}], "z": "\u00e9"}
    fields["delta"]["patterns_added"][1]["origin"] = "device"
    fields["delta"]["patterns_updated"][0]["x"] = 2**63
    assert decode_sync(encode(fields, media), media).delta.fingerprint == plain.delta.fingerprint


@BOTH
@pytest.mark.parametrize("name", ["local_version", "sequence"])
def test_local_version_and_sequence_may_be_absent_or_null(media: Media, name: str) -> None:
    for fields in (without(sync_fields(), ("delta", name)), changed(sync_fields(), ("delta", name), lambda _: None)):
        assert getattr(decode_sync(encode(fields, media), media).delta, name) is None


def test_ids_may_be_upper_case_text_or_bytes() -> None:
    for media, change in (
        (Media.JSON, str.upper),
        (Media.MSGPACK, str.upper),
        (Media.MSGPACK, lambda text: UUID(text).bytes),
    ):
        fields = changed(sync_fields(), ("device_id",), change)
        fields = changed(fields, ("delta", "patterns_removed", 0), change)
        request = decode_sync(encode(fields, media), media)
        assert request.device_id == DEVICE_ID
        assert request.delta.removed[0].tobytes() == UUID(int=6).bytes


def test_an_id_may_be_in_any_of_msgpacks_encodings() -> None:
    expected = decode_sync(encode(sync_fields(), Media.MSGPACK), Media.MSGPACK).device_id
    text = str(UUID(bytes=DEVICE_ID)).encode()
    plain = b"\xd9\x24" + text
    body = encode(sync_fields(), Media.MSGPACK)
    assert body.count(plain) == 1
    for other in (
        *(b"\xda\x00\x24" + text, b"\xdb\x00\x00\x00\x24" + text),
        *(b"\xc4\x10" + DEVICE_ID, b"\xc5\x00\x10" + DEVICE_ID, b"\xc6\x00\x00\x00\x10" + DEVICE_ID),
    ):
        assert decode_sync(body.replace(plain, other), Media.MSGPACK).device_id == expected


@BOTH
def test_integers_are_good_floats(media: Media) -> None:
    fields = changed(sync_fields(), (*ADDED, "success_rate"), lambda _: 1)
    fields = changed(fields, (*ADDED, "embedding"), lambda _: [1] * DIM)
    added = decode_sync(encode(fields, media), media).delta.added
    assert added.rates[1] == 1
    assert (added.codes[1] == 127).all()


@BOTH
def test_bounds_themselves_are_allowed(media: Media) -> None:
    low = {"success_rate": 0.0, "sample_count": 1, "created_at": 0, "updated_at": 0}
    high = {
        "success_rate": 1.0,
        "sample_count": SAMPLE_COUNT_MAX,
        "created_at": UNIX_SECONDS_MAX,
        "updated_at": UNIX_SECONDS_MAX,
    }
    context = {
        "time_of_day": "",
        "day_of_week": "x" * 32,
        "content_type": "\u00e9" * 16,
        "genre_hints": ["\U0001f3ac" * 8] * 8,
    }
    fields = sync_fields()
    fields["delta"]["patterns_added"][0] |= low
    fields["delta"]["patterns_added"][1] |= high | {"context": context}
    fields["delta"] |= {"local_version": 0, "sequence": VERSION_MAX}
    added = decode_sync(encode(fields, media), media).delta.added
    assert added.counts.tolist()[:2] == [1, SAMPLE_COUNT_MAX]
    assert added.contexts[1].genre_hints == ("\U0001f3ac" * 8,) * 8


@BOTH
def test_minus_zero_is_zero(media: Media) -> None:
    fields = changed(sync_fields(), (*ADDED, "success_rate"), lambda _: -0.0)
    rates = decode_sync(encode(fields, media), media).delta.added.rates
    assert not np.signbit(rates[1])


# The fingerprint.


def fingerprint(fields: Fields) -> int:
    return decode_sync(encode(fields, Media.JSON), Media.JSON).delta.fingerprint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*ADDED, "id"), uuid_text(99)),
        ((*ADDED, "embedding"), pattern_fields(99)["embedding"]),
        ((*ADDED, "success_rate"), 0.92),
        ((*ADDED, "sample_count"), 43),
        ((*ADDED, "created_at"), 1),
        ((*ADDED, "updated_at"), 1),
        ((*ADDED, "context", "time_of_day"), "morning"),
        ((*ADDED, "context", "genre_hints"), ["thrillerdrama"]),
        ((*UPDATED, "id"), uuid_text(99)),
        ((*UPDATED, "new_success_rate"), 0.1),
        ((*UPDATED, "additional_samples"), 6),
        (("delta", "patterns_removed", 0), uuid_text(99)),
        (("delta", "patterns_removed"), []),
    ],
)
def test_fingerprint_covers_everything_a_delta_does(path: Path, value: Any) -> None:
    assert fingerprint(changed(sync_fields(), path, lambda _: value)) != fingerprint(sync_fields())


def test_fingerprint_leaves_out_the_local_version() -> None:
    assert fingerprint(without(sync_fields(), ("delta", "local_version"))) == fingerprint(sync_fields())


def test_fingerprint_stays_the_same_between_releases() -> None:
    fields = sync_fields()
    for row, pattern in enumerate(fields["delta"]["patterns_added"]):
        pattern["embedding"] = [row + 1] * DIM
    assert fingerprint(fields) == FINGERPRINT


FINGERPRINT = 2_072_698_624_934_020_414


@BOTH
def test_equal_ids_are_kept_in_order(media: Media) -> None:
    fields = changed(sync_fields(), ("delta", "patterns_added", 2, "id"), lambda _: uuid_text(1))
    ids = [UUID(bytes=bytes(row)) for row in decode_sync(encode(fields, media), media).delta.added.ids]
    assert str(ids[2]) == uuid_text(1) and ids.count(ids[2]) == 2
