"""What the patterns of one device give to the sums of their buckets: capped, in integers, exactly reversible.

The contribution of a device is a pure function of its patterns as they are. So a change is the old contribution taken
out and the new one put in, and the sums stay, bit for bit, what a recomputation gives. Ranges: `kernels.sums`.
How much a device can give is bounded twice: by the buckets that it counts in (`heaviest`) and by a cap in each.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled, inlined
from kernels.pages import lazy_zeros
from kernels.sums import WEIGHT_SCALE, contribution_weight, multiplier

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
def heaviest(
    starts: npt.NDArray[np.int64],
    rows: Rows,
    buckets: Rows,
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    samples_cap: int,
    buckets_max: int,
) -> Any:
    """The rows of each device in those `buckets_max` buckets in which its patterns weigh most: starts and rows anew.

    Arguments as of `contribute`. Of buckets that weigh the same the lower numbers are taken; rows keep their order.
    About 1 ns x the square of a device's patterns; nothing for a device that has no more than `buckets_max` of them.
    Twin: `heaviest`.
    """
    chosen_starts = np.zeros(starts.shape[0], np.int64)
    chosen = np.empty(rows.shape[0], np.int32)
    n = 0
    for device in range(starts.shape[0] - 1):
        own = rows[starts[device] : starts[device + 1]]
        first, weights = _weigh(own, buckets, rates, counts, samples_cap)
        for i in range(own.shape[0]):
            if own.shape[0] <= buckets_max or _heavier(first[i], own, buckets, weights) < buckets_max:
                chosen[n] = own[i]
                n += 1
        chosen_starts[device + 1] = n
    return chosen_starts, chosen[:n]


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
    rates (N,) float32, counts (N,) uint32. A pattern has s = min(count, samples_cap) x 2^8 samples and weighs w =
    `contribution_weight` <= s; where the patterns of a device in one bucket have S > device_cap samples together, both
    are scaled: s x device_cap // S, w x device_cap // S. About 70 ns a pattern, and 0.3 us a call.
    Twin: `contribute`.
    """
    multipliers = np.empty(rows.shape[0], np.int64)
    last_device = np.full(totals.weights.shape[0], -1, np.int64)
    together = np.empty(totals.weights.shape[0], np.int64)  # samples of that device in the bucket
    for device in range(starts.shape[0] - 1):
        begin = starts[device]
        own = rows[begin : starts[device + 1]]
        for row in own:
            bucket = buckets[row]
            if last_device[bucket] != device:
                last_device[bucket] = device
                together[bucket] = 0
                totals.devices[bucket] += sign
            together[bucket] += _samples(counts[row], samples_cap)
        for i in range(own.shape[0]):
            row = own[i]
            bucket = buckets[row]
            weight = contribution_weight(rates[row], counts[row], samples_cap)
            samples = _samples(counts[row], samples_cap)
            if together[bucket] > device_cap:
                weight = weight * device_cap // together[bucket]
                samples = samples * device_cap // together[bucket]
            totals.weights[bucket] += sign * weight
            totals.samples[bucket] += sign * samples
            totals.patterns[bucket] += sign
            multipliers[begin + i] = sign * multiplier(weight, inv[row])
    # Apart, so that reading the next codes does not wait for what they are multiplied by.
    for at in range(starts[0], starts[-1]):
        _add_code(totals.sums, buckets[rows[at]], codes[rows[at]], multipliers[at])


@compiled
def _weigh(
    own: Rows,
    buckets: Rows,
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    samples_cap: int,
) -> Any:
    """For each of the rows own (m,) the place of the first in its bucket; and at that place what all there weigh.

    Both (m,) int64; the weight is -1 at the other places.
    """
    first = np.arange(own.shape[0])
    weights = np.full(own.shape[0], -1, np.int64)
    for i in range(own.shape[0]):
        j = 0
        while buckets[own[j]] != buckets[own[i]]:
            j += 1
        first[i] = j
        weights[j] = max(weights[j], 0) + contribution_weight(rates[own[i]], counts[own[i]], samples_cap)
    return first, weights


@inlined
def _heavier(i: int, own: Rows, buckets: Rows, weights: Counts) -> int:
    """How many buckets come before that of own[i]: they weigh more by weights (m,), or the same with a lower number."""
    before = 0
    for j in range(own.shape[0]):
        lower = weights[j] == weights[i] and buckets[own[j]] < buckets[own[i]]
        before += weights[j] > weights[i] or lower
    return before


@inlined
def _samples(count: np.uint32, samples_cap: int) -> int:
    return int(min(np.int64(count), np.int64(samples_cap)) * WEIGHT_SCALE)


@inlined
def _add_code(sums: npt.NDArray[np.int64], bucket: int, code: npt.NDArray[np.int8], factor: np.int64) -> None:
    """sums[bucket] += factor x code. Both are int32 on the way, whose product AVX2 has an instruction for: |factor| <=
    2^25, as |code| is at least 127."""
    short = np.int64(np.int32(factor))
    for j in range(code.shape[0]):
        sums[bucket, j] += short * np.int64(np.int32(code[j]))
