"""Titles: stored, replaced, found by nearness, and a graph that is built anew when too much of it is dead."""

import numpy as np
import pytest

from constellation.errors import NotFound, ShardFull
from constellation.model import Codes
from constellation.shard.content import CREDIT_COSINE_MIN, Content
from tests.shard.material import START, code_of, new_shard, title


def near(code: Codes, cosine: float, rng: np.random.Generator) -> Codes:
    """A code at about this cosine from the other."""
    unit = code / np.linalg.norm(code.astype(float))
    other = rng.standard_normal(384)
    other -= (other @ unit) * unit
    other /= np.linalg.norm(other)
    vector = cosine * unit + np.sqrt(1 - cosine**2) * other
    made: Codes = np.rint(vector * (127 / np.abs(vector).max())).astype(np.int8)
    return made


def test_an_item_comes_back_and_is_replaced_by_its_id() -> None:
    shard = new_shard()
    with pytest.raises(NotFound):
        shard.content("solaris")
    shard.put_content(title("solaris", 1), START)
    first = shard.global_version
    shard.put_content(title("solaris", 2), START)
    shard.put_content(title("stalker", 3), START)
    assert shard.global_version > first == START * 1_000_000
    np.testing.assert_array_equal(shard.content("solaris").code, code_of(2))
    assert shard.stats(START).content_items == 2


def test_full_content_replaces_but_takes_nothing_new() -> None:
    content = Content(2)
    assert [content.put(title(name, 1)) for name in ("a", "b", "a")] == [0, 1, 0]
    with pytest.raises(ShardFull):
        content.put(title("c", 1))
    assert len(content) == 2 and content.name(1) == "b"
    with pytest.raises(NotFound):
        content.get("c")


def test_a_pattern_is_about_the_nearest_item_if_it_is_near_enough(rng: np.random.Generator) -> None:
    content = Content(10)
    assert content.nearest(code_of(1)) is None
    for number in range(5):
        content.put(title(f"t{number}", number))
    for number in range(5):
        assert content.nearest(near(code_of(number), CREDIT_COSINE_MIN + 0.02, rng)) == number
        assert content.nearest(near(code_of(number), CREDIT_COSINE_MIN - 0.02, rng)) is None


def test_a_replaced_item_is_found_at_its_new_place_only() -> None:
    content = Content(100)
    for number in range(50):
        content.put(title(f"t{number}", number))
    content.put(title("t7", 77))
    assert content.nearest(code_of(77)) == 7
    assert content.nearest(code_of(7)) is None


def test_an_item_posted_again_and_again_is_still_found(rng: np.random.Generator) -> None:
    """Its tombstones lie at the same place, more of them than one search returns."""
    content = Content(300)
    for number in range(300):
        content.put(title(f"t{number}", number))
    for _ in range(28):
        content.put(title("t5", 5))
    assert content.nearest(code_of(5)) == 5
    item = title("t5", 5)
    item.code = near(code_of(5), 0.75, rng)
    content.put(item)
    assert not content.maintain(), "not dead enough for a rebuild"
    assert content.nearest(code_of(5)) == 5
    content.put(title("t5", 1_000))
    assert content.nearest(code_of(5)) is None


def test_the_rebuild_goes_on_while_items_come_and_change(rng: np.random.Generator) -> None:
    content = Content(400)
    codes = {number: number for number in range(100)}
    for number in codes:
        content.put(title(f"t{number}", number))
    for number in range(12):
        codes[number] = 1_000 + number
        content.put(title(f"t{number}", codes[number]))
    steps, fresh = 0, 2_000
    while content.maintain():
        steps += 1
        for number in (int(rng.integers(100)), len(codes)):
            codes[number], fresh = fresh, fresh + 1
            content.put(title(f"t{number}", codes[number]))
        assert all(content.nearest(code_of(code)) == number for number, code in list(codes.items())[:: 1 + steps])
    assert steps > 10
    assert all(content.nearest(code_of(code)) == number for number, code in codes.items())
    while content.maintain():
        pass
    assert all(content.nearest(code_of(code)) == number for number, code in codes.items())
    assert content.nearest(code_of(0)) is None
