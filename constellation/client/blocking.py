"""`Client` for programs without an event loop: the same TV, on a private loop, one call at a time."""

import asyncio
import uuid
from random import Random
from types import TracebackType

import numpy.typing as npt

from constellation.client.codebooks import Codebooks
from constellation.client.device import Client, SyncReport
from constellation.client.transport import open_session
from constellation.model import Context, PatternBatch, Trend


class SyncClient:
    """A blocking TV; close it, or use it in a `with`. Errors and meanings are those of `Client`."""

    def __init__(self, url: str, device_id: uuid.UUID, *, rng: Random | None = None, compact: bool = False) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._open(url, device_id, rng, compact))

    async def _open(self, url: str, device_id: uuid.UUID, rng: Random | None, compact: bool) -> Client:
        self._session = open_session()
        return Client(url, device_id, self._session, rng=rng, codebooks=Codebooks() if compact else None)

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
