"""The one call that TVs make all day, past the framework, whose routing, requests and injection a sync does not need.

What a sync is says `api.sync`, who may make one `api.access`, what becomes of an error `api.problems`: all as for the
framework's handler, which describes it. Whatever is not exactly this call goes on to the framework.
"""

from typing import cast

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from constellation.api.access import ACCESS, caller_of
from constellation.api.edge import SYNC_PATH, is_sync
from constellation.api.problems import told
from constellation.api.service import Service
from constellation.api.sync import answered


class Shortcut:
    """An ASGI application around the framework's, behind the gate."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._allowed = ACCESS[f"POST {SYNC_PATH}"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = cast(HTTPScope, scope)
        if not is_sync(http["method"], http["path"]):
            return await self._app(scope, receive, send)
        http["path_template"] = SYNC_PATH
        try:
            caller_of(http).require(self._allowed)
            made = await answered(self._service, http, receive)
        except Exception as error:
            made = told(self._service, http, error)
        await made(scope, receive, send)
