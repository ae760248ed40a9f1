"""`decode_sync` refuses every wrong field with its path, what was expected and what came."""

import base64
from typing import Any

import numpy as np
import pytest

from constellation.errors import InvalidPattern, TooManyPatterns
from constellation.limits import SAMPLE_COUNT_MAX, UNIX_SECONDS_MAX
from constellation.model import (
    DIM,
    VERSION_MAX,
)
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync
from tests.wire.samples import (
    ADDED,
    BOTH,
    FIELDS,
    UPDATED,
    Path,
    changed,
    encode,
    path_text,
    pattern_fields,
    put,
    refuse,
    sync_fields,
    uuid_text,
    without,
)

NUMBERS: dict[Path, list[Any]] = {
    (*ADDED, "success_rate"): [-0.001, 1.001, -1, 2, float("inf"), float("-inf"), float("nan"), True, "0.9", None, []],
    (*ADDED, "sample_count"): [0, -1, SAMPLE_COUNT_MAX + 1, 2**63, 1.0, False, "1", None],
    (*ADDED, "created_at"): [-1, UNIX_SECONDS_MAX + 1, 2**64 - 1, 1.5, True, "1", None],
    (*ADDED, "updated_at"): [-1, UNIX_SECONDS_MAX + 1, -(2**63), 1.0, None],
    (*UPDATED, "new_success_rate"): [-0.5, 1.5, float("nan"), True, "1", None],
    (*UPDATED, "additional_samples"): [0, SAMPLE_COUNT_MAX + 1, 1.0, True, None],
    ("delta", "local_version"): [-1, VERSION_MAX + 1, 1.0, True, "1", []],
    ("delta", "sequence"): [0, -1, VERSION_MAX + 1, 2**64 - 1, 1.0, True, "1"],
}
TEXTS: dict[Path, list[Any]] = {
    (*ADDED, "context", "time_of_day"): ["x" * 33, "\u00e9" * 17, "a\0b", 1, None],
    (*ADDED, "context", "day_of_week"): ["x" * 10_000, [], True],
    (*ADDED, "context", "content_type"): ["\U0001f3ac" * 9, {}, 1.5],
    (*ADDED, "context", "genre_hints", 1): ["x" * 33, "\u00e9" * 17, "\0", 1, None],
    (*ADDED, "context", "genre_hints"): [["x"] * 9, "thriller", None, {}],
    (*ADDED, "context"): [None, [], "evening", 1],
}
UUIDS: list[Any] = [
    "",
    "x",
    "550e8400e29b41d4a716446655440000",
    "{550e8400-e29b-41d4-a716-446655440000}",
    1,
    None,
    [],
    {},
    True,
]
UUIDS += [
    "550e8400-e29b-41d4-a716-44665544000g",
    "550e8400-e29b-41d4-a716-4466554400 0",
    "550e8400-e29b-41d4-a71-6446655440000",
]
UUIDS += ["\u0665" * 36, "-" * 36, "x" * 100_000, " 50e8400-e29b-41d4-a716-446655440000"]
EMBEDDINGS: list[Any] = [None, 1, True, {}, [], [0.5], [0.5] * (DIM - 1), [0.5] * (DIM + 1), [0] * DIM, [1e-60] * DIM]
EMBEDDINGS += ["", "AAAA", "A" * 512, "A" * 1024, "A" * 2048, "!" * 512, "-" * 512, "A" * 511 + "=", "\u00e9" * 512]
EMBEDDINGS += [" " + "A" * 511, "A" * 511 + "\n", base64.b64encode(np.full(DIM, np.nan, "<f4").tobytes()).decode()]
BAD: list[tuple[Path, Any]] = [
    (path, value) for table in (NUMBERS, TEXTS) for path, values in table.items() for value in values
]
BAD += [(path, value) for path in [("device_id",), (*ADDED, "id"), (*UPDATED, "id")] for value in UUIDS]
BAD += [(("delta", "patterns_removed", 1), value) for value in UUIDS]
BAD += [((*ADDED, "embedding"), value) for value in EMBEDDINGS]
NO_OBJECTS: list[Any] = [None, 1, "x", [], True]
BAD += [(path, value) for path in [ADDED, UPDATED, ("delta",)] for value in NO_OBJECTS]
NO_LISTS: list[Any] = [None, 1, "x", {}, True]
BAD += [(("delta", f"patterns_{name}"), value) for name in ("added", "updated", "removed") for value in NO_LISTS]


@BOTH
@pytest.mark.parametrize(("path", "value"), BAD, ids=lambda part: repr(part)[:60])
def test_a_bad_field_is_refused_with_its_path(media: Media, path: Path, value: Any) -> None:
    problem = refuse(changed(sync_fields(), path, lambda _: value), media)
    assert isinstance(problem, InvalidPattern)
    assert problem.path == path_text(path)
    assert problem.detail.startswith(f"{problem.path}: expected ")
    assert ", got " in problem.detail
    assert len(problem.detail) < 300


@BOTH
@pytest.mark.parametrize("path", FIELDS, ids=path_text)
def test_a_missing_field_is_refused_with_its_path(media: Media, path: Path) -> None:
    problem = refuse(without(sync_fields(), path), media)
    assert isinstance(problem, InvalidPattern)
    assert problem.path == path_text(path)
    assert problem.detail == f"{problem.path}: expected a value, got nothing"


@BOTH
@pytest.mark.parametrize("place", [0, 200, DIM - 1])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e300, -1e39, 3.5e38])
def test_numbers_that_are_not_finite_float32_are_refused(media: Media, place: int, number: float) -> None:
    fields = changed(sync_fields(), (*ADDED, "embedding", place), lambda _: number)
    problem = refuse(fields, media)
    assert isinstance(problem, InvalidPattern)
    # JSON has no NaN: what is written for it is null, refused as a number.
    null = media is Media.JSON and not np.isfinite(number)
    assert problem.path == path_text((*ADDED, "embedding", place) if null else (*ADDED, "embedding"))


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 0])
def test_bytes_that_are_no_direction_are_refused(dtype: str, number: float) -> None:
    vector = np.full(DIM, 0 if number == 0 else 0.5, dtype)
    vector[7] = number
    for media, value in ((Media.MSGPACK, vector.tobytes()), (Media.JSON, base64.b64encode(vector.tobytes()).decode())):
        problem = refuse(changed(sync_fields(), (*ADDED, "embedding"), put(value)), media)
        assert problem.path == "delta.patterns_added[1].embedding"


@pytest.mark.parametrize("len_bytes", [0, 1, DIM - 1, DIM + 1, 2 * DIM + 1, 4 * DIM - 4, 8 * DIM])
def test_embeddings_of_other_lengths_are_refused(len_bytes: int) -> None:
    problem = refuse(changed(sync_fields(), (*ADDED, "embedding"), lambda _: b"\1" * len_bytes), Media.MSGPACK)
    assert problem.path == "delta.patterns_added[1].embedding"
    assert f"got {len_bytes} bytes" in problem.detail


@BOTH
def test_a_zero_int8_embedding_is_refused_also_among_int8_ones_only(media: Media) -> None:
    fields = sync_fields()
    for row, pattern in enumerate(fields["delta"]["patterns_added"]):
        data = bytes(DIM) if row == 2 else b"\x80" * DIM
        pattern["embedding"] = data if media is Media.MSGPACK else base64.b64encode(data).decode()
    assert refuse(fields, media).path == "delta.patterns_added[2].embedding"


@BOTH
def test_limits_of_a_delta(media: Media) -> None:
    fields = sync_fields()
    update = fields["delta"]["patterns_updated"][0]
    pattern = pattern_fields(0)
    fields["delta"]["patterns_added"] = [pattern | {"id": uuid_text(row)} for row in range(100)]
    fields["delta"]["patterns_updated"] = [update] * 600
    fields["delta"]["patterns_removed"] = [uuid_text(1)] * 400
    delta = decode_sync(encode(fields, media), media).delta
    assert (len(delta.added), len(delta.updated), len(delta.removed)) == (100, 600, 400)
    for name, items in (("added", [pattern] * 101), ("removed", [uuid_text(1)] * 401), ("updated", [update] * 1001)):
        problem = refuse(changed(fields, ("delta", f"patterns_{name}"), put(items)), media)
        assert isinstance(problem, TooManyPatterns)
        assert problem.path == f"delta.patterns_{name}"
