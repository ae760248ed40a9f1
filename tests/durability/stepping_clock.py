"""`python -m constellation` with a wall clock that jumps an hour back and forth all the time."""

import sys
import time

STEP_S = 3_600
STEPS_PER_S = 4

_true = time.time


def _stepping() -> float:
    return _true() + STEP_S * (int(time.monotonic() * STEPS_PER_S) % 3 - 1)


if __name__ == "__main__":
    time.time = _stepping
    from constellation.cli.main import main  # whoever imports the clock now gets this one

    sys.exit(main())
