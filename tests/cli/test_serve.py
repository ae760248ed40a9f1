"""`constellation serve`: what is refused before anything starts."""

import sys
from pathlib import Path

import pytest

from constellation.cli.main import main
from tests.identity.authority import Authority


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["serve", "--storage", "memory", "--port", "0", "--metrics-port", "0", *options]) == 2
    return capsys.readouterr().err


def test_shard_that_others_reach_and_that_asks_for_no_token_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--host", "0.0.0.0", "--sharing", "aggregates")
    assert "--host: got 0.0.0.0" in said and "--token-keys" in said and "--insecure" in said


@pytest.mark.parametrize("options", [(), ("--shards", "2")])
def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    file = tmp_path / "keys"
    assert f"--token-keys: cannot read {file}" in refused(capsys, "--token-keys", str(file), *options)
    file.write_text("{}")
    assert f"--token-keys: {file} is neither PEM nor a JWKS" in refused(capsys, "--token-keys", str(file), *options)
    said = refused(capsys, "--tls-cert", str(file), "--tls-key", str(file), *options)
    assert "--tls-cert:" in said and "PEM" in said


def test_http3_without_its_extra_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aioquic", None)
    files = [str(file) for file in Authority(tmp_path, "servers").issue("shard")]
    said = refused(capsys, "--quic-port", "0", "--tls-cert", files[0], "--tls-key", files[1])
    assert "--quic-port: got 0" in said and "pip install 'constellation[quic]'" in said
