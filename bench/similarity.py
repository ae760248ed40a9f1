"""How well and how fast are the 100 patterns nearest to one interest found?

Queries are new patterns of films that stored patterns are made of (A), and of films that nobody has stored (B). Asked
of the shard's index when fresh and again after every pattern was replaced, and of its peers on the same data.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench import workload
from bench.peers import NotInstalled
from bench.peers.exact import ExactScan, Rows, recall, time_scan
from bench.peers.hnsw import ROWS_AT_ONCE, GraphIndex
from bench.peers.pgvector import open_database
from bench.plan import Answers, Note, Plan, Timings, tracked
from bench.report import Row, Target, Yardstick, at_least, at_most
from constellation.model import DIM, Codes
from constellation.shard import memory
from constellation.shard.similarity import SimilarityIndex
from kernels.codes import inverse_norms

K = 100
RECALL_MIN = {"A": 0.96, "B": 0.92}
P50_MS_MAX = 0.4
P99_MS_MAX = 1.0
CHANGE_MS_MAX = 0.2
INSERTS = 100
CHURNED_GRAPH_MAX = 20_000
"""Replacing every vector of a graph takes minutes above this: it is done to a smaller one."""

Search = Callable[[npt.NDArray[np.int8]], Rows]


class Data(NamedTuple):
    """Two generations of n patterns, and queries by kind."""

    first: Codes
    second: Codes
    queries: dict[str, Codes]


class Asked(NamedTuple):
    """How one kind of query went."""

    recall: float
    timings: Timings


def measure(plan: Plan) -> Answers:
    data = _make_data(plan)
    exact = ExactScan(data.first)
    truths = _truths(exact, data)
    scan = time_scan(exact, data.queries["A"], K)
    yield Note("A: new patterns of films that stored ones are made of; B: of films that no stored pattern is made of")
    yield Row(name="exact NumPy scan, p50", value=scan.value, unit="ms", quality="recall 1")
    yield from _measure_ours(data, truths, scan, plan.rng("churn"))
    if plan.peers:
        yield from _measure_graph(data, truths, scan)
        yield from _measure_database(data, exact, truths, scan)


def _make_data(plan: Plan) -> Data:
    rng = plan.rng("similarity")
    library = workload.load_library(plan.patterns, plan.seed)
    known, unseen = library.known, library.unseen
    return Data(
        first=known.patterns(known.draw(plan.patterns, rng), rng),
        second=known.patterns(known.draw(plan.patterns, rng), rng),
        queries={
            "A": known.patterns(known.draw(plan.queries, rng), rng),
            "B": unseen.patterns(unseen.draw(plan.queries, rng), rng),
        },
    )


def _truths(exact: ExactScan, data: Data) -> dict[str, Rows]:
    return {kind: exact.top(queries, K) for kind, queries in data.queries.items()}


def _measure_ours(data: Data, truths: dict[str, Rows], scan: Yardstick, rng: np.random.Generator) -> Answers:
    column = _Column(len(data.first))
    added = column.fill(data.first, np.arange(len(data.first)), "adding")
    yield from _judged_rows("ours", _ask(column.search, data, truths), scan)
    yield _change_row("ours: add one", added, scan)
    replaced = column.fill(data.second, rng.permutation(len(data.second)), "replacing")
    truths = _truths(ExactScan(data.second), data)
    yield from _judged_rows("ours, 100% replaced", _ask(column.search, data, truths), scan)
    yield _change_row("ours: replace one", replaced, scan)


class _Column:
    """A code column with the shard's index over it, changed as the shard changes it."""

    def __init__(self, rows: int) -> None:
        self._codes = memory.column(rows, np.int8, DIM)
        self._inverse = memory.column(rows, np.float32)
        self._index = SimilarityIndex(self._codes, self._inverse)

    def search(self, query: npt.NDArray[np.int8]) -> Rows:
        return self._index.search(query, K)[0].astype(np.int64)

    def fill(self, codes: Codes, rows: Rows, what: str) -> Timings:
        """Write each row, replacing what is there; upkeep is done as it falls due, and counted."""
        inverse = inverse_norms(codes)
        timings = Timings()
        for row in tracked(rows.tolist(), what):
            timings.measure(self._write, row, codes[row], inverse[row])
        return timings

    def _write(self, row: int, code: npt.NDArray[np.int8], inverse: float) -> None:
        if row in self._index:
            self._index.remove(row)
        self._codes[row] = code
        self._inverse[row] = inverse
        self._index.add(row)
        while self._index.settle():
            pass


def _measure_graph(data: Data, truths: dict[str, Rows], scan: Yardstick) -> Answers:
    codes = data.first.copy()
    graph = GraphIndex(codes)
    added = Timings()
    for start in tracked(range(0, len(codes), ROWS_AT_ONCE), "usearch: adding"):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(codes)))
        added.measure(graph.add, rows)
    yield from _peer_rows("usearch HNSW", _ask(lambda query: graph.search(query, K), data, truths), scan)
    yield _peer_change_row("usearch HNSW: add one", sum(added.ms) / len(codes), scan)
    yield from _churn_graph(data, scan)


def _churn_graph(data: Data, scan: Yardstick) -> Answers:
    first, second = data.first[:CHURNED_GRAPH_MAX].copy(), data.second[:CHURNED_GRAPH_MAX]
    truths = {generation: _truths(ExactScan(of), data) for generation, of in enumerate((first, second))}
    graph = GraphIndex(first)
    for start in range(0, len(first), ROWS_AT_ONCE):
        graph.add(np.arange(start, min(start + ROWS_AT_ONCE, len(first))))
    fresh = _ask(lambda query: graph.search(query, K), data, truths[0])
    replaced = Timings()
    for row in tracked(range(len(first)), "usearch: replacing"):
        replaced.measure(graph.replace, row, second[row])
    churned = _ask(lambda query: graph.search(query, K), data, truths[1])
    yield from _peer_rows("usearch HNSW, 100% replaced", churned, scan)
    yield _peer_change_row("usearch HNSW: replace one", replaced.mean, scan)
    were = ", ".join(f"{kind} {asked.recall:.3f}" for kind, asked in fresh.items())
    yield Note(f"usearch was churned with {len(first):,} vectors; fresh, its recall was {were}")


def _measure_database(data: Data, exact: ExactScan, truths: dict[str, Rows], scan: Yardstick) -> Answers:
    try:
        with open_database() as database:
            database.load(exact.vectors)
            built = Timings()
            built.measure(database.build)
            yield from _peer_rows("pgvector HNSW", _ask(lambda query: database.search(query, K), data, truths), scan)
            yield _peer_change_row("pgvector HNSW: build, per vector", built.ms[0] / len(data.first), scan)
            inserted = Timings()
            for row in range(min(INSERTS, len(data.second))):
                database.delete(row)
                vector = data.second[row].astype(np.float32)
                inserted.measure(database.insert, row, vector)
            yield _peer_change_row("pgvector HNSW: insert one", inserted.p50, scan)
    except NotInstalled as why:
        yield Note(f"pgvector is not measured: {why}")


def _ask(search: Search, data: Data, truths: dict[str, Rows]) -> dict[str, Asked]:
    return {kind: _ask_kind(search, queries, truths[kind]) for kind, queries in data.queries.items()}


def _ask_kind(search: Search, queries: Codes, truths: Rows) -> Asked:
    # Once unmeasured: the first queries after a load find neither caches nor branch predictors warm.
    for query in queries[: len(queries) // 4]:
        search(query)
    timings = Timings()
    recalls = [recall(timings.measure(search, query), truth) for query, truth in zip(queries, truths, strict=True)]
    return Asked(float(np.mean(recalls)), timings)


def _judged_rows(who: str, asked: dict[str, Asked], scan: Yardstick) -> Answers:
    for kind, result in asked.items():
        found = f"recall@{K} {result.recall:.3f}"
        target = at_least(RECALL_MIN[kind])
        yield Row(
            name=f"{who}: recall {kind}",
            value=result.recall,
            unit="",
            quality=f"of {len(result.timings.ms)} queries",
            yardstick=Yardstick("exact NumPy scan", 1.0),
            target=target,
            gate=target,
        )
        yield _time_row(f"{who}: p50 {kind}", result.timings.p50, found, scan, at_most(P50_MS_MAX))
        yield _time_row(f"{who}: p99 {kind}", result.timings.p99, found, scan, at_most(P99_MS_MAX))


def _peer_rows(who: str, asked: dict[str, Asked], scan: Yardstick) -> Answers:
    for kind, result in asked.items():
        quality = f"recall@{K} {result.recall:.3f}, p99 {result.timings.p99:.2f} ms"
        yield _time_row(f"{who}: p50 {kind}", result.timings.p50, quality, scan)


def _change_row(name: str, changes: Timings, scan: Yardstick) -> Row:
    quality = f"upkeep included; p99 {changes.p99:.2f} ms"
    return _time_row(name, changes.mean, quality, scan, at_most(CHANGE_MS_MAX))


def _peer_change_row(name: str, ms: float, scan: Yardstick) -> Row:
    return _time_row(name, ms, "", scan)


def _time_row(name: str, ms: float, quality: str, scan: Yardstick, target: Target | None = None) -> Row:
    return Row(name=name, value=ms, unit="ms", quality=quality, yardstick=scan, target=target)
