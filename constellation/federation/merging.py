"""A round: the partials of shards become prototypes and trends. Pure: no I/O and no clock, randomness only for noise.

Everything is summed as integers and divided only at the end, so any order of shards gives the same bits, and any split
of devices over shards all but `sources` and what is selected by it. Memory does not grow with the number of shards: a
partial is added to one accumulator and let go. Called by the worker.
"""

import math
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from constellation.federation.checks import check
from constellation.federation.contexts import ContextTally
from constellation.federation.gaussian import RandomBytes
from constellation.federation.noise import Noising, expected_sources
from constellation.federation.robust import GroupTally
from constellation.federation.terms import RefusedPartial, RoundTerms
from constellation.federation.trends import TrendTally
from constellation.limits import SAMPLE_COUNT_MAX
from constellation.model import DIM, ID_BYTES
from constellation.rounds import BOUNDS, GLOBAL, FederationResult, Partial, Prototypes, RegionTrends
from kernels.codes import quantise
from kernels.contributions import empty_totals
from kernels.sums import UNIT, WEIGHT_SCALE

_NAMESPACE = uuid.UUID("5f0c7a52-9d0e-4c64-8a3b-1c1f3a0b7de4")
"""Of prototypes' ids."""


def _stop(refused: RefusedPartial) -> None:
    raise refused


class FederationCoordinator:
    """Merges the partials of one round. `random_bytes`: a cryptographic source of the noise that terms may ask for."""

    def __init__(self, terms: RoundTerms, random_bytes: RandomBytes = os.urandom) -> None:
        self._terms, self._random_bytes = terms, random_bytes

    def run_federation(
        self, partials: Iterable[Partial], on_refused: Callable[[RefusedPartial], None] = _stop
    ) -> FederationResult:
        """The round of these partials, taken one at a time.

        A partial that is refused has changed nothing; `on_refused` decides: it raises, or the round goes on without.
        With `RoundTerms.noise` every call draws noise of its own: publish one result, and store it in the transaction
        that takes what it costs (`privacy`).
        """
        merged = _Merged(self._terms)
        for partial in partials:
            try:
                merged.add(partial)
            except RefusedPartial as refused:
                on_refused(refused)
        if noise := self._terms.noise:
            bounds = BOUNDS[self._terms.sharing]
            merged.add_noise(Noising(noise, bounds, self._terms.min_devices, self._random_bytes))
        return merged.result()


class _Merged:
    """What the partials so far come to."""

    def __init__(self, terms: RoundTerms) -> None:
        self._terms = terms
        self._totals = empty_totals(terms.buckets, DIM)
        self._sources = np.zeros(terms.buckets, np.int64)
        self._groups = GroupTally(terms.buckets) if terms.group_key else None
        self._contexts = ContextTally()
        self._trends: dict[str, TrendTally] = {}
        self._reported: set[str] = set()
        self._devices = 0
        self._patterns = 0
        self._excess_square = 0

    def add(self, partial: Partial) -> None:
        """Raises `RefusedPartial`, with nothing changed."""
        check(partial, self._terms)
        if partial.shard_id in self._reported:
            raise RefusedPartial(partial.shard_id, "it has reported already")
        self._reported.add(partial.shard_id)
        numbers = partial.buckets.numbers
        for name, column in self._totals._asdict().items():
            column[numbers] += getattr(partial.buckets, name)
        self._sources[numbers] += 1
        if self._groups:
            self._groups.add(partial.groups)
        self._contexts.add(partial.contexts)
        self._trends.setdefault(partial.region, TrendTally(self._terms.hour)).add(partial.trends, partial.hour)
        self._devices += partial.devices
        self._patterns += int(partial.buckets.patterns.sum())

    def add_noise(self, noising: Noising) -> None:
        self._totals = noising.totals(self._totals)
        self._sources = expected_sources(self._totals.devices, len(self._reported))
        self._contexts.add_noise(noising, len(self._reported))
        reported = Counter(self._terms.shards[shard_id] for shard_id in self._reported)
        for region, tally in sorted(self._trends.items()):
            tally.add_noise(noising, reported[region])
        self._devices, self._patterns = noising.all_devices(self._devices), noising.all_patterns(self._patterns)
        self._excess_square = noising.excess_square

    def result(self) -> FederationResult:
        terms = self._terms
        return FederationResult(
            number=terms.round,
            at=terms.at,
            hour=terms.hour,
            map_epoch=terms.map_epoch,
            codebook_version=terms.codebook_version,
            shards_expected=len(terms.shards),
            shards_reported=len(self._reported),
            patterns=self._patterns,
            devices=self._devices,
            prototypes=self._prototypes(),
            trends=self._top_trends(),
            privacy=terms.noise.privacy if terms.noise else None,
            robust=bool(terms.group_key),
        )

    def _prototypes(self) -> Prototypes:
        """Of the buckets that are backed and have a direction."""
        terms, totals = self._terms, self._totals
        numbers = np.flatnonzero(terms.backed(self._sources, totals.devices, len(terms.shards)))
        vectors, quality = self._directions(numbers)
        directed = vectors.any(axis=1)
        numbers, vectors, quality = numbers[directed], vectors[directed], quality[directed]
        weights, samples = totals.weights[numbers], totals.samples[numbers]
        ids = b"".join(prototype_id(terms.codebook_version, bucket).bytes for bucket in numbers.tolist())
        return Prototypes(
            numbers=numbers.astype(np.int32),
            ids=np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES),
            codes=quantise(vectors),
            rates=(weights / np.maximum(samples, 1)).astype(np.float32),
            counts=np.clip(samples // WEIGHT_SCALE, 1, SAMPLE_COUNT_MAX).astype(np.uint32),
            contexts=self._contexts.contexts(numbers.tolist(), terms),
            quality=quality,
            sources=self._sources[numbers],
            devices=totals.devices[numbers],
        )

    def _directions(self, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Vectors (n, 384) of any length that point where these buckets (n,) do, and the quality (n,) of each."""
        if self._groups:
            medians = self._groups.medians(numbers)
            return medians.astype(np.float32), np.linalg.norm(medians, axis=1).clip(max=1).astype(np.float32)
        sums, weights = self._totals.sums[numbers], self._totals.weights[numbers]
        quality = [self._length(*of) for of in zip(sums.tolist(), weights.tolist(), strict=True)]
        return sums.astype(np.float32), np.array(quality, np.float32)

    def _length(self, sums: list[int], weight: int) -> float:
        """Mean resultant length of embeddings that sum to `sums`, exact but for the last division."""
        square = max(0, sum(x * x for x in sums) - self._excess_square)
        return min(1.0, math.isqrt(square) / (UNIT * weight)) if weight else 0.0

    def _top_trends(self) -> list[RegionTrends]:
        everywhere = TrendTally(self._terms.hour)
        shards = Counter(self._terms.shards.values())
        found = []
        for region, tally in sorted(self._trends.items()):
            everywhere.add_region(tally)
            found.append(tally.top(region, shards[region], self._terms))
        return [*found, everywhere.top(GLOBAL, shards.total(), self._terms)]


def prototype_id(codebook_version: int, bucket: int) -> uuid.UUID:
    """The same in every round, so that a round updates a prototype."""
    return uuid.uuid5(_NAMESPACE, f"{codebook_version}/{bucket}")
