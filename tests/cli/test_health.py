"""`constellation health`: what the check of a container says of a real shard, with and without TLS."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from constellation.cli.main import main
from tests.api.process import Server, serving
from tests.identity.authority import Authority


def asked(server: Server, *options: str) -> int:
    """The exit code, with the port that the shard got."""
    return main(["health", f"--metrics-port={urlsplit(server.metrics_url).port}", *options])


def test_ready_shard_is_well_and_one_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with serving("--max-devices=1000", "--max-patterns=1000") as server:
        assert asked(server) == 0
        assert asked(server, "--host=0.0.0.0", "--insecure", "--sharing=aggregates") == 0, "a container's"
    assert asked(server) == 1
    assert f"{server.metrics_url.removesuffix('metrics')}health/ready: " in capsys.readouterr().err


def test_tls_is_spoken_where_the_settings_say_so_and_no_certificate_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("tv.example")
    files = {"TLS_CERT": certificate, "TLS_KEY": key, "TLS_CLIENT_CA": authority.certificate}
    options = [f"--{name.lower().replace('_', '-')}={file}" for name, file in files.items()]
    with serving("--max-devices=1000", "--max-patterns=1000", *options) as server:
        assert asked(server) == 1, "not by plain HTTP"
        for name, file in files.items():
            monkeypatch.setenv(f"CONSTELLATION_{name}", str(file))
        assert asked(server) == 0
    capsys.readouterr()


def test_port_that_the_system_chose_is_nobodys_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--metrics-port=0"]) == 2
    assert "--metrics-port: got 0" in capsys.readouterr().err
