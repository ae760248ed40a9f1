"""Every error as a reply, in this one place: problem+json (RFC 9457), or the same fields in msgpack.

What nobody expected becomes a 500 `internal` that tells the client its request id and nothing else; the traceback
goes to the log under that id.
"""

import logging
from collections.abc import Mapping
from typing import cast

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

_REALM = 'Bearer realm="constellation"'

_log = logging.getLogger(__name__)


def exception_handlers(service: Service) -> ExceptionHandlersMap:
    """The handlers to install."""

    def on_framework(request: AnyRequest, error: HTTPException) -> Reply:
        problem = _translate(request, error)
        service.metrics.problem(problem.code)
        # A 405 says which methods there are (RFC 9110, section 15.5.6).
        return _refusal(request.scope, problem, {name.title(): value for name, value in (error.headers or {}).items()})

    def on_error(request: AnyRequest, error: Exception) -> Reply:
        return told(service, request.scope, error)

    # The framework's type asks for its own responses, of which it uses one method.
    return cast(ExceptionHandlersMap, {HTTPException: on_framework, Exception: on_error})


def told(service: Service, scope: HTTPScope, error: Exception) -> Reply:
    """The reply to an error; each refusal is counted by its code."""
    problem = error if isinstance(error, Problem) else _unexpected(service, scope, error)
    service.metrics.problem(problem.code)
    return _refusal(scope, problem, _headers(scope, problem))


def _unexpected(service: Service, scope: HTTPScope, error: Exception) -> Problem:
    account: Account = scope["state"]["account"]
    _log.error("unexpected error", exc_info=error, extra=account.told(service))
    return Problem("an unexpected error; the log has it under this request id")


def _refusal(scope: HTTPScope, problem: Problem, headers: Mapping[str, str]) -> Reply:
    media = scope_media(scope)
    body = encode_problem(problem, scope["state"]["request_id"], media)
    return Reply(body, CONTENT_TYPES[media], {"Vary": "Accept", **headers}, problem.status)


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
    if isinstance(problem, MissingScope):
        return f'{_REALM}, error="insufficient_scope", scope="{" ".join(problem.scopes)}"'
    if problem.error is not None:
        return f'{_REALM}, error="{problem.error}", error_description="{problem.detail}"'
    return _REALM


def _translate(request: AnyRequest, error: HTTPException) -> Problem:
    """The framework's own refusals in our words; all others of them are about a malformed request."""
    match error.status_code:
        case 404:
            return NotFound(f"nothing is at {request.scope['path'][:200]}")
        case 405:
            return MethodNotAllowed(f"{request.scope['method']} is not possible here")
    return Malformed(error.detail)
