"""Who may call what: the table of calls and scopes, and the gate that every request passes before it is routed.

The gate finds out who is calling; whoever it does not know hears nothing else, not even that an address is wrong. Then
the framework finds the handler, and `authorize` holds the caller against the handler's row. A call without a row is
not served: `permissions` fails at start.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from constellation.api.problems import told
from constellation.api.replies import AnyRequest
from constellation.api.service import Service
from constellation.errors import Problem
from constellation.identity import ADMIN, CONTENT, DEVICE, METRICS, Allowed, Caller

OPEN: Allowed = frozenset()
"""No token is needed."""
ANY: Allowed = frozenset((DEVICE, CONTENT, ADMIN, METRICS))
OBJECTION = "objection"
"""In a request's state: the problem that it is refused with once it is known whose it is."""

ACCESS: dict[str, Allowed] = {
    "POST /api/v1/sync": frozenset((DEVICE,)),
    "GET /api/v1/sync/version": frozenset((DEVICE, ADMIN)),
    "GET /api/v1/trending": frozenset((DEVICE, CONTENT, ADMIN)),
    "POST /api/v1/content": frozenset((CONTENT,)),
    "GET /api/v1/content/{content_id}": frozenset((DEVICE, CONTENT, ADMIN)),
    "DELETE /api/v1/devices/{device_id}": frozenset((DEVICE, ADMIN)),
    "GET /api/v1/codebook/{version}": frozenset((DEVICE, ADMIN)),
    "GET /api/v1/sample": frozenset((ADMIN,)),
    "GET /api/v1/dictionary/{id}": frozenset((DEVICE, ADMIN)),
    "GET /api/v1/stats": frozenset((ADMIN, METRICS)),
    "GET /api/v1/shards": frozenset((DEVICE, ADMIN, METRICS)),
    "GET /api/v1/info": ANY,
    "GET /api/v1/live": frozenset((ADMIN, METRICS)),
    "GET /": OPEN,
    "GET /page/{name}": OPEN,
    "GET /health": OPEN,
    "GET /health/live": OPEN,
    "GET /health/ready": OPEN,
    "GET /health/detailed": frozenset((ADMIN, METRICS)),
    "GET /metrics": frozenset((ADMIN, METRICS)),
    "GET /schema": ANY,
    "GET /schema/openapi.json": ANY,
}
"""Call -> the scopes of which it needs one. That a sync is of the caller's own device, and that a device forgets
itself alone, is checked where the device is known. docs/identity.md shows the same table."""


_OPEN_CALLS = frozenset(call for call, allowed in ACCESS.items() if allowed is OPEN)
_OPEN_BELOW = tuple(call.partition("{")[0] for call in _OPEN_CALLS if "{" in call)


class Gate:
    """An ASGI application around the framework's."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = cast(HTTPScope, scope)
        identity, state = self._service.identity, http["state"]
        try:
            if not (identity.required and _is_open(f"{http['method']} {http['path']}")):
                state["caller"] = identity.authenticate(http["headers"])
            if OBJECTION in state:
                raise state[OBJECTION]
        except Problem as problem:
            return await told(self._service, http, problem)(scope, receive, send)
        await self._app(scope, receive, send)


def _is_open(call: str) -> bool:
    """Also of an address that is not there, below one that is open: as anybody could find out."""
    return call in _OPEN_CALLS or call.startswith(_OPEN_BELOW)


def caller_of(scope: HTTPScope) -> Caller:
    """Whom the gate let in; not for open calls."""
    caller: Caller = scope["state"]["caller"]
    return caller


def authorizer(allowed: dict[tuple[str, str], Allowed]) -> Callable[[AnyRequest], Awaitable[None]]:
    """What the framework calls before each handler. `allowed` is filled when the routes are known."""

    async def authorize(request: AnyRequest) -> None:
        scope = request.scope
        needed = allowed[scope["path_template"], scope["method"]]
        if needed is not OPEN:
            caller_of(scope).require(needed)

    return authorize


def permissions(routes: Iterable[object]) -> dict[tuple[str, str], Allowed]:
    """The row of each path and method. Raises KeyError for a handler without one."""
    found: dict[tuple[str, str], Allowed] = {}
    for route in routes:
        assert isinstance(route, HTTPRoute)
        for method in route.methods:
            # Which methods there are, everybody may know who is known at all.
            found[route.path_format, method] = ANY if method == "OPTIONS" else ACCESS[f"{method} {route.path_format}"]
    return found
