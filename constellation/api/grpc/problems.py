"""Every error as the end of a call, or as a message of a stream, in this one place: the twin of `api.problems`."""

from collections.abc import Iterator

from grpc import StatusCode

from constellation.api.grpc import sync_pb2 as pb
from constellation.errors import Overloaded, Problem, SequenceConflict, ShardFull, Unavailable, WrongShard

Metadata = tuple[tuple[str, str], ...]

_BY_HTTP = {
    307: StatusCode.FAILED_PRECONDITION,
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,  # as the library ends a call whose message is longer still
    415: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
}
_BY_CODE = {ShardFull.code: StatusCode.RESOURCE_EXHAUSTED, Overloaded.code: StatusCode.RESOURCE_EXHAUSTED}


def status_of(problem: Problem) -> StatusCode:
    """That of its code, else that of its HTTP status."""
    return _BY_CODE.get(problem.code) or _BY_HTTP[problem.status]


def trailers_of(problem: Problem) -> Metadata:
    """What programs go by, beside the status; its message is for people."""
    return tuple(_trailers(problem))


def _trailers(problem: Problem) -> Iterator[tuple[str, str]]:
    yield "constellation-code", problem.code
    if problem.path is not None:
        yield "constellation-path", problem.path
    match problem:
        case Unavailable():
            yield "retry-after", str(problem.retry_after_s)
            # Libraries that try again by themselves obey this one (gRFC A6).
            yield "grpc-retry-pushback-ms", str(problem.retry_after_s * 1_000)
        case SequenceConflict():
            yield "constellation-last-sequence", str(problem.extra["last_sequence"])
        case WrongShard():
            yield "constellation-shard-url", problem.url


def message_of(problem: Problem) -> pb.Problem:
    """As one message of a stream that goes on."""
    number, _ = status_of(problem).value
    return pb.Problem(
        status=number,
        code=problem.code,
        detail=problem.detail,
        path=problem.path,
        retry_after_s=problem.retry_after_s if isinstance(problem, Unavailable) else None,
        last_sequence=problem.extra.get("last_sequence"),
        shard_url=problem.url if isinstance(problem, WrongShard) else None,
    )
