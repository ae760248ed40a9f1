"""The last ten minutes, a row a second, in a ring of fixed size: what who comes later is shown first."""

from typing import Any

import numpy as np
import numpy.typing as npt

from constellation.limits import HISTORY_LEN

COLUMNS = (
    "at", "rate", "p50_ms", "p99_ms", "p999_ms", "active", "patterns", "lag_ms", "bytes_resident", "backlog_records",
    "backlog_age_s",
)  # fmt: skip
_DIGITS = 3


class History:
    """Rows of COLUMNS, NaN where nothing was measured."""

    def __init__(self) -> None:
        self._rows: npt.NDArray[np.float64] = np.full((HISTORY_LEN, len(COLUMNS)), np.nan)
        self._count = 0

    def add(self, row: dict[str, Any]) -> None:
        """Columns by name; what else is in the row is left out, what is missing or None is NaN."""
        values = [row.get(name) for name in COLUMNS]
        self._rows[self._count % HISTORY_LEN] = [np.nan if value is None else value for value in values]
        self._count += 1

    def columns(self) -> dict[str, list[float | None]]:
        """Oldest first. About 1 ms."""
        oldest = max(0, self._count - HISTORY_LEN)
        rows = self._rows[np.arange(oldest, self._count) % HISTORY_LEN]
        return dict(zip(COLUMNS, np.round(rows.T, _DIGITS).tolist(), strict=True))
