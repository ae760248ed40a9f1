"""Bodies of syncs as plain data, to be broken in one place by a test."""

import base64
import uuid
from typing import Any

import numpy as np

from constellation.model import DIM

Json = dict[str, Any]


def new_id() -> str:
    return str(uuid.uuid4())


def embedding(seed: int = 0) -> list[float]:
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return [round(float(value), 6) for value in vector / np.linalg.norm(vector)]


def base64_embedding(seed: int = 0) -> str:
    return base64.b64encode(np.array(embedding(seed), "<f4").tobytes()).decode()


def pattern(**changes: Any) -> Json:
    whole: Json = {
        "id": new_id(),
        "embedding": embedding(),
        "success_rate": 0.91,
        "sample_count": 42,
        "context": {
            "time_of_day": "evening",
            "day_of_week": "weekend",
            "content_type": "movie",
            "genre_hints": ["thriller"],
        },
        "created_at": 1_760_000_000,
        "updated_at": 1_760_000_000,
    }
    return whole | changes


def delta(*added: Json, **changes: Any) -> Json:
    return {"patterns_added": list(added), "patterns_updated": [], "patterns_removed": []} | changes


def body(*added: Json, device_id: str | None = None, **changes: Any) -> Json:
    return {"device_id": device_id or new_id(), "delta": delta(*added, **changes)}


def content(content_id: str = "tt0078748", **changes: Any) -> Json:
    whole: Json = {
        "content_id": content_id,
        "title": "Alien",
        "embedding": embedding(7),
        "metadata": {"genre": "horror", "year": 1979, "duration_min": 117},
    }
    return whole | changes
