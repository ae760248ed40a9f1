"""Every error that a caller of the service can meet, each with the HTTP status and the stable code it goes by.

Raised anywhere below the API, turned into problem+json (RFC 9457) or its gRPC twin in exactly one place each.
A detail says which field, what came and what was expected. Programmer errors are not here: they assert.
"""

from collections.abc import Iterable
from typing import Any, ClassVar


class Problem(Exception):
    """Base of all public errors. Nothing of the refused request was applied."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, path: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.path = path
        self.extra = extra


class WrongShard(Problem):
    """The device's slot is another shard's: ask there, and from now on. `url` is that shard's."""

    status, code = 307, "wrong_shard"

    def __init__(self, detail: str, *, url: str) -> None:
        super().__init__(detail, url=url)
        self.url = url


class Malformed(Problem):
    """Bytes that are not of the declared type or compression."""

    status, code = 400, "malformed"


class Unauthenticated(Problem):
    """No token, or one that is not, not yet or no longer good. `error` as RFC 6750 names it, if there was a token."""

    status, code = 401, "unauthenticated"

    def __init__(self, detail: str, *, error: str | None = None) -> None:
        super().__init__(detail)
        self.error = error


class Forbidden(Problem):
    """What this caller, or with these settings nobody, may have."""

    status, code = 403, "forbidden"


class MissingScope(Forbidden):
    """The token is good, and has none of the `scopes` that the call needs."""

    def __init__(self, detail: str, *, scopes: Iterable[str]) -> None:
        super().__init__(detail)
        self.scopes = sorted(scopes)


class NotFound(Problem):
    """Unknown content or address."""

    status, code = 404, "not_found"


class MethodNotAllowed(Problem):
    """The address exists, but not with this method."""

    status, code = 405, "method_not_allowed"


class SequenceConflict(Problem):
    """The sequence was already used for other content; `last_sequence` says where the device stands."""

    status, code = 409, "sequence_conflict"

    def __init__(self, detail: str, *, last_sequence: int) -> None:
        super().__init__(detail, path="delta.sequence", last_sequence=last_sequence)


class TooLarge(Problem):
    """The body, or what it decompresses to, is over its limit."""

    status, code = 413, "too_large"


class UnsupportedMediaType(Problem):
    """A content type or encoding that this service does not read."""

    status, code = 415, "unsupported_media_type"


class UnknownDictionary(Problem):
    """A zstd frame that names a dictionary this shard does not have: resend without."""

    status, code = 415, "unknown_dictionary"


class InvalidPattern(Problem):
    """A field of a sync that is missing, of the wrong type or out of range; `path` names it."""

    status, code = 422, "invalid_pattern"


class TooManyPatterns(Problem):
    """More patterns in one delta than its limits allow."""

    status, code = 422, "too_many_patterns"


class InvalidParameter(Problem):
    """A query parameter, path parameter or header out of range; `path` names it."""

    status, code = 422, "invalid_parameter"


class InvalidContent(Problem):
    """A field of a content item that is missing, of the wrong type or out of range; `path` names it."""

    status, code = 422, "invalid_content"


class Unavailable(Problem):
    """Base of the refusals that pass: try again after `retry_after_s`."""

    status = 503

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateLimited(Unavailable):
    """The device syncs too often; after `retry_after_s` it may again."""

    status, code = 429, "rate_limited"


class ShardFull(Unavailable):
    """No room for a new device, or for these patterns or content."""

    code = "shard_full"


class Overloaded(Unavailable):
    """Too much work is in flight, or the request waited longer than it may."""

    code = "overloaded"


class Draining(Unavailable):
    """The process is stopping: go to another one, or come back."""

    code = "draining"


class NotReady(Unavailable):
    """The shard is not loaded yet, or lost a part it needs; or no shard has the slot of the device."""

    code = "not_ready"


class Moving(Unavailable):
    """The device goes to another shard at the moment; there it is served in a while."""

    code = "moving"


class StorageFailed(Unavailable):
    """What came cannot be kept: the disk or the database does not take it."""

    code = "storage"
