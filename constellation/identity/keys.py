"""Key files. Private: PEM. Public: PEM with one key or several, or a JWKS (RFC 7517, RFC 8037). Ed25519 alone.

A key is named by its `kid`; one that has none by its thumbprint (RFC 7638), which is what `Issuer` puts into tokens.
Symmetric and private keys in a public file are refused, so that no secret can ever be what a token is checked with.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.signing import VerifyKey

from constellation.identity.watched import WrongFile

KEY_FILE_BYTES_MAX = 1 << 20
KEYS_TRIED_MAX = 4
"""Keys that a token is tried with that does not name one of them: each costs 0.06 ms, whoever sends it."""

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.S)


class Keys(msgspec.Struct, frozen=True):
    """Public keys by name; `nameless` are those that came without one, and may be meant by any."""

    named: dict[str, VerifyKey]
    nameless: tuple[VerifyKey, ...]

    def candidates(self, kid: str | None) -> tuple[VerifyKey, ...]:
        """Those that a token of this `kid` may be signed with."""
        if kid in self.named:
            return (self.named[kid],)
        return (tuple(self.named.values()) if kid is None else self.nameless)[:KEYS_TRIED_MAX]


class _Jwk(msgspec.Struct):
    kty: str
    crv: str = ""
    x: str = ""
    kid: str | None = None
    use: str = "sig"
    d: str | None = None


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


def read_keys(path: Path) -> Keys:
    """Raises `WrongFile`, `OSError`."""
    content = _bounded(path)
    found = list(_of_pem(path, content) if b"-----BEGIN" in content else _of_jwks(path, content))
    if not found:
        raise WrongFile(f"{path} has no Ed25519 public key; `constellation token keys` makes one")
    named = {kid or thumbprint(key): _checker(key) for kid, key in found}
    if len(named) != len(found):
        raise WrongFile(f"{path} has two keys of one name")
    return Keys(named, tuple(_checker(key) for kid, key in found if kid is None))


def read_private(path: Path) -> Ed25519PrivateKey:
    """Raises `WrongFile`."""
    try:
        key = serialization.load_pem_private_key(_bounded(path), None)
    except OSError as error:
        raise WrongFile(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise WrongFile(f"{path} is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongFile(f"{path} is not an Ed25519 key; `constellation token keys` makes one")
    return key


def write_private(path: Path, key: Ed25519PrivateKey) -> None:
    """For its owner's eyes only. Raises `FileExistsError`."""
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)


def add_public(path: Path, key: Ed25519PublicKey) -> None:
    """Add a key to a public file, which is made if there is none: PEM if it is named so, else a JWKS.

    What a shard reads meanwhile is whole. Raises `WrongFile`, `OSError`.
    """
    held = read_keys(path) if path.exists() else Keys({}, ())
    written = path.read_bytes() if path.exists() else b""
    if path.suffix == ".pem":
        content = written + key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        listed = [_jwk(bytes(each), kid) for kid, each in held.named.items()]
        added = _jwk(key.public_bytes_raw(), thumbprint(key))
        content = msgspec.json.format(msgspec.json.encode({"keys": [*listed, added]})) + b"\n"
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def thumbprint(key: Ed25519PublicKey) -> str:
    """RFC 7638."""
    required = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(key.public_bytes_raw())}"}}'
    return _base64url(hashlib.sha256(required.encode()).digest())


def _of_pem(path: Path, content: bytes) -> Iterator[tuple[str | None, Ed25519PublicKey]]:
    for block in _PEM.finditer(content):
        if b"PRIVATE" in block[1]:
            raise WrongFile(f"{path} holds a private key; a shard needs the public ones alone")
        try:
            key = serialization.load_pem_public_key(block[0])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise WrongFile(
                f"{path} holds a {block[1].decode().lower()} that cannot be read as a public key"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise WrongFile(f"{path} holds a key of another kind than Ed25519")
        yield None, key


def _of_jwks(path: Path, content: bytes) -> Iterator[tuple[str | None, Ed25519PublicKey]]:
    try:
        listed = msgspec.json.decode(content, type=_Jwks).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WrongFile(f"{path} is neither PEM nor a JWKS: {error}") from error
    for jwk in listed:
        if jwk.d is not None or jwk.kty == "oct":
            raise WrongFile(f"{path} holds a private or symmetric key; a shard needs the public ones alone")
        # A set of an identity provider may hold keys of other kinds, which are for other services.
        if (jwk.kty, jwk.crv, jwk.use) == ("OKP", "Ed25519", "sig"):
            yield jwk.kid, _key(path, jwk.x)


def _key(path: Path, x: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    except ValueError as error:
        raise WrongFile(f"{path} has a key of which x is not 32 bytes in base64url") from error


def _checker(key: Ed25519PublicKey) -> VerifyKey:
    return VerifyKey(key.public_bytes_raw())


def _jwk(key: bytes, kid: str) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": _base64url(key)}


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(KEY_FILE_BYTES_MAX + 1)
    if len(content) > KEY_FILE_BYTES_MAX:
        raise WrongFile(f"{path} has more than {KEY_FILE_BYTES_MAX} bytes")
    return content
