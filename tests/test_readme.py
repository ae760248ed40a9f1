"""What the README tells a newcomer to paste does what the README says."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from constellation.cli.demo import shards

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
README_URL = "http://127.0.0.1:8080"
README_DEVICE = "550e8400-e29b-41d4-a716-446655440000"
OTHER_DEVICE = "550e8400-e29b-41d4-a716-446655440001"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with shards(Console(stderr=True)) as (address,):
        yield address


def block(language: str, beginning: str) -> str:
    """The one fenced block of that language that begins so."""
    blocks = re.findall(rf"^```{language}\n({re.escape(beginning)}.*?)^```", README, re.M | re.S)
    assert len(blocks) == 1
    return str(blocks[0])


def run_curl(command: str) -> tuple[int, dict[str, Any]]:
    pasted = command.replace("curl ", "curl --write-out '\\n%{http_code}' ", 1)
    output = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=True, timeout=60).stdout
    body, status = output.rsplit("\n", 1)
    return int(status), json.loads(body)


def test_pasted_curl_is_answered_and_teaches_another_tv(url: str) -> None:
    command = block("sh", "curl").replace(README_URL, url)
    status, first = run_curl(command)
    assert status == 200
    assert first["accepted"]["added"] == 1 and first["global"]["similar"] == []
    status, other = run_curl(command.replace(README_DEVICE, OTHER_DEVICE))
    assert status == 200
    assert [pattern["id"] for pattern in other["global"]["similar"]] == ["0b54bd4e-6f0c-4e6b-9d5f-2f0a8a4d1c11"]


def test_pasted_python_syncs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python", "from uuid").replace(README_URL, url), {})
    assert capsys.readouterr().out


def test_every_path_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    missing = [link for link in links if not (Path(__file__).resolve().parents[1] / link).exists()]
    assert missing == []
