"""Signing tokens: for `constellation token issue`, and for the simulated TVs of a fleet."""

import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from constellation.identity.callers import Scope
from constellation.identity.keys import add_public, read_private, thumbprint, write_private

ALGORITHM = "EdDSA"
AUDIENCE = "constellation"


class Issuer:
    """Who has the private key of a fleet."""

    def __init__(
        self, key: Ed25519PrivateKey, audience: str = AUDIENCE, clock: Callable[[], float] = time.time
    ) -> None:
        self._key, self._audience, self._clock = key, audience, clock
        self._kid = thumbprint(key.public_key())

    def __reduce__(self) -> tuple[Callable[[bytes, str], "Issuer"], tuple[bytes, str]]:
        """For the processes that share the TVs of one fleet: a key of cryptography's cannot be sent as it is."""
        return _from_raw, (self._key.private_bytes_raw(), self._audience)

    def issue(self, subject: str, scopes: Iterable[Scope], expires_s: int, token_id: str | None = None) -> str:
        """A token of this subject, a device's UUID for the scope `device`. By `token_id` (`jti`) it can be revoked."""
        now = int(self._clock())
        claims = {
            "sub": subject,
            "aud": self._audience,
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + expires_s,
            "jti": token_id or str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._kid})


def _from_raw(key: bytes, audience: str) -> Issuer:
    return Issuer(Ed25519PrivateKey.from_private_bytes(key), audience)


def make_keys(private: Path, public: Path) -> str:
    """A new pair in these files, of which the public one may exist; its `kid`.

    Raises `WrongFile`, `FileExistsError` for the private one, `OSError`.
    """
    key = Ed25519PrivateKey.generate()
    write_private(private, key)
    add_public(public, key.public_key())
    return thumbprint(key.public_key())


def read_issuer(path: Path, audience: str = AUDIENCE) -> Issuer:
    """Raises `WrongFile`."""
    return Issuer(read_private(path), audience)
