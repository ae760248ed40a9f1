"""The catalogue: 3,200 real films with their MiniLM embeddings, most voted first, for the fleet, tests and benchmarks.

`films.npz` beside this file was made by `make.py`; LICENSE says from what. Read-only and the same for every reader: a
film is a row number. The service itself never reads it: content comes to a shard by `POST /api/v1/content`.
"""

import functools
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.model import Codes

_FILE = Path(__file__).with_name("films.npz")


class Catalogue(msgspec.Struct, frozen=True):
    """n films as columns, all read-only.

    codes (n, 384) int8; votes (n,) int32, how many people rated the film, 0 where unknown: its popularity; ratings
    (n,) float32, 0..10 or NaN; durations_min (n,) int16 or 0; genres 'Thriller|Suspense' or ''; directors or ''.
    """

    codes: Codes
    content_ids: tuple[str, ...]
    titles: tuple[str, ...]
    years: npt.NDArray[np.int16]
    genres: tuple[str, ...]
    directors: tuple[str, ...]
    votes: npt.NDArray[np.int32]
    ratings: npt.NDArray[np.float32]
    durations_min: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.codes)

    def vectors(self) -> npt.NDArray[np.float32]:
        """(n, 384) float32 unit vectors, computed at each call."""
        vectors = self.codes.astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


@functools.cache
def load() -> Catalogue:
    """The shipped catalogue, read once a process (about 30 ms)."""
    with np.load(_FILE, allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    for column in columns.values():
        column.setflags(write=False)
    return Catalogue(
        codes=columns["codes"],
        content_ids=tuple(columns["content_id"].tolist()),
        titles=tuple(columns["title"].tolist()),
        years=columns["year"],
        genres=tuple(columns["genres"].tolist()),
        directors=tuple(columns["director"].tolist()),
        votes=columns["votes"],
        ratings=columns["rating"],
        durations_min=columns["duration_min"],
    )
