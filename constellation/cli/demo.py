"""`constellation demo`: shards of its own on free ports, a fleet of TVs against them, a summary; nothing is left over.

The shards are started in a child process as an operator would start them. It is stopped by SIGTERM however the demo
ends.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from rich.console import Console

from constellation.cli.fleet import INTERRUPTED, add_size_options, run_plan, whole

START_S_MAX = 300
"""The first start compiles the kernels; later ones take seconds."""
STOP_S_MAX = 30
POLL_S = 0.1
FEDERATION_INTERVAL_S = 15.0
"""Between two syncs of a TV, where shards, a worker and the TVs share one machine."""
LOG_BYTES_SHOWN = 20_000


def configure(parser: argparse.ArgumentParser) -> None:
    add_size_options(parser, devices=5_000)
    parser.add_argument(
        "--shards", type=whole(1, 16), default=1, metavar="N", help="with two or more: in two regions, with rounds"
    )
    parser.add_argument(
        "--round-every",
        type=whole(5, 3_600),
        default=20,
        metavar="SECONDS",
        help="between rounds (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    from constellation.fleet.run import Plan

    console = Console()
    # Stopped by a supervisor, or by its terminal's end: Ctrl-C by another name, so that the shard is stopped, too.
    # A script's background process inherits an ignored Ctrl-C, which would make the others do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with shards(console, count=arguments.shards, round_every_s=arguments.round_every) as urls:
            for url in urls:
                console.print(f"the page is {url}/", highlight=False, soft_wrap=True)
            interval_s = FEDERATION_INTERVAL_S if len(urls) > 1 else None
            plan = Plan(urls=urls, devices=arguments.devices, minutes=arguments.minutes, interval_s=interval_s)
            return run_plan("demo", plan, console)
    except ShardFailed as error:
        print(f"constellation demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


class ShardFailed(Exception):
    """The child did not become ready, or did not stop; says what it printed last."""


@contextlib.contextmanager
def shards(console: Console, *options: str, count: int = 1, round_every_s: int = 3_600) -> Iterator[tuple[str, ...]]:
    """The URLs of shards of its own in a child process, ready to serve. Raises `ShardFailed`."""
    command = [
        sys.executable,
        "-m",
        "constellation",
        "serve",
        "--storage=memory",
        "--port=0",
        "--grpc-port=0",
        "--metrics-port=0",
        *options,
    ]
    with tempfile.TemporaryDirectory(prefix="constellation-demo-") as folder, tempfile.TemporaryFile() as log:
        if count > 1:
            command += [f"--shards={count}", "--region=europe,america", f"--data-dir={folder}"]
        environment = {**os.environ, "CONSTELLATION_INTERVAL": str(round_every_s)}
        # A process group of its own: Ctrl-C on the terminal reaches the demo only, which stops the child in order.
        child = subprocess.Popen(command, stdout=log, stderr=log, process_group=0, env=environment)
        try:
            with console.status("starting (the first start compiles, a minute or two)"):
                urls = wait_until_listening(child, log, count)
            yield urls
        finally:
            stop(child, log)


def wait_until_listening(
    child: "subprocess.Popen[bytes]", log: IO[bytes], count: int = 1, seconds_max: float = START_S_MAX
) -> tuple[str, ...]:
    """The URLs that the child says it listens on, which it says once it is ready."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        listening = re.findall(r"^listening on (\S+)$", _last_words(log), re.M)
        if len(listening) == count:
            return tuple(listening)
        if child.poll() is not None:
            raise ShardFailed(f"it ended with {child.returncode} before it was ready:\n{_last_words(log)}")
        time.sleep(POLL_S)
    raise ShardFailed(f"it was not ready after {seconds_max:g} s:\n{_last_words(log)}")


def stop(child: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """SIGTERM, and SIGKILL if it does not help."""
    child.terminate()
    try:
        code = child.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise ShardFailed(f"it did not stop within {STOP_S_MAX} s of SIGTERM:\n{_last_words(log)}") from None
    if code not in (0, -signal.SIGTERM):
        raise ShardFailed(f"it ended with {code}:\n{_last_words(log)}")


def _last_words(log: IO[bytes]) -> str:
    # By position: child and parent share the file's offset, and a seek here would make the child write over its words.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), LOG_BYTES_SHOWN, max(0, size - LOG_BYTES_SHOWN)).decode("utf-8", "replace")
