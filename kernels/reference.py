"""Plain twins of the kernels: what they must compute, in as few words as possible and sharing no code with them.

NumPy and Python only, slow, never called by the service. A twin has its kernel's name; where a module has a stateful
class, the twin is a dict. Tests hold each pair against each other.
"""

import itertools
import json
import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


# Codes


def check_vectors(vectors: Array) -> int:
    """First row that is not finite or all zero, else -1."""
    bad = ~np.isfinite(vectors).all(axis=1) | (vectors == 0).all(axis=1)
    return int(np.argmax(bad)) if bad.any() else -1


def check_codes(codes: Array) -> int:
    """First all-zero row, else -1."""
    zero = [row for row, code in enumerate(codes.tolist()) if not any(code)]
    return zero[0] if zero else -1


def quantise(vectors: Array) -> Array:
    """rint(v x 127 / max|v|), row by row."""
    exact = vectors.astype(np.float64)
    scaled: Array = exact * (127 / np.abs(exact).max(axis=1, keepdims=True))
    return np.rint(scaled).astype(np.int8)


def requantise(codes: Array) -> Array:
    """The same for int8 input; zero rows stay."""
    exact = codes.astype(np.float64)
    peak = np.abs(exact).max(axis=1, keepdims=True, initial=0)
    return np.rint(exact * (127 / np.where(peak == 0, 1, peak))).astype(np.int8)


def inverse_norms(codes: Array) -> Array:
    """1/|code|, 0 for zero."""
    norms = [math.sqrt(sum(c * c for c in code)) for code in codes.tolist()]
    return np.array([1 / norm if norm else 0 for norm in norms], np.float32)


def dequantise(codes: Array, inv: Array) -> Array:
    """code x inv."""
    return codes.astype(np.float32) * inv[:, None]


def format_json(codes: Array, inv: Array) -> list[bytes]:
    """One JSON array a row, six decimals."""
    return [json.dumps([round(x, 6) for x in row]).encode() for row in dequantise(codes, inv).tolist()]


# Scan


def cosines(codes: Array, inv: Array, rows: Array, query: Array, query_inv: float) -> Array:
    """dot x inv x query_inv in float32."""
    dots: Array = codes[rows].astype(np.int64) @ query.astype(np.int64)
    scores: Array = dots.astype(np.float32) * inv[rows] * np.float32(query_inv)
    return scores


def scan_top_k(codes: Array, inv: Array, rows: Array, query: Array, query_inv: float, k: int) -> tuple[Array, Array]:
    """Sort everything by (-score, row), keep k."""
    scores = cosines(codes, inv, rows, query, query_inv)
    order = np.lexsort((rows, -scores))[: max(0, k)]
    return rows[order], scores[order]


def scan_all_top_k(
    codes: Array, inv: Array, live: Array, start: int, stop: int, query: Array, query_inv: float, k: int
) -> tuple[Array, Array]:
    """The same over the live rows of a range."""
    rows = np.array([row for row in range(start, stop) if live[row]], np.int32)
    return scan_top_k(codes, inv, rows, query, query_inv, k)


def nearest_centroid(codes: Array, centroids: Array, inv: Array) -> Array:
    """argmax of dot x inv; the first of equals."""
    scores: Array = (codes.astype(np.int64) @ centroids.T.astype(np.int64)).astype(np.float32) * inv
    nearest: Array = np.argmax(scores, axis=1).astype(np.int32)
    return nearest


def place(at: Array, rows: Array, codes: Array, centroids: Array, inv: Array) -> None:
    """1 + the nearest, where there is 0."""
    for row in rows.tolist():
        at[row] = at[row] or 1 + nearest_centroid(codes[[row]], centroids, inv)[0]


def pairwise_cosine(codes: Array, inv: Array, rows: Array) -> Array:
    """Unit vectors times their transpose."""
    unit: Array = codes[rows].astype(np.float64) * inv[rows].astype(np.float64)[:, None]
    return (unit @ unit.T).astype(np.float32)


# K-means


def plus_plus(codes: Array, inv: Array, k: int, rng: np.random.Generator) -> list[int]:
    """A share of the total of 1 - the highest cosine to any row drawn before, walked to from the first row on."""
    everyone, drawn, gaps = np.arange(len(codes)), list[int](), [1.0] * len(codes)
    for _ in range(k):
        left = list(itertools.accumulate(gaps))
        share = rng.random() * left[-1]
        row = next((row for row, reached in enumerate(left) if reached > share), len(codes) - 1)
        drawn.append(row)
        highest = np.max([cosines(codes, inv, everyone, codes[seed], inv[seed]) for seed in drawn], axis=0)
        gaps = [0.0 if i in drawn else max(0.0, 1 - float(cosine)) for i, cosine in enumerate(highest)]
    return drawn


def lloyd(codes: Array, inv: Array, centroids: Array) -> tuple[Array, Array, float]:
    """Cluster by cluster; empty ones get the farthest codes, in order."""
    centroid_inv = inverse_norms(centroids)
    nearest = nearest_centroid(codes, centroids, centroid_inv)
    own = [float(cosines(codes, inv, np.array([i]), centroids[c], centroid_inv[c])[0]) for i, c in enumerate(nearest)]
    farthest = iter(sorted(range(len(codes)), key=lambda i: (own[i], i)))
    moved = []
    for c in range(len(centroids)):
        multipliers = np.floor(256 * inv[nearest == c, None].astype(np.float64) * 16_384)
        total = (codes[nearest == c] * multipliers).sum(axis=0)
        unit = (total / math.sqrt((total**2).sum() or 1)).astype(np.float32)
        moved.append(quantise(unit[None])[0] if total.any() else codes[next(farthest)])
    return np.array(moved), nearest, math.fsum(own) / len(own)


# Sums: Python's unbounded integers


def contribution_weight(rate: float | np.float32, count: int, cap: int) -> int:
    """rint(rate x min(count, cap) x 2^8)."""
    return round(float(rate) * min(int(count), cap) * 256)


def multiplier(weight: int, inverse: np.float32) -> int:
    """floor(weight x 2^14 / |code|)."""
    return math.floor(weight * Fraction(float(inverse)) * 16_384)


def accumulate(
    sums: Array,
    weights: Array,
    counts: Array,
    buckets: Array,
    codes: Array,
    inv: Array,
    rates: Array,
    samples: Array,
    cap: int,
    sign: int = 1,
) -> None:
    """Pattern by pattern, component by component."""
    for bucket, code, scale, rate, count in zip(buckets.tolist(), codes.tolist(), inv, rates, samples, strict=True):
        weight = contribution_weight(rate, count, cap)
        weights[bucket] += sign * weight
        counts[bucket] += sign
        sums[bucket] += [sign * multiplier(weight, scale) * c for c in code]


def remove(
    sums: Array,
    weights: Array,
    counts: Array,
    buckets: Array,
    codes: Array,
    inv: Array,
    rates: Array,
    samples: Array,
    cap: int,
) -> None:
    """The same with a minus sign."""
    accumulate(sums, weights, counts, buckets, codes, inv, rates, samples, cap, sign=-1)


def merge(into: Any, other: Any) -> None:
    """Integers, added."""
    for mine, theirs in zip(into, other, strict=True):
        mine[:] = (mine.astype(object) + theirs.astype(object)).astype(np.int64)


def finish(sums: Array, weights: Array) -> Array:
    """Each row over its length."""
    exact = sums.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    kept = (norms > 0) & (weights[:, None] > 0)
    return np.where(kept, exact / np.where(kept, norms, 1), 0).astype(np.float32)


def heaviest(
    starts: Array, rows: Array, buckets: Array, rates: Array, counts: Array, samples_cap: int, buckets_max: int
) -> tuple[Array, Array]:
    """Buckets sorted by what the device's patterns weigh in them, the first few kept."""
    kept: list[list[int]] = []
    for first, stop in itertools.pairwise(starts.tolist()):
        weights: defaultdict[int, int] = defaultdict(int)
        for row in rows[first:stop].tolist():
            weights[int(buckets[row])] += contribution_weight(rates[row], counts[row], samples_cap)
        best = sorted(weights, key=lambda bucket: (-weights[bucket], bucket))[:buckets_max]
        kept.append([row for row in rows[first:stop].tolist() if buckets[row] in best])
    ends = [0, *itertools.accumulate(map(len, kept))]
    return np.array(ends, np.int64), np.array([row for own in kept for row in own], np.int32)


def contribute(
    totals: Any,
    starts: Array,
    rows: Array,
    buckets: Array,
    codes: Array,
    inv: Array,
    rates: Array,
    counts: Array,
    samples_cap: int,
    device_cap: int,
    sign: int,
) -> None:
    """Device by device, bucket by bucket, in Python's integers."""
    for first, stop in itertools.pairwise(starts.tolist()):
        own = rows[first:stop].tolist()
        for bucket in {int(buckets[row]) for row in own}:
            members = [row for row in own if buckets[row] == bucket]
            weights = [contribution_weight(rates[row], counts[row], samples_cap) for row in members]
            samples = [min(int(counts[row]), samples_cap) * 256 for row in members]
            if (total := sum(samples)) > device_cap:
                weights = [weight * device_cap // total for weight in weights]
                samples = [sample * device_cap // total for sample in samples]
            totals.weights[bucket] += sign * sum(weights)
            totals.samples[bucket] += sign * sum(samples)
            totals.patterns[bucket] += sign * len(members)
            totals.devices[bucket] += sign
            for row, weight in zip(members, weights, strict=True):
                factor = sign * multiplier(weight, inv[row])
                totals.sums[bucket] += [factor * c for c in codes[row].tolist()]


# Key table


class KeyTable(dict[tuple[int, bytes], int]):
    """(owner, id) -> row over the caller's columns, as a dict."""

    def __init__(self, owners: Array, ids: Array) -> None:
        super().__init__()
        self._owners, self._ids = owners, ids

    def key(self, row: int) -> tuple[int, bytes]:
        """What stands in the columns."""
        return int(self._owners[row]), self._ids[row].tobytes()

    def find(self, owner: int, key: bytes) -> int:
        """Row or -1."""
        return self.get((owner, key), -1)

    def insert(self, row: int) -> None:
        """Enter the key of a row."""
        assert self.key(row) not in self
        self[self.key(row)] = row

    def delete(self, row: int) -> None:
        """Take it out."""
        assert self[self.key(row)] == row
        del self[self.key(row)]


# Trends: counts by (item, hour), nothing ever decays or rolls


class Trends:
    """Counts by item and absolute hour; scores from their definition whenever they are asked for."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._counts: defaultdict[tuple[int, int], int] = defaultdict(int)

    def credit(self, item: int, hour: int, samples: int) -> None:
        """Add to one cell."""
        self._counts[item, hour] += samples

    def debit(self, item: int, samples: int, now_hour: int, last_hour: int) -> int:
        """Take from the latest hours first; how many were there."""
        left = samples
        for hour in range(min(last_hour, now_hour), now_hour - 168, -1):
            taken = min(left, self._counts[item, hour])
            self._counts[item, hour] -= taken
            left -= taken
        return samples - left

    def count(self, item: int, hour: int, now_hour: int) -> int:
        """What is remembered of one hour."""
        return self._counts[item, hour] if now_hour - 168 < hour <= now_hour else 0

    def score(self, item: int, now_hour: int) -> float:
        """sum of counts x decay^age over the last 168 hours."""
        ages = range(168)
        return math.fsum(self.count(item, now_hour - age, now_hour) * self._decay**age for age in ages)


def top_k(values: Array, live: Array, k: int) -> Array:
    """Sort the live numbers by (-value, index), keep k."""
    indices = [i for i in range(len(values)) if live[i] and not math.isnan(values[i])]
    indices.sort(key=lambda i: (-values[i], i))
    return np.array(indices[: max(0, k)], np.int32)


# Lists


def search(codes: Array, inverse: Array, rows: Array, query: Array, k: int) -> tuple[Array, Array]:
    """Every row scored, in steps of 2^-30; sorted by (-score, -row), the first k and their cosines."""
    unit = np.float32(2**30 / math.sqrt(sum(q * q for q in query.tolist())))
    dots: Array = codes[rows].astype(np.int64) @ query.astype(np.int64)
    steps = np.trunc(dots.astype(np.float32) * inverse[rows] * unit)
    order = np.lexsort((-rows, -steps))[:k]
    return rows[order], steps[order] / np.float32(2**30)


def pack(sketch: Array) -> Array:
    """Components as steps 0..15 of width 7, the second half in the high bits."""
    steps = np.clip(np.floor((sketch.astype(np.float64) + 56) / 7), 0, 15).astype(np.uint8)
    half = len(steps) // 2
    packed: Array = steps[:half] + 16 * steps[half:]
    return packed


# Queries


def mean_code(codes: Array, inverse: Array, rows: Array, weights: Array) -> Array:
    """The sum of scaled codes in float32, row by row, quantised; the first code if it is zero."""
    mean = np.zeros((1, codes.shape[1]), np.float32)
    for row, weight in zip(rows, weights, strict=True):
        mean += np.float32(weight * inverse[row]) * codes[row].astype(np.float32)
    code: Array = quantise(mean)[0] if mean.any() else codes[rows[0]]
    return code


def project(codes: Array, inverse: Array, axes: Array, scales: Array) -> Array:
    """Inner products, scaled, rounded and clipped."""
    dots = (codes.astype(np.int64) @ axes.astype(np.int64).T).astype(np.float32)
    components: Array = np.clip(np.rint(dots * inverse[:, None] * scales), -127, 127)
    return components.astype(np.int8)


# Interests


def questions(
    codes: Array, inverse: Array, rows: Array, weights: Array, k: int, same: float, most: int
) -> tuple[Array, list[int]]:
    """Groups of rows in order of weight, their means, and k divided by what they weigh."""
    groups: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: -weights[i]):
        near = [_cosine(codes[rows], inverse[rows], *sorted((i, members[0]))) for members in groups]
        if not groups or (max(near) < same and len(groups) < most):
            groups.append([i])
        else:
            groups[near.index(max(near))].append(i)
    sums = [sum(float(weights[i]) for i in members) for members in groups]
    shares = [part / sum(sums) if sum(sums) else 1 / len(groups) for part in sums]
    order = sorted(range(len(groups)), key=lambda g: -shares[g])
    means = [mean_code(codes, inverse, rows[groups[g]], weights[groups[g]]) for g in order]
    return np.array(means), divide(k, [shares[g] for g in order])


def _cosine(codes: Array, inverse: Array, i: int, j: int) -> Any:
    return np.float32(codes[i].astype(np.int64) @ codes[j].astype(np.int64)) * inverse[i] * inverse[j]


def divide(k: int, shares: list[float]) -> list[int]:
    """Rounded down, then one more for the largest remainders."""
    exact = [share * k for share in shares]
    parts = [int(part) for part in exact]
    for i in sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])[: k - sum(parts)]:
        parts[i] += 1
    return parts


# Arrivals


def likely(sketches: list[Array], sketch: Array, since: int, want: int) -> set[int]:
    """Of arrivals 1.. with these sketches the numbers of those from `since` on that are most similar when packed."""
    scores = {
        number: int(unpacked(one) @ sketch.astype(np.int64))
        for number, one in enumerate(sketches, start=1)
        if number >= since
    }
    return set(sorted(scores, key=lambda number: -scores[number])[:want])


def unpacked(sketch: Array) -> Array:
    """The steps 0..15 of its components."""
    packed = pack(sketch).astype(np.int64)
    return np.concatenate((packed & 15, packed >> 4))


# Rankings


def renew(
    codes: Array, served: list[int], prototypes: Array, queries: Array, parts: list[int], share: int
) -> list[int]:
    """All served rows of others and all prototypes, row -1 - place each, looked at for every interest."""
    inverse = inverse_norms(prototypes) if len(prototypes) else np.empty(0, np.float32)

    def best(query: Array, part: int) -> list[int]:
        rows, near = search(codes, inverse_norms(codes), np.array(served), query, part)
        norm = inverse_norms(query[None])[0]
        dots = (prototypes.astype(np.int64) @ query.astype(np.int64)).astype(np.float32) * inverse * norm
        allowed = np.argsort(-dots, kind="stable")[: part // share]
        both = [(-float(c), 0, int(row)) for c, row in zip(near, rows, strict=True)]
        both += [(-float(dots[place]), 1, -1 - int(place)) for place in allowed]
        return [row for _, _, row in sorted(both, key=lambda entry: entry[:2])[:part]]

    found = list(dict.fromkeys(row for query, part in zip(queries, parts, strict=True) for row in best(query, part)))
    more = [row for row in best(queries[0], sum(parts)) if row not in found]
    return found + more[: sum(parts) - len(found)]


# Chains


class Chains(dict[int, list[int]]):
    """Rows by device, newest first."""

    def rows_of(self, device: int) -> list[int]:
        """A copy."""
        return list(self.get(device, []))

    def link(self, device: int, row: int) -> None:
        """In front."""
        self.setdefault(device, []).insert(0, row)

    def unlink(self, device: int, row: int) -> None:
        """Out."""
        self[device].remove(row)


# Product quantisation


def encode_residuals(
    codes: Array,
    scale: Array,
    numbers: Array,
    centroids: Array,
    weights: Array,
    axes: Array,
    axis_inv: Array,
    tables: Array,
) -> Array:
    """Coordinates of code x scale - centroid x weight on the axes, then the nearest entries."""
    left = codes.astype(np.float64) * scale[:, None] - centroids[numbers].astype(np.float64) * weights[numbers, None]
    return assign(left @ axes.T.astype(np.float64) * axis_inv, tables)


def decode_residuals(
    residuals: Array, numbers: Array, centroids: Array, weights: Array, axes: Array, tables: Array
) -> Array:
    """Sums of unbounded integers; the axes as they are."""
    m = tables.shape[0]
    points = tables[np.arange(m), residuals].reshape(len(residuals), len(axes)).astype(np.int64)
    sums = weights[numbers, None] * centroids[numbers].astype(np.int64) + points @ axes.astype(np.int64)
    zero = ~sums.any(axis=1, keepdims=True)
    return quantise(np.where(zero, 1, sums)) * np.int8(~zero)


def assign(points: Array, tables: Array) -> Array:
    """Every distance, then the first of the least."""
    m, s, _ = tables.shape
    gaps = points.reshape(-1, m, s, 1).astype(np.float64) - tables.astype(np.float64)
    nearest: Array = np.argmin((gaps**2).sum(axis=2), axis=2).astype(np.uint8)
    return nearest


def improve(points: Array, numbers: Array, tables: Array) -> Array:
    """Means, entry by entry."""
    made = tables.copy()
    m, s, entries = tables.shape
    runs = points.reshape(-1, m, s)
    for t, k in itertools.product(range(m), range(entries)):
        members = runs[numbers[:, t] == k, t].astype(np.float64)
        if len(members):
            made[t, :, k] = members.sum(axis=0) / len(members)
    return made


# Cursors


class Cursor:
    """Two lists by row: the handle of each entry, and the (changed, written, born) of its row when it was sent."""

    def __init__(self) -> None:
        self.lists: dict[int, dict[int, tuple[int, tuple[int, int, int]]]] = {0: {}, 1: {}, 2: {}}

    def tell(
        self, against: int, rows: list[int], revisions: dict[int, tuple[int, int, int]], ids: dict[int, bytes]
    ) -> tuple[list[int], list[int], list[int], list[bytes], int]:
        """Counts that never wrap. Handles: as before, else the lowest that are free."""
        base = self.lists[against]
        kept = {row: base[row][0] for row in rows if row in base and revisions[row][2] <= base[row][1][0]}
        gone = sorted((handle, row) for row, (handle, _) in base.items() if row not in kept)
        free = iter(sorted(set(range(200)) - {handle for handle, _ in base.values()}))
        handles = {row: kept[row] if row in kept else next(free) for row in rows}
        kinds = {row: 2 if row not in kept else _kind(base[row][1][0], *revisions[row]) for row in rows}
        names = [ids[row] for _, row in gone if revisions[row][2] <= base[row][1][0]]
        for shared in {ids[row] for row in rows}:
            group = [row for row in rows if ids[row] == shared]
            if shared in names or (len(group) > 1 and any(kinds[row] for row in group)):
                kinds.update(dict.fromkeys(group, 2))
        self.lists = {0: {}, 1: base, 2: {row: (handles[row], revisions[row]) for row in rows}}
        removed = [name for name in names if name not in {ids[row] for row in rows}]
        return (
            *([handles[row] for row in rows], [kinds[row] for row in rows]),
            *([handle for handle, _ in gone], removed, len(gone) - len(names)),
        )


def _kind(sent: int, changed: int, written: int, _: int) -> int:
    return 2 if written > sent else int(changed > sent)
