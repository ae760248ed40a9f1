"""Flower's aggregation in its own environment: `averaging.py DIRECTORY REPEATS` reads means.npy (s, K, d) float32 and
weights.npy (s,), writes averaged.npy (K, d) and seconds.npy, of every repeat."""

import sys
import time
from pathlib import Path

import numpy as np
from flwr.server.strategy.aggregate import aggregate


def main(directory: Path, repeats: int) -> None:
    means, weights = np.load(directory / "means.npy"), np.load(directory / "weights.npy").tolist()
    seconds = []
    for _ in range(repeats):
        began_at = time.perf_counter()
        (averaged,) = aggregate([([of], weight) for of, weight in zip(means, weights, strict=True)])
        seconds.append(time.perf_counter() - began_at)
    np.save(directory / "averaged.npy", np.asarray(averaged, np.float32))
    np.save(directory / "seconds.npy", seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
