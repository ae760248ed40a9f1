"""`python -m bench gate`: what every machine must reach, however busy. CI runs it; it exits 1 and says what was missed.

Three kinds of gates. Quality, sizes and the limits of the product: rows with a gate, of the questions that have some.
Work that is counted, held to the counts in `baselines.json`. And speed: each probe as a ratio to a yardstick that is
measured by turns with it. A ratio differs between machines, so one that looks worse than in the baselines is only a
suspicion: the service is then measured by turns with the commit that the baselines are of (`bench.ab`), which decides.
"""

import argparse
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from bench import ab, paired, probes, workload
from bench.paired import Build, Side
from bench.plan import Plan
from bench.questions import GATED, ask
from bench.report import Row, Run, Section, Target, Yardstick, describe_machine, missed_gates, print_section
from bench.work import count, work_rows
from bench.written import save

BASELINES = Path(__file__).with_name("baselines.json")
PATTERNS_MAX = 100_000
SUSPICION = 1.08
"""A ratio that is so much above its baseline is looked into."""
UNPROVEN_MAX = 1.6
"""What a ratio may be where there is no commit to compare with: machines differ as much."""
NUMERIC = ("search: the 100 nearest", "contributions of all patterns")
"""Probes that are held against NumPy; the others against the interpreter."""


class Baselines(msgspec.Struct, frozen=True):
    """What was measured when they were accepted: counts hold for one minor version of Python."""

    machine: str
    python: str
    ratios: dict[str, float]
    work: dict[str, dict[str, int]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench gate", description="What every machine must reach.")
    parser.add_argument(
        "--accept", action="store_true", help="write what is measured to baselines.json, to be committed"
    )
    parser.add_argument("--only-speed", action="store_true", help="leave out the questions about quality and limits")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where JSON, Markdown and plots go")
    asked = parser.parse_args(arguments)
    console = Console(width=160)
    now = measured()
    if asked.accept:
        BASELINES.write_bytes(msgspec.json.format(msgspec.json.encode(now, order="sorted"), indent=1) + b"\n")
        console.print(f"accepted: {BASELINES}")
        return 0
    started = datetime.now(UTC).isoformat(timespec="seconds")
    plan = _plan()
    sections = [judged(now, msgspec.json.decode(BASELINES.read_bytes(), type=Baselines))]
    print_section(sections[0], console)
    for name in () if asked.only_speed else GATED:
        sections.append(ask(name, plan))
        print_section(sections[-1], console)
    films = workload.load_library(plan.patterns, plan.seed).source
    run = Run(describe_machine(), films, plan.patterns, plan.seed, started, sections)
    console.print(f"saved in {save(run, asked.output, 'gate')}")
    missed = missed_gates(sections)
    if missed:
        console.print(f"[red]gates missed:[/] {'; '.join(missed)}")
    else:
        gates = sum(row.gate is not None for section in sections for row in section.rows)
        console.print(f"[green]all {gates} gates hold[/] (a target that fails is no gate: it is for `make bench`)")
    return bool(missed)


def measured() -> Baselines:
    """Every probe of this checkout: its ratio to its yardstick, and its work."""
    with paired.built(ab.ROOT, patterns=probes.PATTERNS) as (build,):
        names = [name for name in build.probes if name not in probes.YARDSTICKS]
        work = count(build, names)
        ratios = {
            name: paired.pair_up(_yardstick(build, name), Side(build, name), paired.PAIRS).ratio for name in names
        }
    return Baselines(machine(), python_version(), ratios, work)


def judged(now: Baselines, before: Baselines) -> Section:
    """A row for each count and for each ratio; suspicious ratios are measured again, by turns with the commit."""
    started = time.perf_counter()
    notes = [f"the baselines are of {before.machine}, Python {before.python}"]
    rows = work_rows(now.work, before.work, "baseline") if now.python == before.python else []
    if not rows:
        notes.append(f"work is not compared: this is Python {now.python}")
    speed = [
        _ratio_row(name, ratio, before.ratios[name]) for name, ratio in now.ratios.items() if name in before.ratios
    ]
    suspects = [row.name for row in speed if row.ratio is not None and row.ratio > SUSPICION]
    if suspects or now.machine != before.machine:
        decided, note = _decided(suspects if now.machine == before.machine else [row.name for row in speed])
        speed = [decided.get(row.name, row) for row in speed]
        notes.append(note)
    return Section(
        "speed", "is it as fast as it was, and no more work?", speed + rows, notes, time.perf_counter() - started
    )


def _decided(suspects: list[str]) -> tuple[dict[str, Row], str]:
    """Rows by probe, of what is decided by turns with the commit; what was done, for the reader."""
    try:
        commit = ab.last_change(BASELINES)
        base = ab.checked_out(commit)
    except ab.NoCommit as why:
        return {}, f"{len(suspects)} suspicious ratios could not be decided: {why}; allowed are {UNPROVEN_MAX} x"
    found = paired.compare(base, ab.ROOT, suspects, probes.PATTERNS)
    rows = {row.probe: ab.time_row(row, f"by turns with {commit[:10]}") for row in found.compared}
    unable = "".join(f"; not comparable: {why}" for why in found.unable)
    return rows, f"{len(rows)} of {len(suspects)} rows were measured by turns with {commit[:10]}{unable}"


def _yardstick(build: Build, probe: str) -> Side:
    return Side(build, probes.YARDSTICKS[probe in NUMERIC])


def _ratio_row(name: str, ratio: float, baseline: float) -> Row:
    return Row(
        name=name,
        value=ratio,
        unit="x",
        quality=f"times {probes.YARDSTICKS[name in NUMERIC]}, CPU, by turns",
        yardstick=Yardstick("baseline", baseline),
        gate=Target("<=", UNPROVEN_MAX, "ratio"),
    )


def _plan() -> Plan:
    """As large as the films that are at hand are good for: a few would be crowded by so many patterns."""
    library = workload.load_library(PATTERNS_MAX, Plan().seed)
    return Plan(patterns=min(PATTERNS_MAX, len(library.known.vectors) * workload.PATTERNS_A_FILM), peers=False)


def machine() -> str:
    return describe_machine().split(",")[0]


def python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])
