"""The application called in this process, without sockets: for states that an outside caller cannot bring about."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from constellation.api.app import create_app
from constellation.api.service import Service
from constellation.codebook import default_codebook
from constellation.config import Settings
from constellation.shard import Shard

NOW = 1_760_000_000.0


class Answered(NamedTuple):
    """A reply."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.content)


class Direct:
    """A service with a clock that stands still, and its application."""

    def __init__(self, **settings: Any) -> None:
        small: dict[str, Any] = {"max_devices": 1_000, "max_patterns": 10_000, "access_log": False}
        chosen = Settings(**(small | settings))
        self.service = Service(chosen, Shard(chosen), default_codebook(), clock=lambda: NOW)
        self.service.open()
        self.app = create_app(self.service)
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answered:
        """JSON, unless `headers` say otherwise and the body is bytes."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.request("POST", path, content, {"content-type": "application/json", **(headers or {})})

    def get(self, path: str) -> Answered:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answered:
        return self._runner.run(self._call(method, path, [_whole(body)], headers or {}, {}))

    def waited(
        self, seconds: float, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        """A request, with a body in JSON, that came so long ago."""
        content = b"" if body is None else msgspec.json.encode(body)
        state = {"arrived_at": time.perf_counter() - seconds}
        named = {"content-type": "application/json", **(headers or {})}
        return self._runner.run(self._call(method, path, [_whole(content)], named, state))

    def request_in_pieces(self, method: str, path: str, messages: list[Any], headers: Mapping[str, str]) -> Answered:
        """A request whose body comes in these messages of ASGI."""
        return self._runner.run(self._call(method, path, messages, headers, {}))

    async def _call(
        self, method: str, target: str, messages: list[Any], headers: Mapping[str, str], state: dict[str, Any]
    ) -> Answered:
        path, _, query = target.partition("?")
        sent: list[Any] = []
        coming = iter(messages)

        async def receive() -> Any:
            return next(coming)

        async def send(message: Any) -> None:
            sent.append(message)

        scope: Any = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "state": state,
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        await self.app(scope, receive, send)
        start, *bodies = sent
        replied = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answered(start["status"], replied, b"".join(message["body"] for message in bodies))


def _whole(body: bytes) -> Any:
    return {"type": "http.request", "body": body, "more_body": False}
