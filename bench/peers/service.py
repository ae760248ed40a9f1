"""What most teams would write: FastAPI, asyncpg, pgvector's HNSW. The same sync: store, 100 nearest, 50 trends.

An application for uvicorn, in an environment of its own, over a database whose schema and index are made beforehand
(`bench.peers.syncing`); `DATABASE_URL` names it. JSON as the REST contract has it, replies with embeddings as floats.
A delta is applied in one transaction; a search is for the mean of the device's patterns, weighted as ours weighs them.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import numpy.typing as npt
from fastapi import FastAPI
from pydantic import BaseModel, Field

POOL = 16
SIMILAR, TRENDING = 100, 50
QUALITY_MIN, SERVED_MIN = 0.7, 0.8

Vector = npt.NDArray[np.float32]


class Context(BaseModel):
    time_of_day: str = Field(max_length=32)
    day_of_week: str = Field(max_length=32)
    content_type: str = Field(max_length=32)
    genre_hints: list[str] = Field(max_length=8)


class Pattern(BaseModel):
    id: UUID
    embedding: list[float] = Field(min_length=384, max_length=384)
    success_rate: float = Field(ge=0, le=1)
    sample_count: int = Field(ge=1, le=1_000_000)
    context: Context
    created_at: int
    updated_at: int


class Update(BaseModel):
    id: UUID
    new_success_rate: float = Field(ge=0, le=1)
    additional_samples: int = Field(ge=1, le=1_000_000)


class Delta(BaseModel):
    patterns_added: list[Pattern] = Field(max_length=100)
    patterns_updated: list[Update] = Field(max_length=1_000)
    patterns_removed: list[UUID] = Field(max_length=1_000)
    local_version: int | None = None
    sequence: int | None = None


class Sync(BaseModel):
    device_id: UUID
    delta: Delta


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=POOL, max_size=POOL, init=_prepare) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/api/v1/sync")
async def sync(body: Sync) -> dict[str, Any]:
    async with app.state.pool.acquire() as connection:
        async with connection.transaction():
            accepted, version = await _take(connection, body)
        similar = await _similar(connection, body.device_id)
        trending = await connection.fetch(
            "SELECT content_id, samples AS trending_score FROM trends ORDER BY samples DESC LIMIT $1", TRENDING
        )
    return {
        "global": {
            "similar": similar,
            "trending": [{**trend, "region": "local"} for trend in trending],
            "global_version": version,
        },
        "accepted": accepted,
    }


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec("vector", schema="public", encoder=_encode, decoder=_decode, format="binary")


async def _take(connection: Any, body: Sync) -> tuple[dict[str, int], int]:
    """Apply the delta; how many of each there were, and the version after it."""
    delta, device = body.delta, body.device_id
    kept = [pattern for pattern in delta.patterns_added if pattern.success_rate >= QUALITY_MIN]
    await connection.executemany(_INSERT, [_row(device, pattern) for pattern in kept])
    updates = [(device, each.id, each.new_success_rate, each.additional_samples) for each in delta.patterns_updated]
    await connection.executemany(_UPDATE, updates)
    await connection.execute(
        "DELETE FROM patterns WHERE device_id = $1 AND id = ANY($2)", device, delta.patterns_removed
    )
    watched = [(f"genre:{hint}", pattern.sample_count) for pattern in kept for hint in pattern.context.genre_hints[:1]]
    await connection.executemany(_WATCHED, sorted(watched))
    version = await connection.fetchval("SELECT nextval('versions')")
    return {"added": len(kept), "updated": len(updates), "removed": len(delta.patterns_removed)}, version


async def _similar(connection: Any, device: UUID) -> list[dict[str, Any]]:
    """Served patterns of other devices, nearest to the weighted mean of the device's own."""
    own = await connection.fetch(
        "SELECT embedding, success_rate * least(sample_count, 1000) AS weight FROM patterns WHERE device_id = $1",
        device,
    )
    if not own:
        return []
    vectors, weights = np.stack([row["embedding"] for row in own]), np.array([row["weight"] for row in own])
    mean = (weights[:, None] * vectors).sum(axis=0)
    found = await connection.fetch(_NEAREST, mean / np.linalg.norm(mean), device, SERVED_MIN, SIMILAR)
    return [{**row, "embedding": row["embedding"].tolist(), "context": _context(row["context"])} for row in found]


def _context(text: str) -> Any:
    return Context.model_validate_json(text)


def _row(device: UUID, pattern: Pattern) -> tuple[object, ...]:
    embedding = np.array(pattern.embedding, np.float32)
    context = pattern.context.model_dump_json()
    measured = pattern.success_rate, pattern.sample_count
    return device, pattern.id, embedding, *measured, context, pattern.created_at, pattern.updated_at


def _encode(vector: Vector) -> bytes:
    return len(vector).to_bytes(2, "big") + bytes(2) + vector.astype(">f4").tobytes()


def _decode(encoded: bytes) -> Vector:
    return np.frombuffer(encoded, ">f4", offset=4).astype(np.float32)


_INSERT = """
INSERT INTO patterns (device_id, id, embedding, success_rate, sample_count, context, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (device_id, id) DO UPDATE SET embedding = excluded.embedding, success_rate = excluded.success_rate,
    sample_count = excluded.sample_count, context = excluded.context, updated_at = excluded.updated_at"""
_UPDATE = """
UPDATE patterns SET success_rate = (success_rate * sample_count + $3::float8 * $4::int) / (sample_count + $4::int),
    sample_count = least(sample_count + $4::int, 1000000)
WHERE device_id = $1 AND id = $2"""
_WATCHED = """
INSERT INTO trends (content_id, samples) VALUES ($1, $2)
ON CONFLICT (content_id) DO UPDATE SET samples = trends.samples + excluded.samples"""
_NEAREST = """
SELECT id, embedding, success_rate, sample_count, context, created_at, updated_at FROM patterns
WHERE device_id <> $2 AND success_rate >= $3 ORDER BY embedding <=> $1 LIMIT $4"""
