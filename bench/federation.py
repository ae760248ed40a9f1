"""What does a round of 100 shards cost, and how true is it?

The shards have 4,000,000 devices each (`bench.crowd`); their partials are files, merged in a child process that does
nothing else. Beside it, what a shard does to recount all its contributions, and the same in NumPy; and Flower's average
of the same shards.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.crowd import DEVICES, Crowd
from bench.peers import NotInstalled, flower
from bench.plan import Answers, Note, Plan, Timings, tracked
from bench.report import Row, Target, Yardstick, at_most
from bench.workload import PATTERNS_A_DEVICE, Households
from constellation.federation import FederationCoordinator, RoundTerms
from constellation.limits import WEIGHT_COUNT_CAP
from constellation.model import DIM
from constellation.rounds import BOUNDS, decode_partial, decode_result, encode
from kernels.codes import inverse_norms
from kernels.contributions import Totals, contribute, empty_totals
from kernels.sums import UNIT, WEIGHT_SCALE
from kernels.warm import warm

SHARDS = 100
BUCKETS_MAX = 1_024
TITLES_MAX = 10_000
ROUND_S_MAX, MEMORY_MB_MAX, PARTIAL_MB_MAX = 20.0, 512.0, 10.0
COSINE_ERROR_PPM_MAX = 100.0
MEMCPY_SHARE_MIN = 0.4
RECOUNTED = 1_000_000
"""Patterns of which all contributions are counted anew; a smaller plan takes ten times its own."""
REPEATS = 3
MB = 1e6

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_ROWS_AT_ONCE = 20_000


class Merged(NamedTuple):
    """What the child measured. Bytes are of resident memory above what was there before; 0 where nobody tells."""

    seconds: float
    reading_s: float
    peak_bytes: int
    published: bytes


def measure(plan: Plan) -> Answers:
    yield from _measure_round(plan)
    yield from _measure_contributions(plan)


def _measure_round(plan: Plan) -> Answers:
    rng = plan.rng("federation")
    part = workload.load_library(plan.patterns, plan.seed).known
    crowd = Crowd(part, SHARDS, min(BUCKETS_MAX, plan.patterns // 20), min(TITLES_MAX, plan.content_items), rng)
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, shard_id) for shard_id in crowd.terms.shards]
        for path in tracked(paths, "drawing shards"):
            path.write_bytes(encode(crowd.partial(path.name)))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
            merged = child.submit(_merge, paths, crowd.terms).result()
        yield from _round_rows(crowd, merged, [path.stat().st_size for path in paths], _unpacked_bytes(paths[0]))
        if plan.peers:
            try:
                yield _compare_with_flower(crowd, paths)
            except NotInstalled as why:
                yield Note(f"Flower is not measured: {why}")


def _merge(paths: list[Path], terms: RoundTerms) -> Merged:
    """Runs in the child."""
    warm()
    reading = Timings()
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # VmHWM starts anew
    before, started = _resident_bytes("VmRSS"), time.perf_counter()
    partials = (reading.measure(lambda path: decode_partial(path.read_bytes()), path) for path in paths)
    published = encode(FederationCoordinator(terms).run_federation(partials))
    seconds = time.perf_counter() - started
    return Merged(seconds, sum(reading.ms) / 1e3, _resident_bytes("VmHWM") - before, published)


def _resident_bytes(which: str) -> int:
    lines = _STATUS.read_text().splitlines() if _CLEAR.exists() else []
    return sum(int(line.split()[1]) * 1_024 for line in lines if line.startswith(which))


def _unpacked_bytes(path: Path) -> int:
    partial = decode_partial(path.read_bytes())
    columns = [getattr(of, name) for of in (partial.buckets, partial.contexts) for name in of.__struct_fields__]
    return sum(column.nbytes for column in (*columns, partial.trends.counts) if isinstance(column, np.ndarray))


def _round_rows(crowd: Crowd, merged: Merged, wire_bytes: list[int], unpacked_bytes: int) -> Answers:
    result, published_mb = decode_result(merged.published), len(merged.published) / MB
    found = f"{result.devices:,} devices, {result.patterns:,} patterns: {len(result.prototypes):,} prototypes"
    yield Row(
        name=f"a round of {len(wire_bytes)} shards: read, merged, encoded",
        value=merged.seconds,
        unit="s",
        quality=f"{found}, {sum(map(len, result.trends)):,} trends of {len(result.trends)} regions",
        yardstick=Yardstick("reading and decoding alone", merged.reading_s),
        target=at_most(ROUND_S_MAX),
    )
    if merged.peak_bytes:
        yield Row(
            name="memory of a round, peak",
            value=merged.peak_bytes / MB,
            unit="MB",
            quality="resident, above what the process had before",
            yardstick=Yardstick("all partials at once", len(wire_bytes) * unpacked_bytes / MB),
            target=at_most(MEMORY_MB_MAX),
            gate=at_most(MEMORY_MB_MAX),
        )
    yield Row(
        name="a shard's partial, largest",
        value=max(wire_bytes) / MB,
        unit="MB",
        quality=f"{DEVICES:,} devices, {crowd.terms.buckets:,} buckets; a published round: {published_mb:.1f} MB",
        yardstick=Yardstick("its columns", unpacked_bytes / MB),
        target=at_most(PARTIAL_MB_MAX),
        gate=at_most(PARTIAL_MB_MAX),
    )
    errors_ppm = 1e6 * (1 - _cosines(result.prototypes.codes, crowd.true_means()[result.prototypes.numbers]))
    yield Row(
        name="1 - cosine of prototype and true weighted mean",
        value=float(errors_ppm.mean()),
        unit="ppm",
        quality=f"mean of {len(errors_ppm):,}; worst {errors_ppm.max():.0f}",
        yardstick=Yardstick("allowed", COSINE_ERROR_PPM_MAX),
        target=at_most(COSINE_ERROR_PPM_MAX),
        gate=at_most(COSINE_ERROR_PPM_MAX),
    )


def _compare_with_flower(crowd: Crowd, paths: list[Path]) -> Row:
    partials = [decode_partial(path.read_bytes()).buckets for path in paths]
    means = [(of.sums / of.weights[:, None]).astype(np.float32) for of in partials]
    weights = [int(of.weights.sum()) for of in partials]
    averaged, averaging_ms = flower.average(means, weights, REPEATS)
    merging = Timings()
    for _ in range(REPEATS):
        merging.measure(lambda: sum((of.sums for of in partials), np.zeros((crowd.terms.buckets, DIM), np.int64)))
    error_ppm = 1e6 * (1 - _cosines(averaged, crowd.true_means()).mean())
    return Row(
        name=f"Flower's FedAvg of the {len(paths)} shards' means",
        value=averaging_ms,
        unit="ms",
        quality=f"1 - cosine {error_ppm:.2f} ppm; one weight a shard, none a bucket",
        yardstick=Yardstick("our sums, integers", merging.p50),
    )


def _cosines(a: npt.NDArray[np.generic], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    left = a.astype(np.float64)
    found: npt.NDArray[np.float64] = (left * b).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(b, axis=1)
    return found


def _measure_contributions(plan: Plan) -> Answers:
    rng = plan.rng("contributions")
    part = workload.load_library(plan.patterns, plan.seed).known
    patterns = min(RECOUNTED, 10 * plan.patterns)
    households = workload.make_households(part, patterns // PATTERNS_A_DEVICE, None, rng)
    buckets = households.films.reshape(-1) % np.int32(BUCKETS_MAX)
    counting, plainly, copying = Timings(), Timings(), Timings()
    copy = np.zeros_like(households.codes)
    inv = inverse_norms(households.codes)
    for _ in range(REPEATS):
        totals = counting.measure(_contributed, households, buckets, inv)
        copying.measure(np.copyto, copy, households.codes)
    sums = plainly.measure(_contributed_by_numpy, households, buckets, inv)
    n = len(buckets)
    yield Row(
        name=f"contributions of {n:,} patterns counted anew",
        value=counting.p50 / 1e3,
        unit="s",
        quality="equal to the last bit" if np.array_equal(totals.sums, sums) else "DIFFERENT SUMS",
        yardstick=Yardstick("NumPy: sorted, np.add.reduceat", plainly.p50 / 1e3),
    )
    yield Row(
        name="the same as codes read per second",
        value=households.codes.nbytes / counting.p50 / 1e6,
        unit="GB/s",
        quality=f"{counting.p50 * 1e6 / n:.0f} ns a pattern",
        yardstick=Yardstick("copying them", households.codes.nbytes / copying.p50 / 1e6),
        target=Target(">=", MEMCPY_SHARE_MIN, "ratio"),
    )


def _contributed(households: Households, buckets: npt.NDArray[np.int32], inv: npt.NDArray[np.float32]) -> Totals:
    totals = empty_totals(BUCKETS_MAX, DIM)
    starts = np.arange(0, len(buckets) + 1, PATTERNS_A_DEVICE)
    rows = np.arange(len(buckets), dtype=np.int32)
    columns = (buckets, households.codes, inv, households.rates, households.counts)
    contribute(totals, starts, rows, *columns, WEIGHT_COUNT_CAP, BOUNDS["patterns"].samples, 1)
    return totals


def _contributed_by_numpy(
    households: Households, buckets: npt.NDArray[np.int32], inv: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """(K, 384) sums. Without the cap on a device, which none here reaches."""
    sums = np.zeros((BUCKETS_MAX, DIM), np.int64)
    order = np.argsort(buckets, kind="stable")
    weights = np.rint(households.rates.astype(np.float64) * households.counts * WEIGHT_SCALE).astype(np.int64)
    samples = households.counts.reshape(-1, PATTERNS_A_DEVICE).sum(axis=1, dtype=np.int64) * WEIGHT_SCALE
    assert samples.max() <= BOUNDS["patterns"].samples
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        multipliers = (weights[rows] * inv[rows].astype(np.float64) * UNIT).astype(np.int64)
        weighted = households.codes[rows] * multipliers[:, None]
        firsts = np.flatnonzero(np.diff(buckets[rows], prepend=-1))
        sums[buckets[rows][firsts]] += np.add.reduceat(weighted, firsts)
    return sums
