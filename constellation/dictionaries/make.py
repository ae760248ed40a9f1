"""Makes 32769.zdict, the dictionary that ships: `python -m constellation.dictionaries.make`, some seconds.

Trained on what TVs that watch the shipped catalogue send and get: deltas as the mix of syncs has them, and compact
replies, most of which tell what changed. Made anew it is another one: give it the next id, and leave the files of the
others where they are, for TVs that have no newer one.
"""

import sys
from pathlib import Path

import numpy as np

from constellation import catalogue
from constellation.codebook import STAMP_BYTES
from constellation.fleet.films import Films, prepare
from constellation.fleet.households import make_patterns
from constellation.limits import SIMILAR_MAX, TRENDING_MAX
from constellation.model import (
    ID_BYTES,
    Accepted,
    Answer,
    Applied,
    Context,
    Delta,
    Ids,
    NextSync,
    PatternBatch,
    Quantised,
    RateUpdates,
    Trend,
)
from constellation.residuals import TABLES
from constellation.wire.dictionary import checksum, train
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import encode_sync
from kernels.codes import quantise

ID = 32_769
SEED = 1
ROUNDS = 500
"""Of each kind of delta one in every round, and three replies that tell what changed."""
TRENDS_EVERY = 10
WHOLE_EVERY = 20
"""Rounds, until there is a reply with all the trends, or with all there is."""
REGIONS = ("us-east", "us-west", "europe", "america", "asia", "global")
CONTENT_TYPES = ("movie", "series")

_FROM_S, _TO_S = 1_750_000_000, 1_800_000_000


def main(target: Path) -> None:
    content = train(samples(prepare(catalogue.load()), np.random.default_rng(SEED)), ID)
    target.write_bytes(content)
    print(f"{target}: {len(content)} bytes, {checksum(content)}")


def samples(films: Films, rng: np.random.Generator) -> list[bytes]:
    """Bodies in msgpack: deltas that bring two patterns, some updates, nothing, a bit of all; and replies."""
    made = []
    for number in range(ROUNDS):
        made += [
            delta(films, 2, 0, 0, rng),
            delta(films, 0, int(rng.integers(1, 4)), 0, rng),
            delta(films, 0, 0, 0, rng),
            delta(films, int(rng.integers(0, 4)), int(rng.integers(0, 4)), int(rng.integers(0, 4)), rng),
            changes(films, int(rng.integers(0, 9)), None, rng),
            changes(films, int(rng.integers(0, 9)), None, rng),
            changes(films, int(rng.integers(0, 3)), None, rng, compact=False),
        ]
        if number % TRENDS_EVERY == 0:
            made.append(changes(films, int(rng.integers(0, 9)), TRENDING_MAX, rng))
        if number % WHOLE_EVERY == 0:
            made.append(whole(films, rng))
    return made


def delta(films: Films, added: int, updated: int, removed: int, rng: np.random.Generator) -> bytes:
    """The body of one sync, with so many patterns of each kind."""
    held = Delta(
        added=patterns(films, added, rng),
        updated=RateUpdates(
            _ids(updated, rng), rng.random(updated).astype(np.float32), rng.integers(1, 20, updated, np.uint32)
        ),
        removed=_ids(removed, rng),
        local_version=_moment(rng) * 1_000_000 + int(rng.integers(1_000_000)),
        sequence=_moment(rng) * 1_000 + int(rng.integers(1_000)),
        fingerprint=0,
    )
    return encode_delta(rng.bytes(ID_BYTES), held, Media.MSGPACK, "i8")


def changes(
    films: Films, similar: int, trending: int | None, rng: np.random.Generator, *, compact: bool = True
) -> bytes:
    """The body of a 200 to a device whose cursor is known: so many patterns, half of which it has, and trends or the
    word that they are the same."""
    removed = int(rng.integers(0, 4))
    answer = _answer(films, similar, trending, rng)
    answer.reset, answer.whole = False, rng.random(similar) < 0.5
    answer.gone, answer.removed = rng.integers(0, SIMILAR_MAX, removed, np.uint8), _ids(removed, rng)
    return _reply(answer, rng, compact)


def whole(films: Films, rng: np.random.Generator) -> bytes:
    """The body of a 200 with all that there is."""
    return _reply(_answer(films, SIMILAR_MAX, TRENDING_MAX, rng), rng, compact=True)


def _answer(films: Films, similar: int, trending: int | None, rng: np.random.Generator) -> Answer:
    region = str(rng.choice(REGIONS))
    chosen = rng.integers(0, len(films.vectors), trending or 0)
    scores = np.sort(rng.random(len(chosen)))[::-1].tolist()
    trends = [
        Trend(films.catalogue.content_ids[film], score, region) for film, score in zip(chosen, scores, strict=True)
    ]
    return Answer(
        similar=patterns(films, similar, rng),
        trending=None if trending is None else trends,
        global_version=_moment(rng) * 1_000_000 + int(rng.integers(1_000_000)),
        digest=rng.bytes(8).hex(),
        reset=True,
        handles=rng.permutation(SIMILAR_MAX)[:similar].astype(np.uint8),
        whole=np.ones(similar, np.bool_),
        gone=np.empty(0, np.uint8),
        removed=_ids(0, rng),
    )


def _reply(answer: Answer, rng: np.random.Generator, compact: bool) -> bytes:
    """Numbers of centroids and residuals are drawn evenly: there is nothing in them that a dictionary could know."""
    count = len(answer.similar)
    if compact:
        numbers, residuals = rng.integers(0, 1_024, count, np.int32), rng.integers(0, 256, (count, TABLES), np.uint8)
        answer.quantised = Quantised(rng.bytes(STAMP_BYTES), numbers, residuals)
    applied = Applied(Accepted(added=int(rng.integers(3))), _moment(rng) * 1_000, answer.global_version)
    return encode_sync(answer, applied, NextSync(300, 600), Media.MSGPACK, "compact" if compact else "i8")


def patterns(films: Films, count: int, rng: np.random.Generator) -> PatternBatch:
    """Patterns of films that were drawn evenly, so that rare genres are there, too."""
    watched = rng.integers(0, len(films.vectors), count, np.int32)
    created_at = rng.integers(_FROM_S, _TO_S, count)
    return PatternBatch(
        ids=_ids(count, rng),
        codes=quantise(make_patterns(films.vectors, films.neighbours, watched, rng)),
        rates=rng.uniform(0.7, 1.0, count).astype(np.float32),
        counts=rng.integers(10, 400, count, np.uint32),
        created_at=created_at,
        updated_at=created_at + rng.integers(0, 1_000_000, count),
        contexts=[_context(films, film, rng) for film in watched],
    )


def _context(films: Films, film: int, rng: np.random.Generator) -> Context:
    drawn = films.context(film, rng)
    return Context(drawn.time_of_day, drawn.day_of_week, str(rng.choice(CONTENT_TYPES)), drawn.genre_hints)


def _ids(count: int, rng: np.random.Generator) -> Ids:
    return rng.integers(0, 256, (count, ID_BYTES), np.uint8)


def _moment(rng: np.random.Generator) -> int:
    return int(rng.integers(_FROM_S, _TO_S))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name(f"{ID}.zdict"))
