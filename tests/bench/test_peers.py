"""Peers that cannot be installed, or that fail, are named with the reason; nothing else of a run is lost."""

import sys
from pathlib import Path

import pytest

from bench.peers import NotInstalled, environment


def test_peer_that_was_not_installed_says_how() -> None:
    with pytest.raises(NotInstalled, match="make bench-peers"):
        environment.installed("nobody")


def test_script_that_fails_says_what_it_said_last() -> None:
    with pytest.raises(NotInstalled, match=r"searching.py nobody failed: .*FileNotFoundError"):
        environment.run(Path(sys.executable), "searching.py", "nobody", "nowhere")


def test_pins_are_plain() -> None:
    pins = [
        line
        for path in Path(environment.__file__).parent.glob("requirements-*.txt")
        for line in path.read_text().splitlines()
    ]
    assert len(pins) > 50
    assert all("==" in pin and "/" not in pin for pin in pins)
