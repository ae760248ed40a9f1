"""What a shard and a worker really expose, with all that can be measured turned on."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.bodies import body, pattern
from tests.api.process import START_S_MAX, STOP_S_MAX, environment, serving, wait_for

NOBODY = "http://127.0.0.1:9"
SAMPLE = re.compile(r"^(constellation_\w+)", re.M)


@pytest.fixture(scope="session")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """Names of samples at `/metrics`, after syncs that went well and one that did not."""
    folder = tmp_path_factory.mktemp("scraped")
    options = ("--storage=postgres", f"--data-dir={folder}", f"--otlp-endpoint={NOBODY}", "--access-log")
    with (
        working() as worker,
        serving(*options, "--max-devices=1000", "--max-patterns=1000") as shard,
        httpx.Client(base_url=shard.url, timeout=30) as client,
    ):
        wait_for(lambda: client.get("/health/ready").status_code == 200, 60)
        assert client.post("/api/v1/sync", json=body(pattern())).status_code == 200
        assert client.post("/api/v1/sync", json={}).status_code == 422
        told = httpx.get(shard.metrics_url).text + httpx.get(worker).text
    return frozenset(SAMPLE.findall(told))


@contextmanager
def working() -> Iterator[str]:
    """A worker whose database is not there, which is told and measured, too; the address of its measurements."""
    options = [
        "--coordinator-url=postgresql://nobody@127.0.0.1:9/none",
        "--metrics-port=0",
        f"--otlp-endpoint={NOBODY}",
    ]
    with tempfile.NamedTemporaryFile() as output:
        command = [sys.executable, "-m", "constellation", "worker", *options]
        child = subprocess.Popen(command, stdout=output, env=environment())
        try:
            wait_for(lambda: b"\n" in Path(output.name).read_bytes() or child.poll() is not None, START_S_MAX)
            found = re.search(r"metrics on (\S+)", Path(output.name).read_text())
            assert found is not None
            wait_for(lambda: "constellation_trace_spans_sent_total" in httpx.get(found[1]).text, START_S_MAX)
            yield found[1]
        finally:
            child.terminate()
            child.wait(STOP_S_MAX)
