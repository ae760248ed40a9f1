"""Key files: what is read, what is refused, and what `add_public` leaves."""

import stat
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from constellation.identity.keys import add_public, read_keys, read_private, thumbprint, write_private
from constellation.identity.revocations import read_revocations
from constellation.identity.watched import WrongFile


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_private_key_is_its_owners_alone(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "key.pem"
    write_private(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private(path).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(FileExistsError):
        write_private(path, key)


@pytest.mark.parametrize("name", ["keys.jwks", "keys.pem"])
def test_public_keys_come_back_in_both_forms(tmp_path: Path, key: Ed25519PrivateKey, name: str) -> None:
    path = tmp_path / name
    other = Ed25519PrivateKey.generate()
    for each in (key, other):
        add_public(path, each.public_key())
    assert set(read_keys(path).named) == {thumbprint(key.public_key()), thumbprint(other.public_key())}
    assert len(read_keys(path).nameless) == (2 if name.endswith("pem") else 0)


def test_thumbprint_is_that_of_rfc_8037(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    path.write_text(f'{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}')
    assert list(read_keys(path).named) == ["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]


def test_key_goes_by_the_name_it_came_with(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "keys"
    add_public(path, key.public_key())
    path.write_text(path.read_text().replace(thumbprint(key.public_key()), "2026"))
    keys = read_keys(path)
    assert len(keys.candidates("2026")) == len(keys.candidates(None)) == 1
    assert keys.candidates("2027") == ()


def test_keys_of_other_kinds_in_a_set_are_for_others(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "keys"
    add_public(path, key.public_key())
    listed = msgspec.json.decode(path.read_bytes())
    listed["keys"] += [{"kty": "RSA", "n": "x", "e": "AQAB"}, {"kty": "OKP", "crv": "X25519", "x": "AA"}]
    path.write_bytes(msgspec.json.encode(listed))
    assert len(read_keys(path).named) == 1


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither PEM nor a JWKS"),
        (b"\xff", "neither PEM nor a JWKS"),
        (b"[" * 100_000, "neither PEM nor a JWKS"),
        (b'{"keys": []}', "has no Ed25519 public key"),
        (b'{"keys": [{"kty": "RSA"}]}', "has no Ed25519 public key"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "private or symmetric"),
        (b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": "AAAA"}]}', "private or symmetric"),
        (b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}', "not 32 bytes"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "another kind than Ed25519"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "has no Ed25519 public key"),
        (b" " * (2 << 20), "more than"),
    ],
)
def test_wrong_public_file_says_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(WrongFile, match=said):
        read_keys(path)


def test_private_key_is_no_public_file(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "key.pem"
    write_private(path, key)
    with pytest.raises(WrongFile, match="private key; a shard needs the public ones alone"):
        read_keys(path)


def test_two_keys_of_one_name_are_refused(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    path = tmp_path / "keys.pem"
    for _ in range(2):
        add_public(path, key.public_key())
    with pytest.raises(WrongFile, match="two keys of one name"):
        read_keys(path)


@pytest.mark.parametrize(
    "content",
    ["a\n#no\nB # late\n\n", '["a", "B"]', '{"jti": ["a"], "sub": ["B"]}', '{"sub": ["A", "b"]}', "\r\na\r\nb"],
)
def test_revocations_are_read_in_every_form(tmp_path: Path, content: str) -> None:
    path = tmp_path / "revoked"
    path.write_text(content)
    assert read_revocations(path) == {"a", "b"}


@pytest.mark.parametrize("content", [b'{"jit": ["a"]}', b"[1]", b"[", b"\xff"])
def test_wrong_revocations_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "revoked"
    path.write_bytes(content)
    with pytest.raises(WrongFile, match="neither"):
        read_revocations(path)
