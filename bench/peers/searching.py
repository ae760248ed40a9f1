"""A library or database that searches vectors, on the same ones: run by `environment.run`, in its own environment.

`searching.py NAME DIRECTORY` reads vectors.npy (n, 384) float32 of unit length and queries.npy, builds, asks for the
100 nearest of each query, one at a time on one thread, adds some vectors one at a time, and writes NAME.json.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

K = 100
CONNECTIVITY, EXPANSION_ADD, EXPANSION = 16, 96, 160
INSERTS = 100
ROWS_AT_ONCE = 5_000

Vectors = npt.NDArray[np.float32]


class Peer(NamedTuple):
    """Built over all vectors: numbers of the k nearest of a query; takes in one more under a number."""

    search: Callable[[Vectors], Any]
    add: Callable[[int, Vectors], object]


def usearch(vectors: Vectors, _: Path) -> Peer:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1],
        metric="cos",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION,
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return Peer(lambda query: index.search(query, K, threads=1).keys, lambda i, v: index.add(i, v, threads=1))


def faiss(vectors: Vectors, _: Path) -> Peer:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = EXPANSION_ADD, EXPANSION
    index.add(vectors)
    return Peer(lambda query: index.search(query[None], K)[1][0], lambda i, v: index.add(v[None]))


def hnswlib(vectors: Vectors, _: Path) -> Peer:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors) + INSERTS, ef_construction=EXPANSION_ADD, M=CONNECTIVITY)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)))
    index.set_ef(EXPANSION)
    return Peer(lambda query: index.knn_query(query, K)[0][0], lambda i, v: index.add_items(v[None], [i]))


def lancedb(vectors: Vectors, directory: Path) -> Peer:
    import lancedb
    import pyarrow

    def rows(numbers: Any, some: Vectors) -> Any:
        column = pyarrow.FixedSizeListArray.from_arrays(some.reshape(-1), some.shape[1])
        return pyarrow.table({"id": numbers, "vector": column})

    table = lancedb.connect(str(directory / "lancedb")).create_table("patterns", rows(np.arange(len(vectors)), vectors))
    table.create_index(metric="cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ", m=CONNECTIVITY)

    def search(query: Vectors) -> Any:
        asked = table.search(query).distance_type("cosine").nprobes(20).ef(2 * K).refine_factor(2)
        return asked.limit(K).select(["id"]).to_arrow()["id"].to_numpy()

    return Peer(search, lambda i, v: table.add(rows([i], v[None])))


def chroma(vectors: Vectors, directory: Path) -> Peer:
    import chromadb

    shape = {"space": "cosine", "ef_construction": EXPANSION_ADD, "max_neighbors": CONNECTIVITY, "ef_search": EXPANSION}
    client = chromadb.PersistentClient(str(directory / "chroma"), chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection("patterns", configuration={"hnsw": shape | {"num_threads": 1}})
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        collection.add(ids=[str(start + i) for i in range(len(block))], embeddings=block)

    def search(query: Vectors) -> Any:
        return np.array(collection.query(query_embeddings=query[None], n_results=K, include=[])["ids"][0], np.int64)

    return Peer(search, lambda i, v: collection.add(ids=[str(i)], embeddings=v[None]))


PEERS = {"usearch": usearch, "faiss": faiss, "hnswlib": hnswlib, "lancedb": lancedb, "chroma": chroma}


def main(name: str, directory: Path) -> None:
    vectors, queries = np.load(directory / "vectors.npy"), np.load(directory / "queries.npy")
    began_at = time.perf_counter()
    peer = PEERS[name](vectors, directory)
    built_s = time.perf_counter() - began_at
    for query in queries[: len(queries) // 4]:  # the first queries find nothing warm
        peer.search(query)
    found, search_ms = [], []
    for query in queries:
        began_at = time.perf_counter()
        rows = peer.search(query)
        search_ms.append((time.perf_counter() - began_at) * 1e3)
        found.append([int(row) for row in rows])
    add_ms = []
    for i, query in enumerate(queries[:INSERTS]):
        began_at = time.perf_counter()
        peer.add(len(vectors) + i, query)
        add_ms.append((time.perf_counter() - began_at) * 1e3)
    told = {"built_s": built_s, "found": found, "search_ms": search_ms, "add_ms": add_ms}
    (directory / f"{name}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
