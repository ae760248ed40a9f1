"""A real server in a process of its own, to be asked, killed or stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench import workload
from bench.plan import Plan
from constellation.cli.demo import wait_until_listening

PATIENCE_S = 180.0
"""For a start, and for a stop, which takes a whole snapshot."""


class Server:
    """One that is ready, and the seconds that it took from the start of its process."""

    def __init__(self, options: list[str], log: IO[bytes], patience_s: float) -> None:
        self._log, self._patience_s = log, patience_s
        ports = ["--port=0", "--grpc-port=0", "--metrics-port=0"]
        command = [sys.executable, "-m", "constellation", "serve", *ports, *options]
        # As where it is installed, whatever this machine says: modules are not compiled anew at every start.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        began_at = time.perf_counter()
        self._child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            (self.url,) = wait_until_listening(self._child, log, seconds_max=patience_s)
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.perf_counter() - began_at

    @property
    def grpc(self) -> str:
        """The address of its gRPC port."""
        return self._printed(rb"^grpc on (\S+)$")

    @property
    def quic(self) -> tuple[str, int]:
        """The address of its HTTP/3 port."""
        host, _, port = self._printed(rb"^http/3 on (\S+)$").rpartition(":")
        return host, int(port)

    @property
    def pid(self) -> int:
        return self._child.pid

    def cpu_s(self) -> float:
        """Seconds of processor time since its start."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def waited_s(self) -> float:
        """Seconds since its start in which its loop could have worked and others had the processor."""
        return int(Path(f"/proc/{self._child.pid}/schedstat").read_text().split()[1]) / 1e9

    def kill(self) -> None:
        """kill -9."""
        self._child.kill()
        self._child.wait()

    def stop(self) -> float:
        """SIGTERM; the seconds until the process has ended. None is needed after `kill`."""
        began_at = time.perf_counter()
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(self._patience_s)
        return time.perf_counter() - began_at

    def stored(self) -> int:
        """Patterns."""
        with urllib.request.urlopen(f"{self.url}/api/v1/stats") as reply:
            return int(json.load(reply)["patterns_stored"])

    def logged(self, event: str) -> dict[str, Any]:
        """The first line of the log about this event."""
        told = (json.loads(line) for line in self._logged().splitlines() if line.startswith(b"{"))
        return next(line for line in told if line["event"] == event)

    def _printed(self, line: bytes) -> str:
        found = re.search(line, self._logged(), re.M)
        assert found is not None
        return found[1].decode()

    def _logged(self) -> bytes:
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0)


@contextmanager
def serving(*options: str, patience_s: float = PATIENCE_S) -> Iterator[Server]:
    """A server for as long as the block lasts. Raises `ShardFailed` if it does not become ready."""
    with tempfile.TemporaryFile() as log:
        server = Server(list(options), log, patience_s)
        try:
            yield server
        finally:
            server.stop()


NOBODY_EXPIRES = ("--device-ttl-days=3650",)
"""Of a server that finds a load which was made long before (`workload.START_S`)."""


def in_memory(plan: Plan) -> list[str]:
    """Options of a server with room for the plan's load that keeps nothing."""
    return ["--storage=memory", *_room(plan)]


def on_disk(plan: Plan, directory: str | Path) -> list[str]:
    """Those of one with journal and embedded PostgreSQL, as `kept.settings_in`."""
    return ["--storage=postgres", f"--data-dir={directory}", *_room(plan)]


def _room(plan: Plan) -> list[str]:
    settings = workload.shard_settings(plan.patterns)
    return [f"--max-patterns={settings.max_patterns}", f"--max-devices={settings.max_devices}", *NOBODY_EXPIRES]
