"""Settings: which of four sources wins, and that a wrong value says where it came from and what is allowed."""

from pathlib import Path
from typing import Any

import pytest

from constellation import config
from constellation.cli.serve import check_memory
from constellation.config import Settings, WrongSetting


def test_nothing_given_is_the_default() -> None:
    assert config.load({}, {}) == Settings()


def test_option_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "shard.toml"
    file.write_text('port = 1\nregion = "file"\nshard_id = "file"\naccess_log = true\n')
    loaded = config.load({"port": "3"}, {"CONSTELLATION_PORT": "2", "CONSTELLATION_REGION": "env"}, file)
    assert (loaded.port, loaded.region, loaded.shard_id, loaded.access_log) == (3, "env", "file", True)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("port", "0", 0),
        ("access_log", "true", True),
        ("access_log", "0", False),
        ("quality_threshold", "0.5", 0.5),
        ("region", "1", "1"),
        ("storage", "memory", "memory"),
    ],
)
def test_text_becomes_the_type_of_its_field(field: str, text: str, value: object) -> None:
    assert getattr(config.load({field: text}, {}), field) == value


@pytest.mark.parametrize("option", config.options(), ids=lambda option: option.field)
def test_every_option_describes_itself_and_refuses_nonsense(option: config.Option) -> None:
    assert option.description and option.allowed
    nonsense = "" if isinstance(option.default, str) else "nonsense"
    with pytest.raises(WrongSetting) as refused:
        config.load({option.field: nonsense}, {})
    assert str(refused.value) == f"{option.flag}: got {nonsense!r}; allowed: {option.allowed}"


@pytest.mark.parametrize("value", ["Zürich", "us east", "x" * 65])
def test_region_is_short_and_plain(value: str) -> None:
    with pytest.raises(WrongSetting, match=r"--region: got .*; allowed: 1 to 64 ASCII characters without spaces"):
        config.load({"region": value}, {})


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1.1"])
def test_threshold_outside_its_range_is_refused(value: str) -> None:
    with pytest.raises(WrongSetting, match=r"CONSTELLATION_SERVE_THRESHOLD: got .*a number from 0 to 1"):
        config.load({}, {"CONSTELLATION_SERVE_THRESHOLD": value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "unknown key 'prot'"),
        ('port = "8080"', "port: got '8080'"),
        ("port =", "is not TOML"),
        ("[server]\nport = 1", "unknown key 'server'"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "shard.toml"
    file.write_text(text)
    with pytest.raises(WrongSetting, match=said):
        config.load({}, {}, file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="--config: cannot read"):
        config.load({}, {}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"port": 5, "metrics_port": 5}, "--metrics-port"),
        ({"port": 5, "grpc_port": 5}, "--grpc-port"),
        ({"grpc_port": 5, "metrics_port": 5}, "--metrics-port"),
        ({"max_body_bytes": 2_048, "max_compressed_bytes": 4_096}, "--max-compressed-bytes"),
        ({"serve_threshold": 0.5, "quality_threshold": 0.6}, "--serve-threshold"),
        ({"max_patterns": 8, "max_patterns_per_device": 9}, "--max-patterns"),
        ({"host": "0.0.0.0", "sharing": "aggregates"}, "--host"),
        ({"token_revocations": "revoked.txt"}, "--token-revocations"),
        ({"tls_cert": "tls.crt"}, "--tls-cert"),
        ({"tls_key": "tls.key"}, "--tls-cert"),
        ({"tls_client_ca": "ca.crt"}, "--tls-client-ca"),
        ({"quic_port": 4433}, "--quic-port"),
        ({"quic_port": 0, "tls_cert": "a", "tls_key": "b", "tls_client_ca": "c"}, "--quic-port"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongSetting, match=f"^{named}: "):
        config.load(given, {})


def test_port_of_http3_is_a_number_or_none(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="--quic-port: got 'x'; allowed: a whole number from 0 to 65535 \\| none"):
        config.load({"quic_port": "x"}, {})
    assert config.load({"quic_port": "none"}, {}).quic_port == "none"
    tls = {"tls_cert": "a", "tls_key": "b"}
    assert config.load(tls | {"quic_port": "8080"}, {}).quic_port == 8080, "UDP: the number of the REST port is free"
    (tmp_path / "shard.toml").write_text("quic_port = 4433\n")
    assert config.load(tls, {}, tmp_path / "shard.toml").quic_port == 4433


def test_two_free_ports_are_no_contradiction() -> None:
    assert config.load({"port": 0, "grpc_port": 0, "metrics_port": 0}, {}).port == 0


def test_others_reach_a_shard_that_asks_for_tokens_or_is_meant_to_ask_nobody() -> None:
    reachable = {"host": "0.0.0.0", "sharing": "aggregates"}
    with pytest.raises(WrongSetting, match=r"got 0\.0\.0\.0, which others reach.*--token-keys FILE.*--insecure"):
        config.load(reachable, {})
    assert config.load(reachable | {"token_keys": "keys.jwks"}, {}).host == "0.0.0.0"
    assert config.load(reachable | {"insecure": True}, {}).host == "0.0.0.0"


def test_memory_that_the_machine_does_not_have_is_refused() -> None:
    check_memory(1 << 30, 1 << 30, Settings())
    with pytest.raises(WrongSetting, match=r"--max-patterns 4000000 .* for each shard imply 1\.0 GiB"):
        check_memory((1 << 30) + 1, 1 << 30, Settings())


def test_worker_reads_its_options_from_the_file_of_a_shard(tmp_path: Path) -> None:
    file = tmp_path / "shard.toml"
    file.write_text('region = "eu"\ncoordinator_url = "postgresql://file/"\ninterval = 7\n')
    loaded = config.load_worker({"deadline": "8"}, {"CONSTELLATION_INTERVAL": "9"}, file)
    assert (loaded.coordinator_url, loaded.interval, loaded.deadline) == ("postgresql://file/", 9, 8)
    assert config.load({}, {}, file).region == "eu"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"interval": "0", "coordinator_url": "postgresql://here/"}, "--interval: got '0'; allowed: a whole number"),
        ({}, "--coordinator-url: it is missing; give postgresql://"),
    ],
)
def test_worker_refuses_what_it_cannot_use(given: dict[str, object], said: str) -> None:
    with pytest.raises(WrongSetting) as refused:
        config.load_worker(given, {})
    assert str(refused.value).startswith(said)
