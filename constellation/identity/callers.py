"""A caller, and what it may: scopes (RFC 8693, section 4.2), and the one device that it is."""

from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec

from constellation.errors import Forbidden, MissingScope

Scope = Literal["device", "content", "admin", "metrics"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
Allowed = frozenset[Scope]
"""Scopes of which a call needs one."""

DEVICE: Final = "device"
CONTENT: Final = "content"
ADMIN: Final = "admin"
METRICS: Final = "metrics"


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who a token is of. `device_id` if its subject is a device, which all that have the scope `device` are."""

    subject: str
    device_id: bytes | None
    scopes: Allowed
    expires_at: float

    def require(self, allowed: Allowed) -> None:
        """Raises `MissingScope` (403) unless the caller has one of the scopes."""
        if self.scopes.isdisjoint(allowed):
            wanted = " or ".join(sorted(allowed))
            raise MissingScope(f"the token does not have the scope {wanted}, which this needs", scopes=allowed)

    def require_device(self, device_id: bytes) -> None:
        """Raises `Forbidden` unless the caller is this device."""
        if self.device_id != device_id and self is not ANYBODY:
            raise Forbidden("the token is of another device than the one that this is about")


ANYBODY: Final = Caller("", None, frozenset(SCOPES), float("inf"))
"""Everybody, where there are no keys: every scope, and every device."""


def scopes_of(names: Iterable[str]) -> Allowed:
    """Those of the names that are scopes of ours; others are somebody else's."""
    return frozenset(scope for scope in SCOPES if scope in names)
