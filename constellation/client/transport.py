"""Getting one request answered: HTTP, waiting and trying again. Knows nothing of patterns.

The same bytes are sent until someone answers for good (2xx, or a refusal that trying again cannot change), so that the
shard can tell a repeat. Waits are exponential with full jitter and at least what `Retry-After` asks for.
"""

import asyncio
import contextlib
import email.utils
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from constellation.client.failures import Refused, Unreachable
from constellation.errors import Problem
from constellation.limits import BODY_BYTES_MAX
from constellation.wire.body import decompress

ATTEMPTS_MAX = 6
TIMEOUT_S = 30
BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 60.0
RETRY_AFTER_S_MAX = 900.0
"""A TV asked to wait longer gives up for now; its next sync is due by then anyway."""
REPLY_BYTES_MAX = 4 * BODY_BYTES_MAX

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({307, 308})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

Token = str | Callable[[], str] | None
"""By which a TV shows who it is, or what gets one; called for every request, so that it may be renewed."""


class Answered(NamedTuple):
    """A 2xx: the decompressed body, the bytes that came over the wire, and the attempts it took."""

    body: bytes
    bytes_down: int
    attempts: int


def open_session(connections_max: int = 1, tls: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """A session fit for `Transport`, to be shared by any number of TVs; the caller closes it.

    `tls` for authorities of its own and for a client's certificate; else those that the machine trusts.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=60, ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        auto_decompress=False,
    )


class Transport:
    """Asks one address, and from then on the one that it is sent to. Session, randomness and sleep are the caller's.

    A shard sends a device to the one that has its slot (307). While that one cannot be reached, the first is asked.
    The token goes to the first one and to those of its shard map, and to no other wherever a reply may point.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        token: Token = None,
    ) -> None:
        self._first = self._url = url
        self._token = token
        self._known = {URL(url).origin()}
        """Who may see the token."""
        self._session = session
        self._rng = rng
        self._sleep = sleep

    @property
    def url(self) -> str:
        """What is asked at the moment."""
        return self._url

    async def get(self) -> Answered:
        """As `post`."""
        return await self._send("GET", None, {}, {})

    async def post(
        self, body: bytes, headers: dict[str, str], parameters: Mapping[str, str] = MappingProxyType({})
    ) -> Answered:
        """Send until answered. Raises `Refused`, or `Unreachable` after `ATTEMPTS_MAX` attempts."""
        return await self._send("POST", body, headers, parameters)

    async def _send(
        self, method: str, body: bytes | None, headers: dict[str, str], parameters: Mapping[str, str]
    ) -> Answered:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            wait_s = 0.0
            try:
                response, content = await self._follow(method, body, headers, parameters)
                if 200 <= response.status < 300:
                    # A stranger is not asked again, by whoever goes by this address: it would be shown the token.
                    if self._token is None or response.url.origin() in self._known:
                        self._url = str(response.url.without_query_params(*parameters))
                    return Answered(_plain(response, content), len(content), attempt)
                if response.status not in _TRANSIENT:
                    raise Refused(response.status, _problem(response, content))
                failure = f"status {response.status}"
                wait_s = _retry_after_s(response.headers.get("Retry-After"))
            except (aiohttp.ClientError, TimeoutError, ConnectionError, Problem, ValueError) as error:  # a damaged body
                failure = f"{type(error).__name__} {error}"
                self._url = self._first
            if attempt == ATTEMPTS_MAX or wait_s > RETRY_AFTER_S_MAX:
                break
            backoff_s = min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** (attempt - 1))
            await self._sleep(wait_s + self._rng.random() * backoff_s)
        raise Unreachable(f"{self._first}: {failure} at attempt {attempt}")

    async def _follow(
        self, method: str, body: bytes | None, headers: dict[str, str], parameters: Mapping[str, str]
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """The reply of the one that redirects lead to, or the last redirect there is patience for."""
        url = URL(self._url).update_query(parameters)
        for _ in range(REDIRECTS_MAX + 1):
            async with self._session.request(
                method, url, data=body, headers={**headers, **self._credentials(url)}, allow_redirects=False
            ) as response:
                content = await response.read()
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                break
            asked, url = url, url.join(URL(response.headers["Location"]))
            if self._token is not None and asked.origin() in self._known and url.origin() not in self._known:
                await self._read_map(asked)
        return response, content

    def _credentials(self, url: URL) -> dict[str, str]:
        if self._token is None or url.origin() not in self._known:
            return {}
        return {"Authorization": f"Bearer {self._token if isinstance(self._token, str) else self._token()}"}

    async def _read_map(self, asked: URL) -> None:
        """The shards that a known one knows may see the token too."""
        url = asked.origin() / "api/v1/shards"
        async with self._session.get(url, headers=self._credentials(url), allow_redirects=False) as response:
            content = await response.read()
        if response.status == 200:
            with contextlib.suppress(Problem, msgspec.MsgspecError, ValueError):
                shards = msgspec.json.decode(_plain(response, content), type=_Shards).shards
                self._known |= {URL(shard.url).origin() for shard in shards}


class _Shard(msgspec.Struct):
    url: str


class _Shards(msgspec.Struct):
    """What is read of `GET /api/v1/shards`."""

    shards: list[_Shard]


def _plain(response: aiohttp.ClientResponse, content: bytes) -> bytes:
    return decompress(content, response.headers.get("Content-Encoding", "identity"), REPLY_BYTES_MAX)


def _problem(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    """The fields of a problem reply, or what a proxy in between said."""
    try:
        body = _plain(response, content)
        decode = msgspec.msgpack.decode if "msgpack" in response.content_type else msgspec.json.decode
        fields: dict[str, Any] = decode(body, type=dict[str, Any])
        return fields
    except (Problem, msgspec.MsgspecError, RecursionError):  # a stranger's error page
        return {"detail": content[:200].decode("utf-8", "replace")}


def _retry_after_s(header: str | None) -> float:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3: seconds or a date); 0 if there is none to read."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(int(header)))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0
