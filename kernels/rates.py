"""Merging success rates: what more samples make of a pattern's rate and count. Owned by the shard."""

import numpy as np
import numpy.typing as npt

from kernels.compiled import compiled


@compiled
def merge_rates(
    rates: npt.NDArray[np.float32],
    counts: npt.NDArray[np.uint32],
    rows: npt.NDArray[np.int32],
    new_rates: npt.NDArray[np.float32],
    samples: npt.NDArray[np.uint32],
    count_max: int,
) -> None:
    """Merge m observations into the columns rates and counts (N,), one after the other; a row may come repeatedly.

    rate = (rate * n + new_rate * samples) / (n + samples) in float64, then n = min(n + samples, count_max). rows,
    new_rates, samples (m,); counts and samples are at least 1. Twin: `merge_rates`.
    """
    for i in range(rows.shape[0]):
        row = rows[i]
        n = np.int64(counts[row])
        m = np.int64(samples[i])
        rates[row] = np.float32((np.float64(rates[row]) * n + np.float64(new_rates[i]) * m) / (n + m))
        counts[row] = np.uint32(min(n + m, np.int64(count_max)))
