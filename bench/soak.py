"""`python -m bench soak`: half an hour of syncs at a full shard's rate (`bench.endurance`).

Exits 1 unless memory and latency stayed flat and nothing failed.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import endurance, workload
from bench.plan import Note, Plan
from bench.questions import QUESTIONS
from bench.report import Row, Run, Section, describe_machine, print_section
from bench.written import save


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description="Does a shard endure?")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="default %(default)g")
    parser.add_argument("--patterns", type=int, default=100_000, metavar="N", help="default %(default)s")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="default: below build/bench/")
    asked = parser.parse_args(arguments)
    plan, began_at = Plan(patterns=asked.patterns), time.perf_counter()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    answers = list(endurance.endured(plan, asked.minutes * 60))
    rows = [answer for answer in answers if isinstance(answer, Row)]
    notes = [str(answer) for answer in answers if isinstance(answer, Note)]
    section = Section("endurance", QUESTIONS["endurance"], rows, notes, time.perf_counter() - began_at)
    console = Console(width=160)
    print_section(section, console)
    films = workload.load_library(plan.patterns, plan.seed).source
    run = Run(describe_machine(), films, plan.patterns, plan.seed, started, [section])
    console.print(f"saved in {save(run, asked.output, 'soak')}")
    return int(any(row.passed is False for row in rows))
