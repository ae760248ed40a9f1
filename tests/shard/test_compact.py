"""Compact answers of a shard: what they are made of, when there are none, and that no residual outlives its pattern."""

import numpy as np

from constellation.codebook import Codebook, build, default_codebook, stamp
from constellation.model import Answer, Codes, SyncOptions
from constellation.residuals import Encoder
from constellation.rounding import compact_digest
from constellation.shard import Shard
from kernels.codes import inverse_norms
from tests.shard.material import EVERYTHING, START, batch, codebook, id_of, new_shard, request, settings
from tests.shard.published import round_of

BOOK = default_codebook()
COMPACT = SyncOptions(similar=100, trending=50, embedding="compact", codebook=BOOK.version)
ASKING = 99
RATES = 0.95


def next_version() -> Codebook:
    """The same directions in another order, under another version."""
    assert BOOK.quantiser is not None
    turned = {
        **BOOK.sections,
        "centroids": BOOK.codes[::-1].tobytes(),
        "weights": BOOK.quantiser.weights[::-1].tobytes(),
    }
    return build(BOOK.version + 1, turned)


def settle(shard: Shard) -> None:
    while shard.maintain():
        pass


def filled(patterns: int = 5) -> Shard:
    shard = new_shard()
    shard.apply(request(1, [(number, RATES, 30) for number in range(patterns)]), START)
    settle(shard)
    return shard


def check(answer: Answer, book: Codebook = BOOK) -> None:
    """Its residuals are those of its codes."""
    assert answer.quantised is not None and book.quantiser is not None
    codes: Codes = answer.similar.codes
    numbers = book.buckets(codes)
    wanted = Encoder(book.codes, book.quantiser).encode(codes, inverse_norms(codes), numbers)
    assert answer.quantised.stamp == stamp(book)
    np.testing.assert_array_equal(answer.quantised.numbers, numbers)
    np.testing.assert_array_equal(answer.quantised.residuals, wanted)


def test_answer_is_quantised_and_its_digest_is_that_of_rounded_patterns() -> None:
    answer = filled().answer(id_of(ASKING), COMPACT)
    check(answer)
    similar = answer.similar
    assert len(similar) == 5
    assert answer.digest == compact_digest(answer.handles, similar.rates, similar.counts, similar.updated_at)


def test_patterns_quantised_in_the_background_are_the_same() -> None:
    asked_at_once = new_shard()
    asked_at_once.maintain()  # groups no pattern yet, but says that all are grouped
    asked_at_once.apply(request(1, [(number, RATES, 30) for number in range(80)]), START)
    for shard in (asked_at_once, filled(32)):
        check(shard.answer(id_of(ASKING), COMPACT))


def test_pattern_that_is_written_anew_is_quantised_anew() -> None:
    shard = filled()
    check(shard.answer(id_of(ASKING), COMPACT))
    shard.apply(request(1, batch([(2, RATES, 30)], codes=[700])), START + 1)
    check(shard.answer(id_of(ASKING), COMPACT))
    shard.forget(id_of(1), START + 2)
    shard.apply(request(2, [(number, RATES, 30) for number in range(300, 305)]), START + 3)
    check(shard.answer(id_of(ASKING), COMPACT))


def test_prototypes_are_quantised_too_and_anew_with_each_round() -> None:
    shard = filled()
    for start in (500, 600):
        shard.publish(round_of([(start + i, RATES, 9) for i in range(4)], BOOK.version, START), None)
        answer = shard.answer(id_of(ASKING), COMPACT)
        assert len(answer.prototypes) == 4
        check(answer)


def test_without_the_current_codebook_an_answer_is_not_compact() -> None:
    shard = filled()
    for options in (
        SyncOptions(similar=100, trending=50, embedding="compact"),
        SyncOptions(similar=100, trending=50, embedding="compact", codebook=BOOK.version + 1),
        EVERYTHING,
    ):
        answer = shard.answer(id_of(ASKING), options)
        assert answer.quantised is None
        assert answer.digest == filled().answer(id_of(ASKING), EVERYTHING).digest


def test_codebook_without_a_quantiser_gives_no_compact_answer() -> None:
    shard = Shard(settings(), codebook=codebook(3, 8))
    shard.apply(request(1, [(1, RATES, 30)]), START)
    settle(shard)
    options = SyncOptions(similar=100, trending=50, embedding="compact", codebook=3)
    assert shard.answer(id_of(ASKING), options).quantised is None


def test_a_new_codebook_is_used_once_all_patterns_are_grouped_by_it_and_the_list_comes_whole() -> None:
    shard, new = filled(), next_version()
    shard.apply(request(ASKING, [(900, RATES, 30)]), START)
    newer = SyncOptions(similar=100, trending=50, embedding="compact", codebook=new.version)
    first = shard.answer(id_of(ASKING), COMPACT)
    shard.use(new)
    check(shard.answer(id_of(ASKING), COMPACT, first.global_version))
    assert shard.answer(id_of(ASKING), newer).quantised is None
    settle(shard)
    last = shard.answer(id_of(ASKING), newer)
    check(last, new)
    again = shard.answer(id_of(ASKING), newer, last.global_version)
    assert not again.reset and len(again.similar) == 0 and again.digest == last.digest
    fallen_back = shard.answer(id_of(ASKING), COMPACT, again.global_version)
    assert fallen_back.reset and fallen_back.quantised is None


def test_a_list_that_was_compact_comes_whole_when_it_is_not_any_more() -> None:
    """The same parameters, but the codebook is no longer the current one: ids in place of handles."""
    shard = filled()
    shard.apply(request(ASKING, [(900, RATES, 30)]), START)
    compact = shard.answer(id_of(ASKING), COMPACT)
    shard.use(next_version())
    settle(shard)
    assert shard.answer(id_of(ASKING), COMPACT, compact.global_version).reset


def test_warm_answer_tells_changed_patterns_and_the_digest_of_all() -> None:
    shard = filled()
    shard.apply(request(ASKING, [(900, RATES, 30)]), START)
    first = shard.answer(id_of(ASKING), COMPACT)
    shard.apply(request(1, [(50, RATES, 30)], updated=[(3, 1.0, 20)]), START + 90_000)
    warm = shard.answer(id_of(ASKING), COMPACT, first.global_version)
    assert sorted(warm.whole.tolist()) == [False, True]
    check(warm)
    whole = shard.answer(id_of(ASKING), COMPACT)
    columns = {
        int(handle): (rate, count, at)
        for told in (first, warm)
        for handle, rate, count, at in zip(
            told.handles, told.similar.rates, told.similar.counts, told.similar.updated_at, strict=True
        )
    }
    handles = np.array(list(columns), np.uint8)
    rates, counts, times = (np.array(column) for column in zip(*columns.values(), strict=True))
    assert warm.digest == compact_digest(handles, rates, counts, times) and len(whole.similar) == len(handles) == 6
