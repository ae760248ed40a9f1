"""`python -m bench`: asks the questions, prints a table for each, and saves all of them as JSON, Markdown and plots.

`gate`, `ab`, `peers`, `soak`, `scale` and `flames` are commands of their own; they say more with `--help`.
"""

import argparse
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench import workload
from bench.plan import Plan
from bench.questions import QUESTIONS, ask
from bench.report import Run, describe_machine, print_section
from bench.written import save

COMMANDS = {
    "gate": ("bench.gate", "what every machine must reach"),
    "ab": ("bench.ab", "is this slower than a commit?"),
    "peers": ("bench.peers.run", "what others would build, on the same data"),
    "soak": ("bench.soak", "half an hour of syncs: is everything flat?"),
    "scale": ("bench.scale", "a shard of millions"),
    "flames": ("bench.flames", "where a server's time goes, as a flame graph"),
}
"""Name -> its module, what it is for."""
FULL_PATTERNS = 1_000_000


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        code: int = import_module(COMMANDS[sys.argv[1]][0]).main(sys.argv[2:])
        return code
    arguments = _parse()
    plan = Plan(patterns=FULL_PATTERNS if arguments.full else arguments.patterns, seed=arguments.seed)
    console = Console(width=None if sys.stdout.isatty() else 160)
    run = Run(
        machine=describe_machine(),
        films=workload.load_library(plan.patterns, plan.seed).source,
        patterns=plan.patterns,
        seed=plan.seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        sections=[],
    )
    console.print(f"{run.machine}\n{run.patterns:,} patterns made of {run.films}, seed {run.seed}\n")
    for name in arguments.questions or QUESTIONS:
        section = ask(name, plan)
        run.sections.append(section)
        print_section(section, console)
    console.print(f"saved in {save(run, arguments.output, f'bench-{run.patterns}')}")
    return 0


def _parse() -> argparse.Namespace:
    commands = {name: purpose for name, (_, purpose) in COMMANDS.items()}
    listed = "\n".join(f"  {name:11} {asked}" for name, asked in (QUESTIONS | commands).items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Quality and speed, beside a yardstick measured in the same run.",
        epilog=f"questions, and commands with options of their own:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="all unless named")
    parser.add_argument("--patterns", type=int, default=100_000, metavar="N", help="default 100000")
    parser.add_argument("--full", action="store_true", help=f"{FULL_PATTERNS:,} patterns")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="default: below build/bench/")
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - QUESTIONS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*QUESTIONS, *COMMANDS))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
