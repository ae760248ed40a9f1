"""A run as files: JSON with every number, a Markdown table for each question, and a plot beside each."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.plot import draw
from bench.report import Row, Run, Section, format_value, judged, spelled_out

RUNS = Path(__file__).resolve().parents[1] / "build" / "bench"
"""Of every day; those of record are in bench/results/."""


def save(run: Run, directory: Path | None, stem: str) -> Path:
    """Write `stem.json`, `stem.md` and `stem-QUESTION.svg`; the directory."""
    directory = directory or RUNS / run.started.replace(":", "")
    directory.mkdir(parents=True, exist_ok=True)
    directory.joinpath(f"{stem}.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(_with_verdicts(run)), indent=1) + b"\n"
    )
    plots = {}
    for section in run.sections:
        plots[section.question] = f"{stem}-{section.question}.svg"
        directory.joinpath(plots[section.question]).write_text(draw(section))
    directory.joinpath(f"{stem}.md").write_text("\n".join(_markdown(run, plots)))
    return directory


def _with_verdicts(run: Run) -> dict[str, object]:
    """The run as plain objects, with what the rows compute spelled out."""
    plain: dict[str, object] = msgspec.to_builtins(run)
    plain["sections"] = [
        {**msgspec.to_builtins(section), "rows": [spelled_out(row) for row in section.rows]} for section in run.sections
    ]
    return plain


def _markdown(run: Run, plots: dict[str, str]) -> Iterator[str]:
    yield f"{run.started}: {run.machine}; {run.patterns:,} patterns made of {run.films}, seed {run.seed}.\n"
    for section in run.sections:
        yield from _section(section, plots[section.question])


def _section(section: Section, plot: str) -> Iterator[str]:
    yield f"## {section.question}: {section.title}\n"
    yield "| what | value | target | | quality | ratio | to |"
    yield "|---|---:|---:|---|---|---:|---|"
    yield from (_row(row) for row in section.rows)
    yield ""
    yield from (f"- {note}" for note in section.notes)
    yield f"- took {section.seconds:.0f} s, {section.cpu_s:.0f} s of CPU\n"
    yield f"![{section.title}]({plot})\n"


def _row(row: Row) -> str:
    target, passed = judged(row)
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    beside = "" if row.yardstick is None else f"{row.yardstick.name}: {format_value(row.yardstick.value, row.unit)}"
    cells = (row.name, format_value(row.value, row.unit), target, passed, row.quality, ratio, beside)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
