"""Interned contexts: what comes back, what is counted, what is refused as a whole."""

import numpy as np
import pytest

from constellation.errors import ShardFull
from constellation.model import Context
from constellation.shard import Shard, contexts
from constellation.shard.contexts import ContextTable
from tests.shard.material import START, batch, id_of, new_shard, request

EVENING = Context("evening", "weekend", "movie", ("thriller", "drama"))


@pytest.mark.parametrize(
    "context",
    [
        EVENING,
        Context("", "", "", ()),
        Context("", "x", "", ("", "")),
        Context("a", "a", "a", ("a",) * 8),
        Context("\u00e9", "\u4e2d", "b", ("", "c", "")),
    ],
)
def test_a_context_comes_back(context: Context) -> None:
    table = ContextTable()
    words = table.intern(context)
    assert table.context(words) == context
    assert table.context(words.copy()) == context


def test_a_string_lives_as_long_as_it_is_used() -> None:
    table = ContextTable()
    first, second = table.intern(EVENING), table.intern(EVENING)
    np.testing.assert_array_equal(first, second)
    assert len(table) == 5
    table.release(first)
    assert table.context(second) == EVENING
    table.release(second)
    assert len(table) == 0


def test_a_number_used_again_stands_for_the_new_string_only() -> None:
    table = ContextTable()
    words = table.intern(EVENING)
    table.context(words)
    table.release(words)
    other = Context("morning", "monday", "series", ("comedy", "crime"))
    again = table.intern(other)
    assert set(again[:5].tolist()) == set(words[:5].tolist())
    assert table.context(again) == other


@pytest.fixture
def few_strings(monkeypatch: pytest.MonkeyPatch) -> Shard:
    """A shard with room for seven strings."""
    monkeypatch.setattr(contexts, "CONTEXT_STRINGS_MAX", 8)
    return new_shard()


def test_a_delta_with_one_string_too_many_is_refused_as_a_whole(few_strings: Shard) -> None:
    shard = few_strings
    fitting = batch([(1, 0.9, 10)], hints=["a", "b", "c"])
    overflowing = batch([(1, 0.95, 10), (2, 0.9, 10)], codes=[1, 2])
    overflowing.contexts = [Context("", "", "", ("d", "e", "f")), Context("", "", "", ("g",))]
    shard.apply(request(1, fitting), START)  # "", a, b, c
    before = shard.stats(START), shard.global_version
    for _ in range(3):
        with pytest.raises(ShardFull, match="context strings"):
            shard.apply(request(2, overflowing), START)
    assert (shard.stats(START), shard.global_version) == before
    overflowing.contexts[1] = Context("", "", "", ("d",))
    shard.apply(request(2, overflowing), START)  # d, e, f: nothing of the refused ones is left
    assert shard.stats(START).patterns_stored == 3
    shard.forget(id_of(1), START)
    shard.apply(request(3, batch([(1, 0.9, 10)], hints=["g", "h", "i"])), START)


def test_a_filtered_pattern_needs_no_strings(few_strings: Shard) -> None:
    many = batch([(1, 0.1, 10)], hints=["a", "b", "c", "d", "e", "f", "g", "h"])
    assert few_strings.apply(request(1, many), START).accepted.filtered == 1
