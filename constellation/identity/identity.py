"""Who a call is of: the one check that every door makes before it says or does anything else.

A token that was checked is remembered by its hash until it expires, and no longer than keys and revocations stay as
they are. The loop asks; `look` runs in a thread and changes nothing that an answer under way depends on.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from constellation.config import NONE, Settings, WrongSetting
from constellation.errors import Forbidden, Unauthenticated
from constellation.identity.callers import ANYBODY, Allowed, Caller
from constellation.identity.keys import Keys, read_keys
from constellation.identity.revocations import read_revocations
from constellation.identity.verifying import verify
from constellation.identity.watched import Watched, WrongFile

TOKEN_BYTES_MAX = 4_096
_FORWARDED, _X_FORWARDED = b"forwarded", b"x-forwarded-"

Value = TypeVar("Value")

_log = logging.getLogger(__name__)


class _Checked(msgspec.Struct, frozen=True, gc=False):
    """A token that was good; `generation` is of the keys and revocations by which it was."""

    caller: Caller
    generation: int


class Identity:
    """`keys` None: everybody is believed, but a proxy only if `insecure`."""

    def __init__(
        self,
        settings: Settings,
        keys: Watched[Keys] | None = None,
        revoked: Watched[frozenset[str]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audience, self._insecure = settings.audience, settings.insecure
        self._cached_max = settings.max_cached_tokens
        self._keys, self._revoked, self._clock = keys, revoked, clock
        self._generation = 0
        self._cache: OrderedDict[bytes, _Checked] = OrderedDict()

    @property
    def required(self) -> bool:
        """Does a caller need a token?"""
        return self._keys is not None

    @property
    def failing(self) -> str:
        """Why a file as it is now is not used, if one is not."""
        return "; ".join(file.failing for file in (self._keys, self._revoked) if file is not None and file.failing)

    def authorize(self, headers: Iterable[tuple[bytes, bytes]], allowed: Allowed) -> Caller:
        """For a door without a table: who is calling, with one of these scopes. Raises as `authenticate`, and
        `MissingScope`. Names of headers are in lower case, as in ASGI and in the metadata of gRPC."""
        caller = self.authenticate(headers)
        caller.require(allowed)
        return caller

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who is calling. Raises `Unauthenticated`; without keys `Forbidden` for what came through a proxy."""
        if self._keys is None:
            if not self._insecure:
                _refuse_forwarded(headers)
            return ANYBODY
        given = [value for name, value in headers if name == b"authorization"]
        # Two of them are one that is no token (RFC 9110, section 5.3).
        authorization = given[0] if len(given) == 1 else b", ".join(given)
        digest = hashlib.sha256(authorization).digest()
        checked = self._cache.get(digest)
        if checked is not None and checked.generation == self._generation and self._clock() < checked.caller.expires_at:
            self._cache.move_to_end(digest)
            return checked.caller
        return self._check(authorization, digest, self._keys)

    def look(self) -> None:
        """Read the files again that were written. It blocks, as files do."""
        for what, file in (("token keys", self._keys), ("token revocations", self._revoked)):
            if file is None:
                continue
            failed_before = file.failing
            if file.look():
                self._generation += 1
                _log.info("read again", extra={"what": what})
            elif file.failing != failed_before:
                _log.error("not read again, what was read before stays", extra={"what": what, "why": file.failing})

    def _check(self, authorization: bytes, digest: bytes, keys: Watched[Keys]) -> Caller:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("this needs a token: Authorization: Bearer TOKEN")
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated("the token is not one of this fleet", error="invalid_token")
        # Before the keys: a token that was checked with old ones while they changed is not believed twice.
        generation = self._generation
        revoked = self._revoked.value if self._revoked is not None else frozenset[str]()
        caller = verify(token.lstrip(b" "), keys.value, self._audience, revoked, self._clock())
        self._cache[digest] = _Checked(caller, generation)
        self._cache.move_to_end(digest)
        if len(self._cache) > self._cached_max:
            self._cache.popitem(last=False)
        return caller


def open_identity(settings: Settings, clock: Callable[[], float] = time.time) -> Identity:
    """With the files that the settings name. Raises `WrongSetting`."""
    keys = _watched(settings.token_keys, read_keys, "--token-keys")
    revoked = _watched(settings.token_revocations, read_revocations, "--token-revocations")
    return Identity(settings, keys, revoked, clock)


def _watched(file: str, read: Callable[[Path], Value], flag: str) -> Watched[Value] | None:
    if file == NONE:
        return None
    try:
        return Watched((Path(file),), read)
    except WrongFile as error:
        raise WrongSetting(f"{flag}: {error}") from error


def _refuse_forwarded(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, _ in headers:
        if name == _FORWARDED or name.startswith(_X_FORWARDED):
            raise Forbidden(
                f"a proxy sent this ({name.decode('latin-1')}), so others than this machine can reach the shard, and "
                "it asks nobody who they are: give it keys (--token-keys; `constellation token keys` makes them), or "
                "say that this is meant (--insecure)"
            )
