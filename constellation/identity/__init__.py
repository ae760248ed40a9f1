"""Who is calling: tokens, the keys and the revocations that decide about them, and the certificates of TLS.

Knows no HTTP and no gRPC: `Identity` turns the headers of a call into a `Caller`, which says what it may. Files are
read anew when they are written; a file that cannot be used leaves what was read before. Used by `api` to check
tokens, by `cli` and `fleet` to issue them.
"""

from constellation.identity.callers import ADMIN, ANYBODY, CONTENT, DEVICE, METRICS, SCOPES, Allowed, Caller, Scope
from constellation.identity.identity import Identity, open_identity
from constellation.identity.issuing import Issuer, make_keys, read_issuer
from constellation.identity.tls import Tls, open_tls
from constellation.identity.watched import WrongFile

__all__ = [
    "ADMIN",
    "ANYBODY",
    "CONTENT",
    "DEVICE",
    "METRICS",
    "SCOPES",
    "Allowed",
    "Caller",
    "Identity",
    "Issuer",
    "Scope",
    "Tls",
    "WrongFile",
    "make_keys",
    "open_identity",
    "open_tls",
    "read_issuer",
]
