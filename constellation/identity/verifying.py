"""Checking one token: signature, audience, time, revocation, in this order; nothing is told before the signature holds.

The algorithm is EdDSA whatever a token says of itself, and keys are Ed25519 public keys only: `none`, and a public key
that is taken for a secret, are refused by what there is. Signatures are libsodium's to check, in half the time that
OpenSSL takes: who floods a shard with forged tokens makes it check them all.
"""

import math
from functools import lru_cache
from typing import Annotated

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from msgspec import Meta
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from constellation.errors import Unauthenticated
from constellation.identity.callers import DEVICE, Caller, scopes_of
from constellation.identity.issuing import ALGORITHM
from constellation.identity.keys import Keys
from constellation.wire.ids import parse_uuid

SUBJECT_CHARS_MAX = 256


class _Sodium(OKPAlgorithm):
    def verify(self, msg: bytes, key: Ed25519PublicKey, sig: bytes) -> bool:  # type: ignore[override]
        try:
            VerifyKey(key.public_bytes_raw()).verify(msg, sig)
        except (BadSignatureError, ValueError):  # it has no 64 bytes
            return False
        return True


_jws = jwt.PyJWS([ALGORITHM])
_jws.unregister_algorithm(ALGORITHM)
_jws.register_algorithm(ALGORITHM, _Sodium())


class _Claims(msgspec.Struct):
    sub: Annotated[str, Meta(min_length=1, max_length=SUBJECT_CHARS_MAX)]
    aud: str | list[str]
    exp: float
    nbf: float = 0.0
    scope: str = ""
    jti: str = ""


def verify(token: str, keys: Keys, audience: str, revoked: frozenset[str], now: float) -> Caller:
    """Who the token is of. Raises `Unauthenticated`."""
    claims = _claims(token, keys)
    if audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise Unauthenticated("the token is for another audience", error="invalid_token")
    # Written so that a time that is no number is refused.
    if not now < claims.exp < math.inf:
        raise Unauthenticated("the token has expired: get another one", error="invalid_token")
    if not claims.nbf <= now:
        raise Unauthenticated("the token is not valid yet", error="invalid_token")
    if not revoked.isdisjoint((claims.jti.lower(), claims.sub.lower())):
        raise Unauthenticated("the token was revoked", error="invalid_token")
    scopes, device_id = scopes_of(claims.scope.split()), parse_uuid(claims.sub)
    if DEVICE in scopes and device_id is None:
        raise Unauthenticated("the token has the scope device, but its sub is no UUID", error="invalid_token")
    return Caller(claims.sub, device_id, scopes, claims.exp)


def _claims(token: str, keys: Keys) -> _Claims:
    try:
        payload = _payload(token, keys.candidates(_kid(token.partition(".")[0])))
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("the token is not one of this fleet", error="invalid_token") from None
    try:
        return msgspec.json.decode(payload, type=_Claims)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unauthenticated(f"the token's claims are not as they should be: {error}", error="invalid_token") from None


@lru_cache(maxsize=64)
def _kid(header: str) -> str | None:
    """Remembered: the tokens of an issuer begin alike, and reading it takes a fifth of a check. Raises as PyJWT."""
    kid: str | None = jwt.get_unverified_header(f"{header}.e30.AA").get("kid")
    return kid


def _payload(token: str, candidates: tuple[Ed25519PublicKey, ...]) -> bytes:
    """Raises what PyJWT does, of the last key that was tried."""
    wrong: jwt.PyJWTError = jwt.InvalidKeyError("no key of that name")
    for key in candidates:
        try:
            payload: bytes = _jws.decode(token, key, [ALGORITHM])
        except jwt.InvalidSignatureError as error:
            wrong = error
        else:
            return payload
    raise wrong
