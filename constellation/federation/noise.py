"""Noise over everything that a round publishes: what it says hardly depends on whether any one device is in it.

Each field is a vector of integers that a device changes by a bounded length (`ContributionBounds`), and gets discrete
Gaussian noise in proportion; together they are one Gaussian mechanism of `Noise.multiplier` (Canonne, Kamath and
Steinke, NeurIPS 2020). Thresholds come after the noise. Whatever is made of the noised numbers costs nothing more.
Called by `merging`; what it costs is accounted for in `privacy`.
"""

import math
from typing import NamedTuple

import numpy as np

from constellation.federation.gaussian import SIGMA_MAX, Integers, RandomBytes, discrete_gaussian
from constellation.federation.terms import Noise
from constellation.limits import (
    PATTERNS_PER_DEVICE_MAX,
    TREND_DECAY_PER_HOUR,
    TREND_SAMPLES_PER_DEVICE_HOUR_MAX,
)
from constellation.model import DIM
from constellation.rounds import GENRE_HINT, ContributionBounds
from kernels.contributions import Totals
from kernels.sums import UNIT
from kernels.trends import HOURS, SummedCounts

LENGTH_MAX = UNIT + 1
"""Of an embedding in fixed point: `kernels.sums.multiplier`."""
_PLACES = GENRE_HINT + 1
_DECAY_SCALE = 1 << 8
_DECAYS = np.rint(TREND_DECAY_PER_HOUR ** np.arange(HOURS) * _DECAY_SCALE).astype(np.int64)
"""(168,) what a sample weighs at each age in hours."""
DEVICE_SCORE_MAX = -(-TREND_SAMPLES_PER_DEVICE_HOUR_MAX * int(_DECAYS.sum()) // _DECAY_SCALE)
"""Decayed samples of one device at most."""
_TREND_NAMES = HOURS * TREND_SAMPLES_PER_DEVICE_HOUR_MAX
"""Items that a device can be alone with."""


class Field(NamedTuple):
    """What a device changes of a vector: its length in L2, the components, and the share of the budget spent on it."""

    length: float
    components: int
    share: float


def fields(bounds: ContributionBounds) -> dict[str, Field]:
    """All that a round publishes. The device's buckets are different components, so lengths grow with their root."""
    n = bounds.buckets
    strings = n * _PLACES * bounds.strings
    return {
        "sums": Field(math.sqrt(n) * bounds.samples * LENGTH_MAX, n * DIM, 0.5),
        "weights": Field(math.sqrt(n) * bounds.samples, n, 0.1),
        "samples": Field(math.sqrt(n) * bounds.samples, n, 0.1),
        "devices": Field(math.sqrt(n), n, 0.1),
        "strings": Field(math.sqrt(strings), strings, 0.1),
        "trends": Field(DEVICE_SCORE_MAX * _DECAY_SCALE, _TREND_NAMES, 0.08),
        "all_devices": Field(1, 1, 0.01),
        "all_patterns": Field(PATTERNS_PER_DEVICE_MAX, 1, 0.01),
    }


class Noising:
    """Draws the noise of one round. What fewer than `devices_min` devices may be behind becomes 0."""

    def __init__(self, noise: Noise, bounds: ContributionBounds, devices_min: int, random_bytes: RandomBytes) -> None:
        self._noise, self._devices_min, self._random_bytes = noise, devices_min, random_bytes
        self._fields = fields(bounds)
        self._names = self._fields["strings"].components

    def totals(self, totals: Totals) -> Totals:
        """Those of all buckets, empty ones too. A bucket whose sum is mostly noise has no devices."""
        sums, sigma = self._noised("sums", totals.sums)
        samples = np.maximum(self._noised("samples", totals.samples)[0], 1)
        weights = np.clip(self._noised("weights", totals.weights)[0], 1, samples)
        devices = self._kept(*self._noised("devices", totals.devices), self._devices_min, self._names)
        squares = (sums.astype(np.float64) ** 2).sum(axis=1)
        devices[squares < 2 * DIM * sigma**2] = 0
        return Totals(sums, weights, samples, totals.patterns, devices)

    def strings(self, counts: Integers) -> Integers:
        """(n,) devices that have a string; names that one device alone has do not get through."""
        return self._kept(*self._noised("strings", counts), self._devices_min, self._names)

    def trends(self, counts: SummedCounts, hour: int) -> Integers:
        """(n,) decayed samples of items with counts (168, n) in the week that ends with `hour`."""
        enough = self._devices_min * DEVICE_SCORE_MAX * _DECAY_SCALE
        noised = self._noised("trends", decayed(counts, hour))
        return self._kept(*noised, enough, _TREND_NAMES) // _DECAY_SCALE

    def all_devices(self, count: int) -> int:
        return self._total("all_devices", count)

    def all_patterns(self, count: int) -> int:
        return self._total("all_patterns", count)

    @property
    def excess_square(self) -> int:
        """By how much noise lengthens the square of a bucket's sum, on average."""
        sigma, unit = scale_of(self._fields["sums"], self._noise.multiplier)
        return DIM * (sigma * unit) ** 2

    def _total(self, name: str, count: int) -> int:
        return max(0, int(self._noised(name, np.array([count]))[0][0]))

    def _noised(self, name: str, values: Integers) -> tuple[Integers, int]:
        """Values with noise of the sigma that their field takes."""
        sigma, unit = scale_of(self._fields[name], self._noise.multiplier)
        drawn = discrete_gaussian(sigma, values.size, self._random_bytes).reshape(values.shape)
        return (values // unit + drawn) * unit, sigma * unit

    def _kept(self, counts: Integers, sigma: int, enough: int, names: int) -> Integers:
        """The counts that are at least `enough` beyond what noise makes of less, else 0.

        But for half of `Noise.names_delta`, all names that a device can be alone with stay below it: the discrete
        Gaussian is subgaussian, its tail below exp(-x^2 / (2 sigma^2)).
        """
        margin = sigma * math.sqrt(2 * math.log(2 * names / self._noise.names_delta))
        kept: Integers = np.where(counts >= enough + math.ceil(margin), counts, 0)
        return kept


def decayed(counts: SummedCounts, hour: int) -> Integers:
    """(n,) samples in fixed point, each decayed by its age, of counts (168, n) in the week that ends with `hour`."""
    scores: Integers = _DECAYS @ counts[(hour - np.arange(HOURS)) % HOURS]
    return scores


def scale_of(field: Field, multiplier: float) -> tuple[int, int]:
    """Sigma in units, and the unit, a power of two, that values are rounded down to so that sigma is small enough.

    Rounding moves each component that a device changes by less than one unit more.
    """
    wanted = multiplier / math.sqrt(field.share)
    unit = 1
    while (sigma := math.floor(wanted * _rounded_length(field, unit)) + 1) > SIGMA_MAX:
        unit *= 2
    return sigma, unit


def expected_sources(devices: Integers, shards: int) -> Integers:
    """(n,) on how many shards so many devices are if they are dealt evenly: a count of shards would need noise."""
    expected = shards * (1 - (1 - 1 / shards) ** devices) if shards else np.zeros(len(devices))
    sources: Integers = np.rint(expected).astype(np.int64)
    return sources


def _rounded_length(field: Field, unit: int) -> float:
    return field.length / unit + (math.sqrt(field.components) if unit > 1 else 0.0)
