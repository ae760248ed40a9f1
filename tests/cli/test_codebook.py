"""`constellation codebook`: shows one, trains another on a real shard, and says why it does not."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from constellation.cli.main import main
from constellation.codebook import checksum, default_codebook, encode, load
from tests.api import bodies
from tests.api.process import Server, serving

PATTERNS = 60


@pytest.fixture(scope="module")
def shard() -> Iterator[Server]:
    with serving() as running, httpx.Client(base_url=running.url) as client:
        for first in range(0, PATTERNS, 20):
            added = (bodies.pattern(embedding=bodies.base64_embedding(first + n)) for n in range(20))
            assert client.post("/api/v1/sync", json=bodies.body(*added)).status_code == 200
        yield running


def test_the_one_that_ships_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codebook", "show"]) == 0
    shown = capsys.readouterr().out
    for part in ("1,024", f"{len(encode(default_codebook())):,}", checksum(default_codebook()), "centroids (393,216"):
        assert part in shown


def test_trained_codebook_is_the_next_version_and_can_be_shown(
    shard: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "2.bin"
    train = ["codebook", "train", "--from", shard.url + "/", "--size", "3", "--out"]
    assert main([*train, str(out)]) == 0
    assert f"version 2, 3 centroids of {PATTERNS} patterns" in capsys.readouterr().out
    assert (load(out).version, len(load(out))) == (2, 3)
    assert main(["codebook", "show", str(out), "--from", shard.url]) == 0
    shown = capsys.readouterr().out
    assert checksum(load(out)) in shown and str(PATTERNS) in shown
    assert main([*train, str(out)]) == 2
    assert "a codebook never changes" in capsys.readouterr().err


def test_too_few_patterns_make_none(shard: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "2.bin"
    assert main(["codebook", "train", "--from", shard.url, "--size", "4", "--out", str(out)]) == 1
    assert f"{PATTERNS} samples are too few for 4 centroids" in capsys.readouterr().err
    assert not out.exists()


def test_what_is_no_codebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codebook", "show", str(tmp_path / "none.bin")]) == 1
    assert "none.bin: No such file" in capsys.readouterr().err


def test_size_that_is_not_allowed_is_refused_before_anything_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["codebook", "train", "--from", "http://localhost", "--out", "never.bin"]
    assert main([*train, "--size", "5000"]) == 2
    assert "--size: got 5000; allowed: a whole number from 1 to 4096" in capsys.readouterr().err


def test_what_is_no_url_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["codebook", "train", "--from", "localhost", "--out", "never.bin"])
    assert ended.value.code == 2 and "'localhost'; allowed: a URL that begins with" in capsys.readouterr().err
