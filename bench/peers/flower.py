"""Flower's FedAvg: what a framework for federated learning does with the means of all shards.

One weight a shard, floating point, all shards in memory. It runs in the environment that `make bench-peers` makes.
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.peers import environment

Means = npt.NDArray[np.float32]


def average(means: list[Means], weights: list[int], repeats: int) -> tuple[Means, float]:
    """(K, d) average of the means (K, d) of each shard, by the weights of the shards, and the milliseconds that
    it took, the median of the repeats. Raises `NotInstalled`."""
    python = environment.installed("flower")
    with tempfile.TemporaryDirectory() as directory:
        np.save(Path(directory, "means.npy"), np.stack(means))
        np.save(Path(directory, "weights.npy"), np.array(weights, np.float64))
        environment.run(python, "averaging.py", directory, str(repeats))
        averaged: Means = np.load(Path(directory, "averaged.npy"))
        return averaged, float(np.median(np.load(Path(directory, "seconds.npy")))) * 1e3
