"""Checking one token: signature, audience, time, revocation, in this order; nothing is told before the signature holds.

The algorithm is EdDSA whatever a token says of itself, and keys are Ed25519 public keys only: `none`, and a public key
that is taken for a secret, are refused by what there is. Who floods a shard with forged tokens makes it check them all,
so signatures are libsodium's to check, in half the time that OpenSSL takes, and headers are PyJWT's to read, each once.
"""

import base64
import math
from functools import lru_cache
from typing import Annotated

import jwt
import msgspec
from msgspec import Meta
from nacl.exceptions import BadSignatureError

from constellation.errors import Unauthenticated
from constellation.identity.callers import DEVICE, Caller, scopes_of
from constellation.identity.issuing import ALGORITHM
from constellation.identity.keys import Keys
from constellation.wire.ids import parse_uuid

HEADER_BYTES_MAX = 512
SUBJECT_CHARS_MAX = 256


class _Claims(msgspec.Struct):
    sub: Annotated[str, Meta(min_length=1, max_length=SUBJECT_CHARS_MAX)]
    aud: str | list[str]
    exp: float
    nbf: float = 0.0
    scope: str = ""
    jti: str = ""


def verify(token: bytes, keys: Keys, audience: str, revoked: frozenset[str], now: float) -> Caller:
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


def _claims(token: bytes, keys: Keys) -> _Claims:
    try:
        payload = _payload(token, keys)
    except (jwt.PyJWTError, ValueError, RecursionError):
        payload = None
    if payload is None:
        raise Unauthenticated("the token is not one of this fleet", error="invalid_token")
    try:
        return msgspec.json.decode(payload, type=_Claims)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unauthenticated(f"the token's claims are not as they should be: {error}", error="invalid_token") from None


def _payload(token: bytes, keys: Keys) -> bytes | None:
    """Of a signature that holds (RFC 7515, section 5.2). Raises `ValueError`, and as `_kid`."""
    signed, _, signature = token.rpartition(b".")
    header, _, payload = signed.partition(b".")
    for key in keys.candidates(_kid(header)):
        try:
            key.verify(signed, _decoded(signature))
        except BadSignatureError:
            continue
        return _decoded(payload)
    return None


@lru_cache(maxsize=64)
def _kid(header: bytes) -> str | None:
    """The key that a token names. PyJWT judges its header, and once: the tokens of an issuer begin alike.

    Raises `ValueError`, `jwt.PyJWTError`, `RecursionError`; for a header of another algorithm, too.
    """
    if len(header) > HEADER_BYTES_MAX:
        raise ValueError("the header is too long")
    told = jwt.get_unverified_header(header + b".e30.AA")
    if told.get("alg") != ALGORITHM:
        raise jwt.InvalidAlgorithmError("the algorithm is not this fleet's")
    kid: str | None = told.get("kid")
    return kid


def _decoded(part: bytes) -> bytes:
    """Raises `ValueError` for what is no base64url without padding, or another spelling of the same bytes."""
    content = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part:
        raise ValueError("no base64url")
    return content
