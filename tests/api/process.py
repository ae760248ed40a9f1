"""A shard in a process of its own, on free ports, as an operator starts it; used by every test over a socket."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

START_S_MAX = 240
"""The first start of a clean checkout compiles the kernels."""
STOP_S_MAX = 30
POLL_S = 0.01


class Server(NamedTuple):
    """A running one: its addresses, its process, and where its standard output goes."""

    url: str
    metrics_url: str
    grpc: str
    child: "subprocess.Popen[bytes]"
    output: Path

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.partition("://")[2].rsplit(":", 1)
        return host, int(port)

    def terminate(self) -> None:
        self.child.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return self.child.wait(STOP_S_MAX)


def command(*options: str, program: str = "constellation") -> list[str]:
    return [
        sys.executable,
        "-m",
        program,
        "serve",
        "--storage",
        "memory",
        "--port",
        "0",
        "--grpc-port",
        "0",
        "--metrics-port",
        "0",
        *options,
    ]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without settings that the person who runs the tests may have in theirs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONSTELLATION_")}
    return kept | dict(extra or {})


@contextmanager
def serving(*options: str, program: str = "constellation") -> Iterator[Server]:
    """Standard error is passed through, so that pytest shows the log of a failed test."""
    with tempfile.NamedTemporaryFile() as output:
        child = subprocess.Popen(command(*options, program=program), stdout=output, env=environment())
        try:
            yield _listening(child, Path(output.name))
        finally:
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(STOP_S_MAX)
            finally:
                child.kill()


def wait_for(what: Callable[[], bool], seconds_max: float = 10.0) -> None:
    """Polls until it holds; fails after the deadline."""
    deadline = time.monotonic() + seconds_max
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(POLL_S)


def _listening(child: "subprocess.Popen[bytes]", output: Path) -> Server:
    printed = re.compile(r"^listening on (\S+)\nmetrics on (\S+)\ngrpc on (\S+)\n", re.M)
    wait_for(lambda: child.poll() is not None or printed.search(output.read_text()) is not None, START_S_MAX)
    found = printed.search(output.read_text())
    assert found is not None, f"the shard ended before it was ready, with {child.poll()}"
    return Server(found[1], found[2], found[3], child, output)
