"""What the patterns of one device give to the sums of their buckets: capped, in integers, exactly reversible.

The contribution of a device is a pure function of its patterns as they are. So a change is the old contribution taken
out and the new one put in, and the sums stay, bit for bit, what a recomputation gives. Ranges: `kernels.sums`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled
from kernels.pages import lazy_zeros
from kernels.sums import UNIT, WEIGHT_SCALE, contribution_weight

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]


class Totals(NamedTuple):
    """Sums of K buckets: sums (K, d) int64 of weighted embeddings; weights, samples, patterns, devices (K,) int64."""

    sums: npt.NDArray[np.int64]
    weights: Counts
    samples: Counts
    patterns: Counts
    devices: Counts


def empty_totals(buckets: int, d: int) -> Totals:
    """Totals of no pattern; only touched pages cost memory."""
    return Totals(lazy_zeros((buckets, d), np.int64), *(np.zeros(buckets, np.int64) for _ in range(4)))


@compiled
def contribute(
    totals: Totals,
    starts: npt.NDArray[np.int64],
    rows: Rows,
    buckets: Rows,
    codes: npt.NDArray[np.int8],
    inv: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    samples_cap: int,
    device_cap: int,
    sign: int,
) -> None:
    """Add (sign 1) or take out (sign -1) the contributions of devices: device i has the rows starts[i]:starts[i + 1].

    starts (m + 1,) int64, rows (n,) int32; per row buckets (N,) int32, codes (N, d) int8, inv (N,) float32 1/|code|,
    rates (N,) float32, counts (N,) uint32. A pattern weighs w = `contribution_weight`; where the patterns of a device
    in one bucket weigh W > device_cap together, each weighs w x device_cap // W. About 0.3 us a pattern.
    Twin: `contribute`.
    """
    for device in range(starts.shape[0] - 1):
        first, stop = starts[device], starts[device + 1]
        weights = np.empty(stop - first, np.int64)
        for i in range(first, stop):
            weights[i - first] = contribution_weight(rates[rows[i]], counts[rows[i]], samples_cap)
        for i in range(first, stop):
            row = rows[i]
            bucket = buckets[row]
            total = 0
            before = 0
            for j in range(first, stop):
                if buckets[rows[j]] == bucket:
                    total += weights[j - first]
                    before += 1 if j < i else 0
            weight = weights[i - first]
            samples = min(np.int64(counts[row]), np.int64(samples_cap)) * WEIGHT_SCALE
            if total > device_cap:
                weight = weight * device_cap // total
                samples = samples * device_cap // total
            totals.weights[bucket] += sign * weight
            totals.samples[bucket] += sign * samples
            totals.patterns[bucket] += sign
            if before == 0:
                totals.devices[bucket] += sign
            _add_embedding(totals.sums[bucket], codes[row], np.float64(inv[row]) * UNIT, sign * weight)


@compiled
def _add_embedding(into: npt.NDArray[np.int64], code: npt.NDArray[np.int8], scale: float, weight: int) -> None:
    """into += weight x rint(code x scale): an int8 times a float32 is exact in float64, so only rint rounds."""
    for j in range(code.shape[0]):
        into[j] += weight * np.int64(np.int32(np.rint(np.float64(code[j]) * scale)))
