"""The OpenAPI 3.1 document and its viewer: `GET /schema/openapi.json`, `GET /schema`.

Paths and methods are read off the application, the rest off each handler's `Operation`, schemas off the structs. A
handler without an operation fails here, at start: nothing is served that is not described.
"""

from collections.abc import Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from constellation import __version__
from constellation.api.access import ACCESS, OPEN
from constellation.api.operations import Operation, Parameter, described
from constellation.api.parameters import IF_NONE_MATCH
from constellation.api.replies import AnyRequest, Reply
from constellation.api.schemas import ProblemBody
from constellation.errors import Forbidden, Problem, Unauthenticated, Unavailable
from constellation.identity import Allowed
from constellation.wire.media import Media
from constellation.wire.problems import CONTENT_TYPES

_REF = "#/components/schemas/{name}"
_MEDIA_TYPES = [media.value for media in Media]
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "the request's own, or one made for it; the log has it",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    },
    "Vary": {"description": "request headers that choose the form of the reply", "schema": {"type": "string"}},
    "Content-Encoding": {
        "description": "zstd when `Accept-Encoding` lists it, with the dictionary of the request or none",
        "schema": {"const": "zstd"},
    },
    "Cache-Control": {"description": "how long it may be kept", "schema": {"type": "string"}},
    "ETag": {"description": "the checksum of the bytes", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "as in RFC 6750, section 3", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds to wait", "required": True, "schema": {"type": "integer", "minimum": 1}},
}


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "EdDSA; `sub` is the device, `aud` the fleet, `scope` lists what it may (docs/identity.md)",
}


@get(
    "/schema/openapi.json",
    opt=described(
        tag="schema",
        summary="This document",
        reply="application/vnd.oai.openapi+json",
        reply_text="OpenAPI 3.1.",
        headers=(),
    ),
)
async def document(request: AnyRequest) -> Reply:
    return Reply(request.app.state["document"], "application/vnd.oai.openapi+json")


@get(
    "/schema",
    opt=described(
        tag="schema",
        summary="This document, for people",
        reply="text/html",
        reply_text="A page that loads nothing from elsewhere.",
        headers=(),
    ),
)
async def viewer() -> Reply:
    return Reply(_VIEWER, "text/html; charset=utf-8", {"Content-Security-Policy": _ONLY_OURS})


_VIEWER = files(__package__).joinpath("viewer.html").read_bytes()
_ONLY_OURS = "default-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def build(app: Litestar, needs_token: bool) -> bytes:
    """The document of an application's routes, encoded once. Raises KeyError for a handler that is not described."""
    operations = {(path, method): operation for path, method, operation in _operations(app.routes)}
    types = {type_ for operation in operations.values() for type_ in (operation.body, operation.reply)}
    structs = sorted((type_ for type_ in types if isinstance(type_, type)), key=lambda type_: type_.__name__)
    _, components = msgspec.json.schema_components([*structs, ProblemBody], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in operations.items():
        allowed = ACCESS[f"{method.upper()} {path}"] if needs_token else OPEN
        paths.setdefault(path, {})[method] = _describe(
            path, method, operation, allowed, _refusals(needs_token, allowed)
        )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Constellation",
                "version": __version__,
                "description": "TVs learn viewing patterns on the device; a shard lets them learn from each other.",
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {"schemas": components, "headers": _HEADERS, "securitySchemes": {"token": _TOKEN}},
        }
    )


def _operations(routes: Iterable[object]) -> Iterable[tuple[str, str, Operation]]:
    for route in routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                yield route.path_format, method.lower(), _operation(handler)


def _operation(handler: HTTPRouteHandler) -> Operation:
    operation: Operation = handler.opt["operation"]
    return operation


def _refusals(needs_token: bool, allowed: Allowed) -> tuple[type[Problem], ...]:
    """What the gate may refuse with: without keys it does so with what a proxy passed on."""
    if not needs_token:
        return (Forbidden,)
    return (Unauthenticated, Forbidden) if allowed else ()


def _describe(
    path: str, method: str, operation: Operation, allowed: Allowed, refusals: tuple[type[Problem], ...]
) -> dict[str, Any]:
    described_: dict[str, Any] = {
        "operationId": f"{method}_{path.strip('/').translate(str.maketrans('/{}.', '____'))}",
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_parameter(parameter) for parameter in _parameters(operation)],
        "responses": {str(operation.status): _success(operation)} | _problems((*operation.problems, *refusals)),
        # One of the scopes is enough.
        "security": [{"token": [scope]} for scope in sorted(allowed)],
    }
    if operation.body is not None:
        described_["requestBody"] = {"required": True, "content": _content(operation.body, _REQUEST_TYPES)}
    if operation.immutable:
        described_["responses"]["304"] = {"description": "It is there already.", "headers": _headers(*_KEPT)}
    return described_


_KEPT = ("X-Request-Id", "Cache-Control", "ETag")
_REQUEST_TYPES = ["application/json", "application/msgpack", "application/x-msgpack"]


def _parameters(operation: Operation) -> tuple[Parameter, ...]:
    return (*operation.parameters, IF_NONE_MATCH) if operation.immutable else operation.parameters


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _success(operation: Operation) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": operation.reply_text,
        "headers": _headers(*(_KEPT if operation.immutable else ("X-Request-Id", *operation.headers))),
    }
    if isinstance(operation.reply, str):
        response["content"] = {operation.reply: {}}
    elif operation.reply is not None:
        response["content"] = _content(operation.reply, _MEDIA_TYPES)
    return response


def _problems(problems: Iterable[type[Problem]]) -> dict[str, Any]:
    """One response for each status, naming the codes that it may carry."""
    by_status: dict[int, list[type[Problem]]] = {Problem.status: [Problem]}
    for problem in dict.fromkeys(problems):
        by_status.setdefault(problem.status, []).append(problem)
    return {str(status): _problem(status, group) for status, group in sorted(by_status.items())}


def _problem(status: int, problems: list[type[Problem]]) -> dict[str, Any]:
    codes = [problem.code for problem in problems]
    texts = [f"`{problem.code}`: {_first_line(problem)}" for problem in problems]
    narrowed = {"allOf": [{"$ref": _REF.format(name="ProblemBody")}, {"properties": {"code": {"enum": codes}}}]}
    retry = ["Retry-After"] if any(issubclass(problem, Unavailable) for problem in problems) else []
    retry += ["WWW-Authenticate"] if Unauthenticated in problems else []
    return {
        "description": f"{HTTPStatus(status).phrase}. " + " ".join(texts),
        "headers": _headers("X-Request-Id", "Vary", *retry),
        "content": {media_type: {"schema": narrowed} for media_type in CONTENT_TYPES.values()},
    }


def _first_line(problem: type[Problem]) -> str:
    if problem is Problem:
        return "A fault of the service; the log has the request id."
    return " ".join((problem.__doc__ or problem.code).split())


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _content(type_: Any, media_types: Iterable[str]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=type_.__name__)}
    return {media_type: {"schema": schema} for media_type in media_types}
