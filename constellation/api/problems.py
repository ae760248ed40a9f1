"""Every error as a reply, in this one place: problem+json (RFC 9457), or the same fields in msgpack.

What nobody expected becomes a 500 `internal` that tells the client its request id and nothing else; the traceback
goes to the log under that id.
"""

import logging
from collections.abc import Mapping

from litestar import Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, HTTPScope

from constellation.api.accounting import Account
from constellation.api.replies import AnyRequest, Reply, scope_media
from constellation.api.service import Service
from constellation.errors import (
    Malformed,
    MethodNotAllowed,
    MissingScope,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
    WrongShard,
)
from constellation.wire.problems import CONTENT_TYPES, encode_problem

_log = logging.getLogger(__name__)


def exception_handlers(service: Service) -> ExceptionHandlersMap:
    """The handlers to install; each refusal is counted by its code."""

    def on_problem(request: AnyRequest, problem: Problem) -> Response[bytes]:
        service.metrics.problem(problem.code)
        return _respond(request, problem, _headers(request.scope, problem))

    def on_framework(request: AnyRequest, error: HTTPException) -> Response[bytes]:
        problem = _translate(request, error)
        service.metrics.problem(problem.code)
        # A 405 says which methods there are (RFC 9110, section 15.5.6).
        return _respond(request, problem, {name.title(): value for name, value in (error.headers or {}).items()})

    def on_unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
        service.metrics.problem(Problem.code)
        account: Account = request.scope["state"]["account"]
        _log.error("unexpected error", exc_info=error, extra=account.told(service))
        return _respond(request, Problem("an unexpected error; the log has it under this request id"), {})

    return {Problem: on_problem, HTTPException: on_framework, Exception: on_unexpected}


def refusal(scope: HTTPScope, problem: Problem) -> Reply:
    """The same outside of the framework, before a request is routed."""
    media = scope_media(scope)
    body = encode_problem(problem, scope["state"]["request_id"], media)
    return Reply(body, CONTENT_TYPES[media], {"Vary": "Accept", **_headers(scope, problem)}, problem.status)


def _headers(scope: HTTPScope, problem: Problem) -> dict[str, str]:
    match problem:
        case Unauthenticated() | MissingScope():
            return {"WWW-Authenticate": _challenge(problem)}
        case Unavailable():
            return {"Retry-After": str(problem.retry_after_s)}
        case WrongShard():
            query = scope["query_string"].decode("latin-1")
            return {"Location": f"{problem.url}{scope['path']}" + (f"?{query}" if query else "")}
    return {}


def _challenge(problem: Unauthenticated | MissingScope) -> str:
    """RFC 6750, section 3; who sent no token is told no more than that one is needed."""
    told = {"realm": "constellation"}
    if isinstance(problem, MissingScope):
        told |= {"error": "insufficient_scope", "scope": " ".join(problem.scopes)}
    elif problem.error is not None:
        told |= {"error": problem.error, "error_description": problem.detail}
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in told.items())


def _translate(request: AnyRequest, error: HTTPException) -> Problem:
    """The framework's own refusals in our words; all others of them are about a malformed request."""
    match error.status_code:
        case 404:
            return NotFound(f"nothing is at {request.scope['path'][:200]}")
        case 405:
            return MethodNotAllowed(f"{request.scope['method']} is not possible here")
    return Malformed(error.detail)


def _respond(request: AnyRequest, problem: Problem, headers: Mapping[str, str]) -> Response[bytes]:
    media = scope_media(request.scope)
    return Response(
        encode_problem(problem, request.scope["state"]["request_id"], media),
        status_code=problem.status,
        media_type=CONTENT_TYPES[media],
        headers={"Vary": "Accept", **headers},
    )
