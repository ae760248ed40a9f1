"""`Client` for programs without an event loop: the same TV, on a private loop, one call at a time."""

import asyncio
import ssl
import uuid
from random import Random
from types import TracebackType

import aiohttp
import numpy.typing as npt

from constellation.client.codebooks import Codebooks
from constellation.client.device import Client, SyncReport
from constellation.client.transport import Token, open_session
from constellation.model import Context, PatternBatch, Trend


class SyncClient:
    """A blocking TV; close it, or use it in a `with`. Errors and meanings are those of `Client`."""

    def __init__(
        self,
        url: str,
        device_id: uuid.UUID,
        *,
        rng: Random | None = None,
        compact: bool = False,
        token: Token = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._open(tls))
        codebooks = Codebooks() if compact else None
        self._client = Client(url, device_id, self._session, rng=rng, codebooks=codebooks, token=token)

    async def _open(self, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
        return open_session(tls=tls)

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()

    def learn(
        self,
        embedding: npt.ArrayLike,
        *,
        success_rate: float,
        sample_count: int,
        context: Context,
        pattern_id: uuid.UUID | None = None,
    ) -> uuid.UUID:
        return self._client.learn(
            embedding, success_rate=success_rate, sample_count=sample_count, context=context, pattern_id=pattern_id
        )

    def observe(self, pattern_id: uuid.UUID, *, success_rate: float, samples: int) -> None:
        self._client.observe(pattern_id, success_rate=success_rate, samples=samples)

    def forget(self, pattern_id: uuid.UUID) -> None:
        self._client.forget(pattern_id)

    def sync(self) -> SyncReport:
        return self._runner.run(self._client.sync())

    @property
    def neighbours(self) -> PatternBatch:
        return self._client.neighbours

    @property
    def trending(self) -> list[Trend]:
        return self._client.trending

    @property
    def next_sync_s(self) -> float:
        return self._client.next_sync_s
