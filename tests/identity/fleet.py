"""A fleet's keys in a folder, as an operator makes them; good tokens, and every kind of bad ones."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from constellation.identity import Issuer, Scope
from constellation.identity.issuing import make_keys
from constellation.identity.keys import read_private, thumbprint

HOUR_S = 3_600
DEVICE_ID = "550e8400-e29b-41d4-a716-446655440000"
REVOKED_ID = "revoked-token"
REVOKED_DEVICE_ID = "0b54bd4e-6f0c-4e6b-9d5f-2f0a8a4d1c11"


class Fleet:
    """Private key, public keys and revocations in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.private, self.public, self.revocations = folder / "key.pem", folder / "keys.jwks", folder / "revoked.txt"
        make_keys(self.private, self.public)
        self.key = read_private(self.private)
        self.stranger = Ed25519PrivateKey.generate()
        self.revocations.write_text(f"# lost TVs\n{REVOKED_ID}\n{REVOKED_DEVICE_ID.upper()}  # by its device\n")

    @property
    def options(self) -> tuple[str, ...]:
        """Of `constellation serve`."""
        return ("--token-keys", str(self.public), "--token-revocations", str(self.revocations))

    def issue(self, *scopes: Scope, subject: str = DEVICE_ID) -> str:
        return Issuer(self.key).issue(subject, scopes, HOUR_S)

    def signed(
        self,
        claims: Mapping[str, Any] | None = None,
        *,
        key: Ed25519PrivateKey | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> str:
        """A good token of all scopes with other claims (None: without it), another key or another header."""
        content = {
            "sub": DEVICE_ID,
            "aud": "constellation",
            "exp": int(time.time()) + HOUR_S,
            "scope": "device content admin metrics",
            **(claims or {}),
        }
        content = {name: value for name, value in content.items() if value is not None}
        head = {"kid": self.kid, **(headers or {})}
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(content, key or self.key, "EdDSA", headers=head)

    @property
    def kid(self) -> str:
        return thumbprint(self.key.public_key())

    def bad(self) -> dict[str, str]:
        """Tokens that nobody may believe, by what is wrong with them; all claim every scope."""
        now = int(time.time())
        good = self.signed()
        head, claims, signature = good.split(".")
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        raw = self.key.public_key().public_bytes_raw()
        of_another = self.signed({"sub": str(uuid.uuid4())}).split(".")[1]
        return {
            "no token": "",
            "nonsense": "abc",
            "three parts of nothing": "..",
            "cut": good[:-10],
            "other claims under a true signature": f"{head}.{of_another}.{signature}",
            "signature of zeros": f"{head}.{claims}.{base64url(bytes(64))}",
            "no signature": f"{head}.{claims}.",
            "signature in another spelling": f"{head}.{claims}.{respelled(signature)}",
            "four parts": f"{good}.{signature}",
            "foreign key": self.signed(key=self.stranger, headers={"kid": thumbprint(self.stranger.public_key())}),
            "foreign key under our name": self.signed(key=self.stranger),
            "foreign key without a name": self.signed(key=self.stranger, headers={"kid": None}),
            "unknown name": self.signed(headers={"kid": "unknown"}),
            "expired": self.signed({"exp": now - 1}),
            "expired long ago": self.signed({"exp": 1}),
            "never expires": self.signed({"exp": None}),
            "not yet valid": self.signed({"nbf": now + HOUR_S}),
            "revoked by jti": self.signed({"jti": REVOKED_ID}),
            "revoked by sub": self.signed({"sub": REVOKED_DEVICE_ID}),
            "wrong audience": self.signed({"aud": "another-fleet"}),
            "no audience": self.signed({"aud": None}),
            "no subject": self.signed({"sub": None}),
            "device that is none": self.signed({"sub": "tv"}),
            "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
            "alg none, true signature": f"{encoded({'alg': 'none', 'kid': self.kid})}.{claims}.{signature}",
            "HS256 with the public key in PEM": hs256(claims, pem, self.kid),
            "HS256 with the public key's bytes": hs256(claims, raw, self.kid),
            "HS256 with its name": hs256(claims, self.kid.encode(), self.kid),
            "critical extension": self.signed(headers={"crit": ["x"], "x": 1}),
            "own key in its header": self.signed(
                key=self.stranger, headers={"jwk": {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}}
            ),
            "deep header": f"{base64url(b'[' * 300)}.{claims}.{signature}",
            "long header": self.signed(headers={"x": "x" * 600}),
            "too long": self.signed({"x": "x" * 8_000}),
        }


def bearer(token: str) -> dict[str, str]:
    """The header; none for no token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def respelled(signature: str) -> str:
    """Other characters that mean the same 64 bytes to who is lenient: four bits of the last one are no one's."""
    return signature[:-1] + chr(ord(signature[-1]) + 1)


def encoded(header: Mapping[str, Any]) -> str:
    return base64url(json.dumps(header).encode())


def hs256(claims: str, secret: bytes, kid: str) -> str:
    """Signed by hand: PyJWT refuses to use a public key as a secret."""
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": kid})
    signature = hmac.new(secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{base64url(signature)}"
