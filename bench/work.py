"""Work that is counted and not timed, of every probe: what a noisy machine cannot blur."""

import platform
from collections.abc import Iterable, Mapping

from bench.paired import Build
from bench.report import Row, Target, Yardstick

Work = Mapping[str, Mapping[str, int]]
"""By probe, by what was counted."""

MORE_MAX = 1.10
"""Counts of one Python do not waver: a tenth more is meant, and is then said in the baselines."""
BYTES_UNNOTICED_MAX = 4_096
"""A peak of memory below this is a matter of chance."""


def count(build: Build, probes: Iterable[str]) -> dict[str, dict[str, int]]:
    """Of some operations of each; without those that the build cannot do."""
    return {probe: told.work for probe in probes if not (told := build.run(probe, 0)).failure}


def work_rows(now: Work, before: Work, name: str) -> list[Row]:
    """A row for each count that both have."""
    return [
        Row(
            name=f"{probe}: {what}",
            value=float(counted),
            unit="",
            quality=f"Python {platform.python_version()}",
            yardstick=Yardstick(name, float(earlier)),
            gate=Target("<=", MORE_MAX, "ratio"),
        )
        for probe, work in now.items()
        for what, counted in work.items()
        if (earlier := before.get(probe, {}).get(what, 0)) and not _unnoticed(what, earlier)
    ]


def _unnoticed(what: str, counted: int) -> bool:
    return "memory" in what and counted < BYTES_UNNOTICED_MAX
