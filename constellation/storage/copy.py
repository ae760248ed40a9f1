"""Rows in PostgreSQL's binary COPY format, made and read by the block with NumPy.

A row is its columns of fixed width first, one NumPy record, then those whose width varies. Used by `writing` and
`loading`; knows the tables, but neither a connection nor a transaction.

Constraints, what must hold:
- A code goes in as its unit vector and comes back as the very same code (`kernels.codes`), as halfvec and as vector.
- 64-bit fingerprints keep all bits in PostgreSQL's signed bigint.
- Rows are whole whatever pieces the stream came in. No column is NULL.
"""

import functools
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from constellation.model import DIM, ID_BYTES, Codes
from kernels.codes import dequantise, inverse_norms, quantise
from kernels.rows import codes_of_halves, split_rows, unit_halves

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
NUMBER = struct.Struct(">i")

UUID = np.dtype((np.uint8, ID_BYTES))
BIGINT = np.dtype(">i8")
INTEGER = np.dtype(">i4")
REAL = np.dtype(">f4")
HALFVEC = np.dtype([("dim", ">u2"), ("unused", ">u2"), ("values", ">f2", DIM)])
VECTOR = np.dtype([("dim", ">u2"), ("unused", ">u2"), ("values", ">f4", DIM)])

Records = npt.NDArray[np.void]
"""(n,) of a layout's `record`."""


class Layout:
    """One table's columns in the order in which they are copied."""

    def __init__(
        self, table: str, key: tuple[str, ...], fixed: Mapping[str, np.dtype[Any]], varying: tuple[str, ...] = ()
    ) -> None:
        self.table, self.key, self.varying = table, key, varying
        self.columns = (*fixed, *varying)
        parts: list[tuple[str, Any]] = [("columns", ">i2")]
        for name, kind in fixed.items():
            parts += [(f"{name} bytes", NUMBER.format), (name, kind)]
        self.record = np.dtype(parts)
        self._blank = np.zeros((), self.record)
        self._blank["columns"] = len(self.columns)
        for name, kind in fixed.items():
            self._blank[f"{name} bytes"] = kind.itemsize
            if kind.names:
                self._blank[name]["dim"] = DIM

    def records(self, n: int) -> Records:
        """n records whose values are still to be written."""
        records = np.empty(n, self.record)
        records[...] = self._blank
        return records

    def encode(self, records: Records, *varying: Sequence[bytes]) -> bytes:
        """The rows; `varying` are the columns of that kind, each value as `field` gives it."""
        assert len(varying) == len(self.varying)
        if not varying:
            return records.tobytes()
        step = 1 + len(varying)
        pieces: list[bytes] = [b""] * (step * len(records))
        pieces[::step] = records.view(f"V{self.record.itemsize}").tolist()
        for place, column in enumerate(varying, 1):
            pieces[place::step] = column
        return b"".join(pieces)


class Reader:
    """A stream of COPY in pieces -> rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rest = b""
        self._header = len(HEADER)

    def read(self, piece: bytes | bytearray) -> tuple[npt.NDArray[np.uint8], list[list[bytes]]]:
        """The rows that this piece completes: the records' bytes (n, size), and the varying columns."""
        skipped = min(self._header, len(piece))
        self._header -= skipped
        rest = self._rest + piece[skipped:]
        varying = len(self._layout.varying)
        stream = np.frombuffer(rest, np.uint8)
        records, bounds, at = split_rows(stream, self._layout.record.itemsize, varying)
        self._rest = rest[at:]
        places = bounds.T.tolist()
        columns = [
            [rest[begin:end] for begin, end in zip(places[2 * place], places[2 * place + 1], strict=True)]
            for place in range(varying)
        ]
        return records, columns


def field(value: bytes) -> bytes:
    """A value of varying width as it stands in a row."""
    return NUMBER.pack(len(value)) + value


def vectors(codes: Codes, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Unit vectors (n, 384) of codes for a column of this kind."""
    inverse = inverse_norms(codes)
    if kind == HALFVEC:
        return unit_halves(codes, inverse).view(">f2")
    return dequantise(codes, inverse)


def codes(column: npt.NDArray[Any]) -> Codes:
    """The codes (n, 384) of a column of vectors (n,)."""
    if column.dtype == HALFVEC:
        return codes_of_halves(np.ascontiguousarray(column["values"]).view(np.uint16))
    return quantise(column["values"].astype(np.float32))


@functools.cache
def pattern_layout(vector: np.dtype[Any]) -> Layout:
    numbers = ("created_at", "updated_at", "entered", "version", "item_samples", "item_hour")
    fixed = {"device_id": UUID, "id": UUID, "embedding": vector, "success_rate": REAL, "sample_count": INTEGER}
    return Layout("patterns", ("device_id", "id"), fixed | dict.fromkeys(numbers, BIGINT), ("context", "item"))


@functools.cache
def content_layout(vector: np.dtype[Any]) -> Layout:
    return Layout("content", ("number",), {"number": BIGINT, "code": vector}, ("content_id", "title", "metadata"))


DEVICES = Layout(
    "devices",
    ("id",),
    {"id": UUID}
    | dict.fromkeys(
        ("sequence", "fingerprint", "cursor", "last_sync", "credit_hour", "credit_used", "position"), BIGINT
    ),
)
TRENDS = Layout("trend_counts", ("item", "hour"), {"hour": BIGINT, "count": BIGINT}, ("item",))
TOMBSTONES = Layout("tombstones", ("hash",), {"sequence": BIGINT, "at": BIGINT}, ("hash",))
