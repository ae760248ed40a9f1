"""Makes 32769.zdict, the dictionary that ships: `python -m constellation.dictionaries.make`, some seconds.

Trained on what TVs that watch the shipped catalogue send and get: deltas as the mix of syncs has them, and replies
short enough for a dictionary. Made anew it is another one: give it the next id, and leave the files of the others where
they are, for TVs that have no newer one.
"""

import sys
from pathlib import Path

import numpy as np

from constellation import catalogue
from constellation.fleet.films import Films, prepare
from constellation.fleet.households import make_patterns
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
    RateUpdates,
    Trend,
)
from constellation.wire.dictionary import checksum, train
from constellation.wire.media import Media
from constellation.wire.reply import encode_delta
from constellation.wire.sync import encode_sync
from kernels.codes import quantise

ID = 32_769
SEED = 1
ROUNDS = 600
"""Of each kind of delta one in every round, and two replies."""
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
    for _ in range(ROUNDS):
        made += [
            delta(films, 2, 0, 0, rng),
            delta(films, 0, int(rng.integers(1, 4)), 0, rng),
            delta(films, 0, 0, 0, rng),
            delta(films, int(rng.integers(0, 4)), int(rng.integers(0, 4)), int(rng.integers(0, 4)), rng),
            reply(films, int(rng.integers(0, 6)), None, rng),
            reply(films, int(rng.integers(0, 6)), int(rng.integers(0, 6)), rng),
        ]
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


def reply(films: Films, similar: int, trending: int | None, rng: np.random.Generator) -> bytes:
    """The body of one 200 to a device whose cursor is known: so many patterns, half of which it has, and trends or the
    word that they are the same."""
    region = str(rng.choice(REGIONS))
    chosen = rng.choice(len(films.popularity), trending or 0, p=films.popularity)
    trends = [Trend(films.catalogue.content_ids[film], float(rng.random()), region) for film in chosen]
    answer = Answer(
        similar=patterns(films, similar, rng),
        trending=None if trending is None else trends,
        global_version=_moment(rng) * 1_000_000 + int(rng.integers(1_000_000)),
        digest=rng.bytes(8).hex(),
        reset=False,
        handles=np.arange(similar, dtype=np.uint8),
        whole=rng.random(similar) < 0.5,
        gone=np.empty(0, np.uint8),
        removed=_ids(int(rng.integers(0, 4)), rng),
    )
    applied = Applied(Accepted(added=int(rng.integers(3))), _moment(rng) * 1_000, answer.global_version)
    return encode_sync(answer, applied, NextSync(300, 600), Media.MSGPACK, "i8")


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
