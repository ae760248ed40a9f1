"""Libraries and databases that search vectors, beside the shard's index: same vectors and questions, one thread."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import workload
from bench.peers import NotInstalled, environment
from bench.peers.exact import ExactScan, Rows, recall, time_scan
from bench.plan import Answers, Note, Plan, Timings
from bench.report import Row, Yardstick
from constellation.model import Codes
from constellation.shard.similarity import SimilarityIndex
from kernels.codes import inverse_norms

K = 100
LIBRARIES = {"usearch": "search", "faiss": "search", "hnswlib": "search", "lancedb": "lancedb", "chroma": "chroma"}
"""Name -> its environment."""


class Found(NamedTuple):
    """What one of them told: mean recall; milliseconds to build, a vector, to search and to add one."""

    recall: float
    build_ms: float
    search: Timings
    add: Timings


def measure(plan: Plan) -> Answers:
    rng = plan.rng("libraries")
    part = workload.load_library(plan.patterns, plan.seed).known
    codes = part.patterns(part.draw(plan.patterns, rng), rng)
    queries = part.patterns(part.draw(plan.queries, rng), rng)
    exact = ExactScan(codes)
    truths = exact.top(queries, K)
    ours = _ours(codes, queries, truths)
    scan = time_scan(exact, queries, K)
    yield Row(name="exact NumPy scan: search, p50", value=scan.value, unit="ms", quality="recall@100 1")
    yield from _rows("Constellation's index", ours, None)
    with tempfile.TemporaryDirectory() as directory:
        np.save(Path(directory, "vectors.npy"), exact.vectors)
        np.save(Path(directory, "queries.npy"), ExactScan(queries).vectors)
        for name, where in LIBRARIES.items():
            try:
                environment.run(environment.install(where), "searching.py", name, directory)
                yield from _rows(name, _told(Path(directory, f"{name}.json"), truths, plan.patterns), ours)
            except NotInstalled as why:
                yield Note(f"{name} is not measured: {why}")
    yield Note("graphs: 16 neighbours, expansion 96 to build, 160 to search; float32; LanceDB 8-bit scalars, rescored")
    yield Note(
        "added one by one: Constellation with all its upkeep; LanceDB appends to a table and searches what is new"
    )


def _ours(codes: Codes, queries: Codes, truths: Rows) -> Found:
    both = np.concatenate((codes, queries))
    index, building, searching, adding = SimilarityIndex(both, inverse_norms(both)), Timings(), Timings(), Timings()

    def add(row: int) -> None:
        index.add(row)
        while index.settle():
            pass

    for row in range(len(codes)):
        building.measure(add, row)
    for query in queries[: len(queries) // 4]:
        index.search(query, K)
    found = [searching.measure(index.search, query, K)[0].astype(np.int64) for query in queries]
    for row in range(len(codes), len(both)):
        adding.measure(add, row)
    return Found(_recall(found, truths), building.mean, searching, adding)


def _told(path: Path, truths: Rows, count: int) -> Found:
    told = json.loads(path.read_text())
    searching, adding = Timings(), Timings()
    searching.ms, adding.ms = told["search_ms"], told["add_ms"]
    found = [np.array(rows) for rows in told["found"]]
    return Found(_recall(found, truths), told["built_s"] * 1e3 / count, searching, adding)


def _recall(found: list[Rows], truths: Rows) -> float:
    return float(np.mean([recall(rows, truth) for rows, truth in zip(found, truths, strict=True)]))


def _rows(who: str, found: Found, ours: Found | None) -> Answers:
    quality = f"recall@{K} {found.recall:.3f}, p99 {found.search.p99:.2f} ms"
    for what, ms, of_ours, told in (
        ("search, p50", found.search.p50, ours and ours.search.p50, quality),
        ("build, a vector", found.build_ms, ours and ours.build_ms, ""),
        ("add one, mean", found.add.mean, ours and ours.add.mean, f"p99 {found.add.p99:.2f} ms"),
    ):
        beside = Yardstick("Constellation's index", of_ours) if of_ours else None
        yield Row(name=f"{who}: {what}", value=ms, unit="ms", quality=told or "one thread", yardstick=beside)
