"""What `sync` raises. The TV's own patterns are unharmed by all of it: a later sync tells them."""

from typing import Any


class SyncFailed(Exception):
    """Base of all of them."""


class Unreachable(SyncFailed):
    """No lasting answer after all attempts. The delta stays in flight and is sent again, unchanged."""


class Refused(SyncFailed):
    """The shard will not take this request, and sending it again will not change that."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.path = str(problem.get("path") or "")
        self.last_sequence: int | None = problem.get("last_sequence")
        super().__init__(f"{status} {self.code}: {problem.get('detail', '')} {self.path}".rstrip())


class BadReply(SyncFailed):
    """The reply cannot be read. The shard may have taken the delta: it stays in flight and is sent again, unchanged."""


class WrongDigest(SyncFailed):
    """The list made from a reply is not the one its digest names; the list kept is the one before."""
