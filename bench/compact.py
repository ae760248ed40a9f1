"""How small is a cold compact reply, how true, and what does it cost?

A codebook is trained on patterns of some films; a shard is filled with patterns of others, and households that like
those ask it. Every context is that of a film drawn from the whole catalogue, which is harder than what neighbours
share. The yardstick is the same reply in int8.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.plan import Answers, Note, Plan, Timings, tracked
from bench.report import Row, Yardstick, at_least, at_most
from constellation import catalogue, codebook
from constellation.codebook import Codebook
from constellation.fleet.films import Films, prepare
from constellation.limits import SIMILAR_MAX, TRENDING_MAX
from constellation.model import Accepted, Applied, Codes, ContentItem, NextSync, PatternBatch, SyncOptions
from constellation.residuals import Encoder
from constellation.shard import Shard
from constellation.wire.body import compress
from constellation.wire.compact import Held
from constellation.wire.dictionary import NO_DICTIONARY, newest
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from constellation.wire.sync import encode_sync, noise_bytes
from kernels.codes import dequantise, inverse_norms, quantise

SIZE = 1_024
SAMPLES_PER_CENTROID = 64
TITLES = 500
BYTES_MAX = 5_120
BYTES_AIM = 4_700
COSINE_MIN = 0.92
COSINE_ANYWHERE_MIN = 0.8
RANKS_MIN = 0.9
ENCODE_MS_MAX = 0.15
DECODE_MS_MAX = 0.5

_APPLIED = Applied(Accepted(), workload.START_S * 1_000, workload.START_S * 1_000_000)
_NEXT_SYNC = NextSync(300, 600)
_ALONE = "the centroid alone"
Numbers = npt.NDArray[np.float32]


class Told(NamedTuple):
    """One reply: patterns and trends in it; bytes with zstd, plain and with a dictionary, and the same in int8; of each
    pattern the cosine of what is decoded to what it is; rank correlation of both orders by likeness to the household.
    Both also as they would be if only the centroid was told.
    """

    patterns: int
    trends: int
    plain: int
    with_dictionary: int
    in_i8: int
    cosines: Numbers
    ranks: float
    centroid_cosines: Numbers
    centroid_ranks: float


class Clocks(NamedTuple):
    """Of replies: encoding the columns of an answer, and decoding the body that it became; the same in int8."""

    encode: Timings
    decode: Timings
    encode_i8: Timings
    decode_i8: Timings


def measure(plan: Plan) -> Answers:
    rng = plan.rng("compact")
    library = workload.load_library(plan.patterns, plan.seed)
    size = min(SIZE, plan.patterns // SAMPLES_PER_CENTROID)
    samples = library.known.patterns(library.known.draw(size * SAMPLES_PER_CENTROID, rng), rng)
    book = codebook.train(samples, size, version=1, seed=plan.seed)
    patterns = min(plan.patterns, len(library.unseen.vectors) * workload.PATTERNS_A_FILM)
    count = patterns // workload.PATTERNS_A_DEVICE
    households = workload.make_households(library.unseen, count, None, rng)
    shard = _filled(book, library.unseen, households, rng)
    clocks = Clocks(Timings(), Timings(), Timings(), Timings())
    asking = rng.choice(count, min(plan.queries, count), replace=False).tolist()
    told = [_ask(shard, book, households, number, clocks) for number in tracked(asking, "asking", len(asking))]
    yield from _sizes(told, f"{len(told)} households, {patterns:,} patterns of films it never saw, K={size:,}")
    yield from _truth(told)
    yield from _times(clocks)
    least = f"{min(each.patterns for each in told)} patterns and {min(each.trends for each in told)} trends"
    yield Note(f"every reply has at least {least}")
    yield Note(f"codebook file: {len(codebook.encode(book)):,} bytes; trained on {len(samples):,} patterns")
    yield Note(f"to quantise a pattern, once: {_quantising_us(book, samples[:2_000]):.0f} us, beside its bucket")


def _sizes(told: list[Told], quality: str) -> Answers:
    in_i8 = Yardstick("the same in i8 msgpack and zstd", float(np.mean([each.in_i8 for each in told])))
    for name, sizes in (
        ("cold reply, zstd", [each.plain for each in told]),
        ("cold reply, zstd with the dictionary", [each.with_dictionary for each in told]),
    ):
        worst = f"{quality}; the largest {max(sizes):,} B; aim {BYTES_AIM:,}"
        limit = at_most(BYTES_MAX)
        yield Row(
            name=name, value=float(np.mean(sizes)), unit="B", quality=worst, yardstick=in_i8, target=limit, gate=limit
        )


def _truth(told: list[Told]) -> Answers:
    cosines = np.concatenate([each.cosines for each in told])
    yield Row(
        name="cosine, decoded to true",
        value=float(cosines.mean()),
        unit="",
        quality=f"mean of {len(cosines):,}; one in a hundred below {np.quantile(cosines, 0.01):.3f}",
        yardstick=Yardstick(_ALONE, float(np.concatenate([each.centroid_cosines for each in told]).mean())),
        target=at_least(COSINE_MIN),
        gate=at_least(COSINE_ANYWHERE_MIN),
    )
    ranks = np.array([each.ranks for each in told])
    yield Row(
        name="the TV's own ranking, rank correlation",
        value=float(ranks.mean()),
        unit="",
        quality=f"by likeness to its nearest own pattern; a tenth of households below {np.quantile(ranks, 0.1):.3f}",
        yardstick=Yardstick(_ALONE, float(np.mean([each.centroid_ranks for each in told]))),
        target=at_least(RANKS_MIN),
    )


def _times(clocks: Clocks) -> Answers:
    for name, timings, in_i8, limit_ms in (
        ("encode", clocks.encode, clocks.encode_i8, ENCODE_MS_MAX),
        ("decode", clocks.decode, clocks.decode_i8, DECODE_MS_MAX),
    ):
        quality = f"the least {min(timings.ms):.2f} ms, p99 {timings.p99:.2f}, {len(timings.ms)} replies, before zstd"
        yardstick = Yardstick("the same in i8", in_i8.p50)
        yield Row(
            name=name, value=timings.p50, unit="ms", quality=quality, yardstick=yardstick, target=at_most(limit_ms)
        )


def _quantising_us(book: Codebook, codes: Codes) -> float:
    """What it takes to quantise one pattern, once."""
    assert book.quantiser is not None
    encoder, numbers, inverse = Encoder(book.codes, book.quantiser), book.buckets(codes), inverse_norms(codes)
    timings = Timings()
    for _ in range(5):
        timings.measure(encoder.encode, codes, inverse, numbers)
    return timings.p50 * 1e3 / len(codes)


def _ask(shard: Shard, book: Codebook, households: workload.Households, number: int, clocks: Clocks) -> Told:
    assert book.quantiser is not None
    device_id, held = households.device_ids[number].tobytes(), Held(book, book.quantiser)
    answers = []
    for form in ("compact", "i8"):
        answers.append(shard.answer(device_id, SyncOptions(SIMILAR_MAX, TRENDING_MAX, form, book.version)))
    answer, in_i8 = answers
    assert answer.trending is not None and answer.quantised is not None
    body = clocks.encode.measure(encode_sync, answer, _APPLIED, _NEXT_SYNC, Media.MSGPACK, "compact")
    reply = clocks.decode.measure(decode_reply, body, Media.MSGPACK, held)
    true, decoded = _units(answer.similar.codes), _units(reply.similar.codes)
    middles = _units(book.codes[answer.quantised.numbers])
    own = _units(households.codes[households.rows_of(number)])
    noise = noise_bytes(answer, Media.MSGPACK)
    body_i8 = clocks.encode_i8.measure(encode_sync, in_i8, _APPLIED, _NEXT_SYNC, Media.MSGPACK, "i8")
    clocks.decode_i8.measure(decode_reply, body_i8, Media.MSGPACK)
    return Told(
        patterns=len(answer.similar),
        trends=len(answer.trending),
        plain=len(compress(body, NO_DICTIONARY, noise)),
        with_dictionary=len(compress(body, newest(), noise)),
        in_i8=len(compress(body_i8)),
        cosines=np.einsum("ij,ij->i", true, decoded),
        ranks=_rank_correlation((true @ own.T).max(axis=1), (decoded @ own.T).max(axis=1)),
        centroid_cosines=np.einsum("ij,ij->i", true, middles),
        centroid_ranks=_rank_correlation((true @ own.T).max(axis=1), (middles @ own.T).max(axis=1)),
    )


def _units(codes: Codes) -> Numbers:
    return dequantise(codes, inverse_norms(codes))


def _rank_correlation(one: Numbers, other: Numbers) -> float:
    """Spearman's, of numbers (n,) that are all different."""
    ranks = np.array([np.argsort(np.argsort(numbers)) for numbers in (one, other)], np.float64)
    away = ranks - ranks.mean(axis=1, keepdims=True)
    return float(away[0] @ away[1] / np.sqrt((away[0] @ away[0]) * (away[1] @ away[1])))


def _filled(book: Codebook, part: workload.Part, households: workload.Households, rng: np.random.Generator) -> Shard:
    """A shard with titles, so that there are trends, and all patterns of the households."""
    films = prepare(catalogue.load())
    shard = Shard(workload.shard_settings(len(households) * workload.PATTERNS_A_DEVICE), codebook=book)
    for number in range(min(TITLES, len(part.vectors), len(films.catalogue))):
        code = quantise(part.vectors[number : number + 1])[0]
        shard.put_content(ContentItem(films.catalogue.content_ids[number], "title", code, None), workload.START_S)
    now = float(workload.START_S)
    for request in tracked(workload.first_syncs(households, rng), "filling", len(households)):
        now += workload.TICK_S
        _dress(request.delta.added, films, now, rng)
        shard.apply(request, now)
    while shard.maintain():
        pass
    return shard


def _dress(added: PatternBatch, films: Films, now: float, rng: np.random.Generator) -> None:
    """Contexts of films, and times of the last two months."""
    added.contexts = [films.context(film, rng) for film in rng.integers(0, len(films.catalogue), len(added)).tolist()]
    added.updated_at = (now - rng.exponential(5 * 86_400, len(added))).astype(np.int64)
    added.created_at = added.updated_at - rng.exponential(10 * 86_400, len(added)).astype(np.int64)
