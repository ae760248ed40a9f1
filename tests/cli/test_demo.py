"""The demo ends by itself, or when told to, with its summary and nothing left behind."""

import re
import signal
import socket
import subprocess
import sys
from typing import IO

COMMAND = [sys.executable, "-m", "constellation", "demo", "--devices", "40"]


def test_demo_runs_to_its_end_without_errors() -> None:
    done = subprocess.run([*COMMAND, "--minutes", "0.1"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No errors." in done.stdout
    assert re.search(r"│ +1\.00 │ .+ \(\d{4}\)", done.stdout), "the first trend is a film by title and year"


def test_demo_that_is_told_to_stop_sums_up_and_stops_its_shard() -> None:
    with subprocess.Popen([*COMMAND, "--minutes", "10"], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        started = _line_with(demo.stdout, "TVs sync every")
        _line_with(demo.stdout, "syncs")
        demo.send_signal(signal.SIGTERM)
        rest = demo.stdout.read()
        assert demo.wait(60) == 0
    assert "interrupted" in rest and "No errors." in rest
    port = re.search(r":(\d+) ", started)
    assert port is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0, "nobody listens there any more"


def _line_with(output: IO[str], text: str) -> str:
    return next(line for line in output if text in line)
