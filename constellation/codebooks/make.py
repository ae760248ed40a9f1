"""Makes 1.bin, the codebook that ships: `python -m constellation.codebooks.make`, half a minute.

Fitted on patterns made of the shipped catalogue as households make them. It is the same on every shard, and shards
agree by its version alone: made anew from other films, or by another recipe, it is a file with the next number.
"""

import sys
from pathlib import Path

import numpy as np

from constellation import catalogue, codebook
from constellation.fleet.households import make_patterns, neighbour_table
from constellation.model import Codes
from kernels.codes import quantise

VERSION = 1
SIZE = 1_024
PATTERNS_A_FILM = 16
SEED = 1


def main(target: Path) -> None:
    made = codebook.train(patterns(SEED), SIZE, VERSION, SEED)
    target.write_bytes(codebook.encode(made))
    print(f"{target}: {target.stat().st_size} bytes, {codebook.checksum(made)}")


def patterns(seed: int) -> Codes:
    """Codes of patterns, `PATTERNS_A_FILM` of every film."""
    vectors = catalogue.load().vectors()
    films = np.tile(np.arange(len(vectors), dtype=np.int32), PATTERNS_A_FILM)
    return quantise(make_patterns(vectors, neighbour_table(vectors), films, np.random.default_rng(seed)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).with_name(f"{VERSION}.bin"))
