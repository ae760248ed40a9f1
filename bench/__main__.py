"""`python -m bench`: asks the questions, prints a table for each, and saves all of them as JSON."""

import argparse
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench import workload
from bench.plan import Note, Plan
from bench.report import Row, Run, Section, describe_machine, missed_gates, print_section, save
from kernels.warm import warm

QUESTIONS = {
    "similarity": "how well and how fast are the nearest patterns of one interest found?",
    "relevance": "does asking by interest serve a household better than asking by its mean?",
    "grouping": "do patterns that resemble each other meet in one bucket?",
    "compact": "how small is a cold compact reply, how true, and what does it cost?",
    "sync_shard": "what does one sync cost without HTTP?",
    "upload": "how many bytes does a TV send, and what does the dictionary cost?",
    "sync_http": "how many syncs does one process serve, and how soon?",
    "grpc": "how many syncs does one process serve by gRPC, and how soon, beside REST?",
    "identity": "what does a token cost, and what a request that is refused?",
    "overload": "what is left when everybody comes at once, and what does it cost to refuse?",
    "cursor": "what does a household's day of syncs bring down, and what does it cost to know what changed?",
    "renewal": "what does a sync of a known device cost, and is its list still true after a day?",
    "moonshot": "how many syncs a second carry two cores when all TVs of a shard are on?",
    "turns": "how long does the event loop stand still at worst?",
    "background": "how long do storage and federation hold the event loop at worst?",
    "lookups": "what do reading trends and finding a device cost?",
    "ingest": "how fast do patterns reach PostgreSQL?",
    "journal": "what does the journal add to a sync?",
    "restart": "how soon is a shard back, and how soon does it stop?",
    "recovery": "how well does a shard answer when it was restored, and when as well as before?",
    "federation": "what does a round of 100 shards cost, and how true is it?",
    "privacy": "what does the noise of a private round leave of its prototypes?",
    "robustness": "how far do devices that collude move a prototype, and what a region watches?",
    "memory": "how many bytes do a pattern and a device take?",
}
"""Its module in this package -> what it asks."""
GATED = (
    *("similarity", "relevance", "grouping", "compact", "upload", "recovery", "federation", "privacy", "robustness"),
    "memory",
)
"""Questions with rows that do not depend on the speed of the machine."""
FULL_PATTERNS = 1_000_000
RESULTS = Path(__file__).with_name("results")


def main() -> int:
    arguments = _parse()
    plan = _plan(arguments)
    names = arguments.questions or (GATED if arguments.gates else tuple(QUESTIONS))
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
    for name in names:
        section = ask(name, plan)
        run.sections.append(section)
        print_section(section, console)
    path = arguments.output or RESULTS / f"{run.started.replace(':', '')}-{run.patterns}.json"
    save(run, path)
    console.print(f"saved as {path}")
    missed = missed_gates(run.sections)
    if missed and arguments.gates:
        console.print(f"[red]gates missed:[/] {'; '.join(missed)}")
        return 1
    return 0


def ask(name: str, plan: Plan) -> Section:
    warm()
    started = time.perf_counter()
    answers = list(import_module(f"bench.{name}").measure(plan))
    return Section(
        question=name,
        title=QUESTIONS[name],
        rows=[answer for answer in answers if isinstance(answer, Row)],
        notes=[str(answer) for answer in answers if isinstance(answer, Note)],
        seconds=time.perf_counter() - started,
    )


def _plan(arguments: argparse.Namespace) -> Plan:
    patterns = FULL_PATTERNS if arguments.full else arguments.patterns
    if arguments.gates:
        # A few films would be crowded by so many patterns, and the gates are not meant for that.
        library = workload.load_library(patterns, arguments.seed)
        patterns = min(patterns, len(library.known.vectors) * workload.PATTERNS_A_FILM)
    return Plan(patterns=patterns, seed=arguments.seed, peers=not arguments.gates)


def _parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:11} {asked}" for name, asked in QUESTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Quality and speed, beside a yardstick measured in the same run.",
        epilog=f"questions:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="all unless named")
    parser.add_argument("--patterns", type=int, default=100_000, metavar="N", help="default 100000")
    parser.add_argument("--full", action="store_true", help=f"{FULL_PATTERNS:,} patterns")
    parser.add_argument("--gates", action="store_true", help="only what any machine must reach; exit 1 if it does not")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default 1")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes; default bench/results/")
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - QUESTIONS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
