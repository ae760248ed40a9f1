"""Rounds for tests: what a shard takes over, and what of it devices may get."""

from collections.abc import Sequence

import numpy as np

from constellation.model import DIM, Ids
from constellation.rounds import FederationResult, Prototypes
from tests.shard.material import code_of, context_of, ids_of
from tests.shard.model import Pattern


def round_of(drawn: Sequence[tuple[int, float, int]], version: int, at: int) -> FederationResult:
    """A round whose prototypes have these directions, rates and devices."""
    n = len(drawn)
    ids: Ids = ids_of([1_000 + i for i in range(n)])
    found = Prototypes(
        numbers=np.arange(n, dtype=np.int32),
        ids=ids,
        codes=np.array([code_of(code) for code, _, _ in drawn], np.int8).reshape(-1, DIM),
        rates=np.array([rate for _, rate, _ in drawn], np.float32),
        counts=np.arange(1, n + 1, dtype=np.uint32),
        contexts=[context_of(code) for code, _, _ in drawn],
        quality=np.full(n, 0.5, np.float32),
        sources=np.ones(n, np.int64),
        devices=np.array([devices for _, _, devices in drawn], np.int64),
    )
    return FederationResult(1, at, at // 3_600, 1, version, 1, 1, n, n, found, [])


def served_prototypes(result: FederationResult) -> list[Pattern]:
    """Good enough, of more than one device; those of the most devices first."""
    found = result.prototypes
    served = [
        (-devices, i)
        for i, (rate, devices) in enumerate(zip(found.rates.tolist(), found.devices.tolist(), strict=True))
        if rate >= np.float32(0.8) and devices > 1
    ]
    return [
        (
            found.ids[i].tobytes(),
            found.codes[i].tobytes(),
            float(found.rates[i]),
            int(found.counts[i]),
            result.at,
            result.at,
            found.contexts[i],
        )
        for _, i in sorted(served)
    ]
