"""`python -m bench flames FILE.svg`: where a server's time goes while all TVs of a shard are on, as a flame graph.

The load is that of `bench.moonshot` on one server, from the second sync of each TV on. py-spy samples the stacks of the
server's process from outside, compiled code included as the Python function that calls it; it must be installed, and
the system must allow it to look.
"""

import argparse
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import uvloop

from bench import workload
from bench.moonshot import TVS_MAX, Tvs, fill_server, sync_round
from bench.plan import Plan
from bench.served import Server, in_memory, serving
from bench.sync_http import first_posts

SAMPLES_PER_S = 200
STOP_S_MAX = 60
TITLE = "A server while all TVs of its shard are on: python -m bench flames"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench flames", description="Where the time of a sync goes.")
    parser.add_argument("file", type=Path, metavar="FILE.svg")
    parser.add_argument("--patterns", type=int, default=10_000, metavar="N", help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="syncs of each TV; default %(default)s")
    asked = parser.parse_args(arguments)
    if shutil.which("py-spy") is None:
        print("python -m bench flames: py-spy is not installed; `pip install py-spy` does it", file=sys.stderr)
        return 2
    plan = Plan(patterns=asked.patterns)
    rng = plan.rng("flames")
    part = workload.load_library(plan.patterns, plan.seed).known
    households = workload.make_households(part, min(TVS_MAX, plan.patterns // workload.PATTERNS_A_DEVICE), None, rng)
    with serving(*in_memory(plan)) as server:
        uvloop.run(_load(server, first_posts(households, rng), Tvs(households, part, rng), asked.rounds, asked.file))
    return 0


async def _load(server: Server, filling: list[bytes], tvs: Tvs, rounds: int, file: Path) -> None:
    await fill_server(server.url, filling)
    await sync_round([server], [tvs])
    command = ["py-spy", "record", "--function", "--format=flamegraph", f"--rate={SAMPLES_PER_S}"]
    command += [f"--pid={server.pid}", f"--output={file}"]
    spy = subprocess.Popen(command)
    try:
        for _ in range(rounds):
            await sync_round([server], [tvs])
    finally:
        spy.send_signal(signal.SIGINT)  # it writes then what it saw
        spy.wait(STOP_S_MAX)
    # Its title is the command, with paths of this machine.
    file.write_text(file.read_text().replace(" ".join(command), TITLE))
