"""`constellation token`: keys and tokens as an operator makes them, and what is refused."""

import stat
import uuid
from pathlib import Path

import jwt
import pytest

from constellation.cli.main import main
from constellation.config import Settings
from constellation.identity import open_identity

DEVICE = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSTELLATION_AUDIENCE", raising=False)
    assert main(["token", "keys"]) == 0
    assert "token-key.pem signs tokens, keep it secret; token-keys.jwks is for" in capsys.readouterr().out
    return tmp_path


def test_issued_token_is_believed_by_a_shard_with_the_public_file(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stat.S_IMODE((keys / "token-key.pem").stat().st_mode) == 0o600
    assert main(["token", "issue", "--key", "token-key.pem", "--device", DEVICE, "--expires", "2h"]) == 0
    printed = capsys.readouterr()
    identity = open_identity(Settings(token_keys="token-keys.jwks"))
    caller = identity.authenticate([(b"authorization", f"Bearer {printed.out.strip()}".encode())])
    assert caller.subject == DEVICE and caller.scopes == {"device"}
    claims = jwt.decode(printed.out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 7_200 and claims["jti"] in printed.err
    assert uuid.UUID(claims["jti"])


@pytest.mark.parametrize("scope", ["admin metrics", "metrics,admin"])
def test_operator_gets_the_scopes_that_are_named(keys: Path, capsys: pytest.CaptureFixture[str], scope: str) -> None:
    arguments = ["token", "issue", "--key", "token-key.pem", "--subject", "ops", "--scope", scope, "--id", "t-1"]
    assert main([*arguments, "--audience", "other"]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["scope"], claims["jti"], claims["aud"]) == ("ops", "admin metrics", "t-1", "other")


def test_another_key_joins_the_public_file(keys: Path) -> None:
    assert main(["token", "keys", "--key", "next.pem"]) == 0
    assert (keys / "token-keys.jwks").read_text().count('"kid"') == 2
    assert main(["token", "keys", "--key", "third.pem", "--public", "keys.pem"]) == 0
    assert (keys / "keys.pem").read_text().startswith("-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["keys"], "--key: token-key.pem exists"),
        (["keys", "--key", "none/key.pem"], "cannot write none/key.pem"),
        (["issue", "--key", "none.pem", "--device", DEVICE], "--key: cannot read none.pem"),
        (["issue", "--key", "token-keys.jwks", "--device", DEVICE], "no private key in PEM"),
        (["issue", "--key", "token-key.pem", "--subject", "ops"], "--scope: got ''; allowed: device, content"),
        (["issue", "--key", "token-key.pem", "--device", DEVICE, "--scope", "root"], "--scope: got 'root'"),
        (["issue", "--key", "token-key.pem", "--subject", "ops", "--scope", "device"], "--subject: got 'ops'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    keys: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["token", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("expires", ["0", "-1", "1w", "soon", "1.5h", "9999999999d"])
def test_time_that_is_none_is_refused(keys: Path, capsys: pytest.CaptureFixture[str], expires: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "issue", "--key", "token-key.pem", "--device", DEVICE, f"--expires={expires}"])
    assert ended.value.code == 2 and "such as 30d" in capsys.readouterr().err
