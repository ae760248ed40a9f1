"""A mean that a few cannot move far: the geometric median of the means of groups of devices.

Who is in which group is decided by a keyed hash (`shard.groups`), so that few attackers are in few groups; as long as
less than half of the devices are in a group with one, the median stays near the other groups' means. Pillutla, Kakade
and Harchaoui, Robust Aggregation for Federated Learning (2022): RFA, by smoothed Weiszfeld steps. Called by `merging`.
"""

import numpy as np
import numpy.typing as npt

from constellation.model import DIM
from constellation.rounds import GROUPS, GroupMeans
from kernels.pages import lazy_zeros
from kernels.sums import UNIT

STEPS = 100
SMOOTHING = 1e-6
"""Of unit length: what is nearer counts as if it were so far."""
_BUCKETS_AT_ONCE = 64

Vectors = npt.NDArray[np.float64]


class GroupTally:
    """Sums of the groups of all buckets, in integers: any order of shards gives the same bits."""

    def __init__(self, buckets: int) -> None:
        self._sums = lazy_zeros((buckets * GROUPS, DIM), np.int64)
        self._weights = np.zeros(buckets * GROUPS, np.int64)
        self._devices = np.zeros(buckets * GROUPS, np.int64)

    def add(self, given: GroupMeans) -> None:
        """Those of one more shard, checked."""
        self._sums[given.cells] += given.means * given.weights[:, None]
        self._weights[given.cells] += given.weights
        self._devices[given.cells] += given.devices

    def medians(self, buckets: npt.NDArray[np.int64]) -> Vectors:
        """(n, 384) of those buckets (n,), of unit length where all point one way; zeros where nobody is in a group."""
        medians = np.zeros((len(buckets), DIM))
        for start in range(0, len(buckets), _BUCKETS_AT_ONCE):
            some = buckets[start : start + _BUCKETS_AT_ONCE]
            cells = some[:, None] * GROUPS + np.arange(GROUPS)
            scale = UNIT * np.maximum(self._weights[cells], 1)[:, :, None]
            medians[start : start + len(some)] = geometric_medians(self._sums[cells] / scale, self._devices[cells])
        return medians


def geometric_medians(points: Vectors, weights: npt.NDArray[np.int64]) -> Vectors:
    """(n, d) where the sum of weighted distances to points (n, m, d) of weights (n, m) >= 0 is least.

    Each step goes to the mean of the points, each weighted by 1 / its distance. Zeros where all weights are 0.
    """
    shares = weights.astype(np.float64)
    medians = np.zeros((points.shape[0], points.shape[2]))
    for _ in range(STEPS):
        total = np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        medians = (points * (shares / total)[:, :, None]).sum(axis=1)
        distances = np.sqrt(((points - medians[:, None]) ** 2).sum(axis=2))
        shares = weights / np.maximum(distances, SMOOTHING)
    return medians
