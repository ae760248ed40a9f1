"""Makes vectors/ and corpus/: `python -m tests.compact.make`.

vectors/NAME.s.bin and NAME.t.bin are blocks of similar patterns and of trends, NAME.*.txt what they say, as in
`lines`, by the codebook that ships. corpus/ are blocks that are to be refused, each for one reason, its name.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from constellation.limits import SIMILAR_MAX
from constellation.model import Context, Trend
from constellation.wire import compact
from tests.compact.lines import Kind, decoded
from tests.compact.material import BOOK, HELD, batch, quantised, trends

HERE = Path(__file__).parent
VECTORS, CORPUS = HERE / "vectors", HERE / "corpus"


def main() -> None:
    for folder in (VECTORS, CORPUS):
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
    for name, kind, block in vectors():
        (VECTORS / f"{name}.{kind}.bin").write_bytes(block)
        (VECTORS / f"{name}.{kind}.txt").write_text("\n".join([*decoded(kind, block, HELD), ""]))
    for name, kind, block in corpus():
        (CORPUS / f"{name}.{kind}.bin").write_bytes(block)


def vectors() -> Iterator[tuple[str, Kind, bytes]]:
    yield "three-whole", "s", _similar(3, [True, True, True], [1])
    yield "two-of-five-whole", "s", _similar(5, [False, True, False, True, False], [])
    yield "none", "s", _similar(0, [], [])
    yield "four", "t", compact.write_trends(trends(4, np.random.default_rng(4)))
    yield "none", "t", compact.write_trends([])


def corpus() -> Iterator[tuple[str, Kind, bytes]]:
    good = _similar(3, [True, True, True], [1])
    at = _places(3, 3)
    yield "format", "s", _put(good, 0, 2)
    yield "stamp", "s", _put(good, 1, good[1] ^ 1)
    yield "too-many-patterns", "s", _put(good, 5, SIMILAR_MAX + 1)
    yield "more-whole-than-all", "s", _put(good, 6, 4)
    yield "age-before-1970", "s", _put(_put(good, 7, 0), 8, 0)
    yield "handle-twice", "s", _put(good, at["handles"] + 1, 0)
    yield "centroid-beyond", "s", _put(good, at["high"], len(BOOK) >> 8)
    yield "count-zero", "s", _put(good, at["counts"], 0)
    yield "count-beyond", "s", _put(good, at["counts"], 144)
    yield "number-that-does-not-end", "s", good[: at["ages"]] + b"\xff" * 40
    yield "cut-off", "s", good[:-1]
    yield "byte-more", "s", good + b"\0"
    yield "empty", "s", b""
    yield "empty", "t", b""
    some = [Trend("film:a", 1.0, "x"), Trend("film:b", 0.5, "x")]
    good = compact.write_trends(some)
    yield "no-region", "t", _put(good, 2, 0)
    yield "region-beyond", "t", _put(good, 5, 1)
    yield "no-utf8", "t", _put(good, len(good) - 1, 0xFF)
    yield "nul", "t", _put(good, len(good) - 1, 0)
    yield "byte-more", "t", good + b"\0"


def _similar(n: int, whole: list[bool], prototypes: list[int]) -> bytes:
    rng = np.random.default_rng(n)
    patterns, handles = batch(n, rng), rng.permutation(256)[:n].astype(np.uint8)
    if n:
        patterns.contexts[0] = Context("evening", "weekend", "movie", ("thriller", "drama"))
    return compact.write_similar(patterns, handles, np.array(whole, np.bool_), prototypes, quantised(patterns))


def _places(n: int, w: int) -> dict[str, int]:
    """Where columns begin (docs/compact.md)."""
    lens = {"head": 9, "handles": n, "low": w, "high": (w + 1) // 2, "rates": n, "counts": n, "kinds": (n + 7) // 8}
    names = [*lens, "ages"]
    return {name: sum(lens[before] for before in names[:i]) for i, name in enumerate(names)}


def _put(block: bytes, at: int, value: int) -> bytes:
    return block[:at] + bytes((value,)) + block[at + 1 :]


if __name__ == "__main__":
    main()
