"""`python -m bench peers`: what others would build, on the same data and the same machine in one run.

Each peer is installed in an environment of its own (`environment`); one that cannot be is named, with the reason.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import federation, workload
from bench.peers import NotInstalled, environment, libraries, syncing
from bench.plan import Answers, Note, Plan, Question
from bench.report import Row, Run, Section, describe_machine, print_section
from bench.written import save
from kernels.warm import warm


def _round(plan: Plan) -> Answers:
    try:
        environment.install("flower")
    except NotInstalled as why:
        yield Note(f"Flower is not measured: {why}")
    yield from federation.measure(plan)


PARTS: dict[str, tuple[str, Question]] = {
    "search": ("the 100 nearest of one vector, and taking one more in", libraries.measure),
    "sync": ("whole syncs over HTTP, kept on disk", syncing.measure),
    "round": ("a round of 100 shards", _round),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench peers", description="What others would build.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all of {', '.join(PARTS)} unless named")
    parser.add_argument("--patterns", type=int, default=100_000, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=Plan().seconds, metavar="S", help="of a load, default %(default)g"
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="default: below build/bench/")
    asked = parser.parse_args(arguments)
    if set(asked.parts) - PARTS.keys():
        parser.error(f"there are {', '.join(PARTS)}")
    plan = Plan(patterns=asked.patterns, seconds=asked.seconds)
    console, started = Console(width=160), datetime.now(UTC).isoformat(timespec="seconds")
    films = workload.load_library(plan.patterns, plan.seed).source
    run = Run(describe_machine(), films, plan.patterns, plan.seed, started, [])
    warm()
    for name in asked.parts or PARTS:
        title, question = PARTS[name]
        began_at, answers = time.perf_counter(), list(question(plan))
        rows = [answer for answer in answers if isinstance(answer, Row)]
        notes = [str(answer) for answer in answers if isinstance(answer, Note)]
        run.sections.append(Section(name, title, rows, notes, time.perf_counter() - began_at))
        print_section(run.sections[-1], console)
    console.print(f"saved in {save(run, asked.output, f'peers-{run.patterns}')}")
    return 0
