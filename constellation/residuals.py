"""What a codebook says of the part of an embedding that its centroid leaves: 30 bytes, by a product quantiser.

An embedding is decoded as weights[c] x centroids[c] + the sum over 180 axes of t[i] x axes[i], where t are the entries
that the 30 bytes name in their tables. All of it is integers, so every decoder gives the same code, bit for bit
(docs/compact.md). Part of `constellation.codebook`, whose file holds it; shards encode, TVs decode.
"""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.model import DIM, Codes, Residuals, Rows
from kernels import product
from kernels.codes import CODE_MAX, inverse_norms
from kernels.product import ENTRIES

AXES = 180
"""Main axes of what centroids leave. The other 204 hold mostly noise: with all of them the same bytes say less."""
TABLES = 30
"""Bytes of a residual."""
RUN = AXES // TABLES
"""Axes of one table."""
WEIGHT_MAX = 0xFFFF
SECTION_BYTES = {"axes": AXES * DIM, "tables": TABLES * ENTRIES * RUN, "unit": 4}
"""And "weights": 2 for each centroid."""
SAMPLES_MAX = 32_768
"""More train no better, and take longer."""
ROUNDS = 12

_TABLE_UNIT_MIN = 1e-4  # so that weights fit, whatever the samples

# No sum of an embedding's component exceeds what docs/compact.md says.
assert (AXES * CODE_MAX + WEIGHT_MAX) * CODE_MAX < 2**24


class WrongResiduals(Exception):
    """Sections that are no quantiser; says what is wrong."""


class Quantiser(msgspec.Struct, frozen=True, eq=False):
    """weights (k,) uint16, axes (180, 384) int8, tables (30, 256, 6) int8, read-only, as the file has them; unit: how
    long a decoded embedding is, which only an encoder needs."""

    weights: npt.NDArray[np.uint16]
    axes: Codes
    tables: npt.NDArray[np.int8]
    unit: float

    def sections(self) -> dict[str, bytes]:
        return {
            "weights": self.weights.astype("<u2").tobytes(),
            "axes": self.axes.tobytes(),
            "tables": self.tables.tobytes(),
            "unit": np.float32(self.unit).astype("<f4").tobytes(),
        }


def parse(sections: Mapping[str, bytes], size: int) -> Quantiser | None:
    """The quantiser of a codebook of `size` centroids, None if it has none. Raises `WrongResiduals`."""
    lens = SECTION_BYTES | {"weights": 2 * size}
    if not lens.keys() & sections.keys():
        return None
    for name, wanted in lens.items():
        if len(sections.get(name, b"")) != wanted:
            raise WrongResiduals(f"its section {name!r} is {len(sections.get(name, b''))} bytes, not {wanted}")
    weights = np.frombuffer(sections["weights"], "<u2")
    unit = float(np.frombuffer(sections["unit"], "<f4")[0])
    if not (weights.all() and 0 < unit < 2**24):
        raise WrongResiduals("its section 'weights' or 'unit' holds what is none")
    axes = np.frombuffer(sections["axes"], np.int8).reshape(AXES, DIM)
    tables = np.frombuffer(sections["tables"], np.int8).reshape(TABLES, ENTRIES, RUN)
    if min(axes.min(), tables.min()) < -CODE_MAX or not axes.any(axis=1).all():
        raise WrongResiduals(
            f"its section 'axes' or 'tables' holds a component below -{CODE_MAX} or an axis of length 0"
        )
    return Quantiser(weights, axes, tables, unit)


class Encoder:
    """Embeddings to residuals: what a shard holds of a quantiser."""

    def __init__(self, centroids: Codes, quantiser: Quantiser) -> None:
        self._centroids, self._axes = centroids.copy(), quantiser.axes.copy()
        self._weights = quantiser.weights.astype(np.float32)
        self._axis_inv = inverse_norms(self._axes) ** 2
        self._tables = np.ascontiguousarray(quantiser.tables.transpose(0, 2, 1)).astype(np.float32)
        self._unit = np.float32(quantiser.unit)

    def encode(self, codes: Codes, inverse: npt.NDArray[np.float32], numbers: Rows) -> Residuals:
        """(n, 30) uint8 of codes (n, 384) with their 1/|code| (n,) and centroids (n,) int32; 10 us each."""
        of_centroids = numbers, self._centroids, self._weights
        found: Residuals = product.encode(
            codes, inverse * self._unit, *of_centroids, self._axes, self._axis_inv, self._tables
        )
        return found


class Decoder:
    """Residuals to embeddings: what a TV holds of a quantiser."""

    def __init__(self, centroids: Codes, quantiser: Quantiser) -> None:
        self._centroids, self._weights = centroids.copy(), quantiser.weights.astype(np.int32)
        self._axes, self._tables = product.pair(quantiser.axes), quantiser.tables.copy()

    def decode(self, numbers: Rows, residuals: Residuals) -> Codes:
        """Codes (n, 384) of centroids (n,) below the codebook's size and residuals (n, 30). A zero sum stays zero.

        0.1 ms for 100.
        """
        found: Codes = product.decode(residuals, numbers, self._centroids, self._weights, self._axes, self._tables)
        return found


def train(
    samples: Codes, numbers: Rows, centroids: Codes, seed: int, advance: Callable[[float], None] = lambda _: None
) -> Quantiser:
    """Fit a quantiser to samples (n, 384) and their nearest centroids (n,); the same for the same seed.

    Axes are the principal ones, dealt to tables so that each has about as much to tell: the parametric solution of Ge,
    He, Ke and Sun, Optimized Product Quantization, CVPR 2013, 3.3. `advance` is told which share of the work is done.
    """
    rng = np.random.default_rng(seed)
    units, middles = samples * inverse_norms(samples)[:, None], centroids * inverse_norms(centroids)[:, None]
    shares = _shares(units, middles, numbers)
    some = rng.permutation(len(samples))[:SAMPLES_MAX]
    left = units[some] - middles[numbers[some]] * shares[numbers[some], None]
    axes = _axes(left)
    points = np.ascontiguousarray(left @ axes.T)
    first = rng.choice(len(points), ENTRIES, replace=len(points) < ENTRIES)
    tables = np.ascontiguousarray(points[first].reshape(ENTRIES, TABLES, RUN).transpose(1, 2, 0))
    for number in range(1, 1 + ROUNDS):
        tables = product.improve(points, product.assign(points, tables), tables)
        advance(number / ROUNDS)
    return _rounded(shares * inverse_norms(centroids), axes, tables)


def _shares(units: npt.NDArray[np.float32], middles: npt.NDArray[np.float32], numbers: Rows) -> npt.NDArray[np.float32]:
    """How much of its centroid (k,) an embedding is: the mean cosine of those that are nearest to it, or of all."""
    cosines = np.einsum("ij,ij->i", units, middles[numbers])
    counts = np.bincount(numbers, minlength=len(middles))
    sums = np.bincount(numbers, cosines, minlength=len(middles))
    shares = np.where(counts > 0, sums / np.maximum(counts, 1), cosines.mean())
    return np.maximum(shares, 0.01).astype(np.float32)


def _axes(left: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(180, 384) orthonormal, table by table."""
    spread, axes = np.linalg.eigh(left.T.astype(np.float64) @ left / len(left))
    main = np.argsort(-spread, kind="stable")[:AXES]
    told = np.log(np.maximum(spread[main], 1e-9 * spread[main[0]] + 1e-30))
    told -= told[-1]
    of_table: list[list[int]] = [[] for _ in range(TABLES)]
    for axis, information in enumerate(told):
        free = (table for table in range(TABLES) if len(of_table[table]) < RUN)
        table = min(free, key=lambda table: (sum(told[of_table[table]]), table))
        of_table[table].append(axis)
        assert information >= 0
    order = main[[axis for listed in of_table for axis in listed]]
    return np.ascontiguousarray(axes[:, order].T).astype(np.float32)


def _rounded(
    weights: npt.NDArray[np.float32], axes: npt.NDArray[np.float32], tables: npt.NDArray[np.float32]
) -> Quantiser:
    """As integers in one unit."""
    axis_unit = float(np.abs(axes).max()) / CODE_MAX
    table_unit = max(float(np.abs(tables).max()) / CODE_MAX, _TABLE_UNIT_MIN)
    unit = 1 / (axis_unit * table_unit)
    return Quantiser(
        weights=np.clip(np.rint(weights * unit), 1, WEIGHT_MAX).astype(np.uint16),
        axes=np.rint(axes / axis_unit).astype(np.int8),
        tables=np.rint(tables.transpose(0, 2, 1) / table_unit).astype(np.int8),
        unit=float(np.float32(unit)),
    )
