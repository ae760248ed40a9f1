"""Flower's FedAvg: what a framework for federated learning does with the means of all shards.

One weight a shard, floating point, all shards in memory. Not among the dependencies: `pip install flwr` beside them.
"""

import numpy as np
import numpy.typing as npt

from bench.peers import NotInstalled

Means = npt.NDArray[np.float32]


def average(means: list[Means], weights: list[int]) -> Means:
    """(K, d) average of the means (K, d) of each shard, by the weights of the shards. Raises `NotInstalled`."""
    try:
        from flwr.server.strategy.aggregate import aggregate
    except ImportError as error:
        raise NotInstalled(f"no {error.name}: pip install flwr, in an environment of its own") from None
    (averaged,) = aggregate([([of], weight) for of, weight in zip(means, weights, strict=True)])
    return np.asarray(averaged, np.float32)
