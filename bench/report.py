"""One result as a row, and a question's rows as a table; as files: `bench.written`.

A row never stands alone: beside the value are its quality, the ratio to a yardstick measured in the same run, and the
target it is held to. The machine is part of the result.
"""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

_CPU_INFO = Path("/proc/cpuinfo")


class Yardstick(msgspec.Struct, frozen=True):
    """Something else, measured in the same run and in the unit of the row."""

    name: str
    value: float


class Target(msgspec.Struct, frozen=True):
    """What a row has to reach: by its value, or by its ratio to the yardstick."""

    sign: Literal["<=", ">="]
    limit: float
    of: Literal["value", "ratio"] = "value"

    def met_by(self, measured: float) -> bool:
        return measured <= self.limit if self.sign == "<=" else measured >= self.limit


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One number. Its gate is what it has to reach on any machine and with any films: `make bench-gate` fails by it."""

    name: str
    value: float
    unit: str
    quality: str
    yardstick: Yardstick | None = None
    target: Target | None = None
    gate: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Value / yardstick."""
        return None if self.yardstick is None else self.value / self.yardstick.value

    @property
    def passed(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else self._reaches(self.target)

    @property
    def missed_gate(self) -> bool:
        return self.gate is not None and not self._reaches(self.gate)

    def _reaches(self, target: Target) -> bool:
        measured = self.value if target.of == "value" else self.ratio
        assert measured is not None
        return target.met_by(measured)


class Section(msgspec.Struct, frozen=True):
    """All rows of one question. Notes say what a reader has to know about them."""

    question: str
    title: str
    rows: list[Row]
    notes: list[str]
    seconds: float
    cpu_s: float = 0.0


class Run(msgspec.Struct, frozen=True):
    """All sections of one `python -m bench`."""

    machine: str
    films: str
    patterns: int
    seed: int
    started: str
    sections: list[Section]


def at_most(limit: float) -> Target:
    return Target("<=", limit)


def at_least(limit: float) -> Target:
    return Target(">=", limit)


def describe_machine() -> str:
    models = [line for line in _CPU_INFO.read_text().splitlines() if "model name" in line] if _CPU_INFO.exists() else []
    model = models[0].split(":")[1].strip() if models else platform.processor()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}, load {load:.1f}"


def print_section(section: Section, console: Console) -> None:
    table = Table(title=f"{section.question}: {section.title}", title_justify="left", title_style="bold", min_width=80)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    table.add_column("quality")
    table.add_column("ratio to yardstick")
    for row in section.rows:
        target, verdict = judged(row)
        colour = {"pass": "green", "FAIL": "red"}.get(verdict, "default")
        coloured = f"[{colour}]{verdict}[/]"
        table.add_row(row.name, format_value(row.value, row.unit), target, coloured, row.quality, _compared(row))
    console.print(table)
    for note in section.notes:
        console.print(f"  {note}")
    console.print()


def format_value(value: float, unit: str) -> str:
    """Three significant digits, or whole numbers from 100 on."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    if 0 < abs(value) < 0.1 and unit:
        digits = 4
    return f"{value:,.{digits}f} {unit}".rstrip()


def judged(row: Row) -> tuple[str, str]:
    """The target and whether it is met, in words; empty where there is none."""
    if row.target is None:
        return "", ""
    unit = "x" if row.target.of == "ratio" else row.unit
    return f"{row.target.sign} {row.target.limit:g} {unit}".rstrip(), "pass" if row.passed else "FAIL"


def _compared(row: Row) -> str:
    if row.yardstick is None or row.ratio is None:
        return ""
    return f"{row.ratio:.3g} x {format_value(row.yardstick.value, row.unit)}, {row.yardstick.name}"


def spelled_out(row: Row) -> dict[str, object]:
    return {**msgspec.to_builtins(row), "ratio": row.ratio, "passed": row.passed}


def missed_gates(sections: Sequence[Section]) -> list[str]:
    return [f"{section.question}: {row.name}" for section in sections for row in section.rows if row.missed_gate]
