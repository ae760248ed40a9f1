"""`python -m bench scale`: one shard as large as it is meant to be, at its share of the load, on this machine.

A real server with journal and embedded PostgreSQL is started on the data directory that millions of devices left
(`bench.millions`). A hundred thousand of them are on and sync by turns at random moments, with new patterns among what
they bring; then as many syncs as it can. Memory, disk, CPU and bytes are those of `docs/capacity.md`.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psutil
import uvloop
from rich.console import Console

from bench import millions, sync_http, workload
from bench.generator import Connection, Load, connected, run_closed_loop, run_open_loop
from bench.millions import Size
from bench.plan import Answers, Note, Plan, tracked
from bench.report import Row, Run, Section, Yardstick, at_least, at_most, describe_machine, print_section
from bench.served import NOBODY_EXPIRES, Server, serving
from bench.workload import Part
from bench.written import save
from constellation.config import Settings
from constellation.limits import SIMILAR_MAX
from constellation.model import SyncRequest
from kernels.warm import warm

P99_MS_MAX = 10.0
PATIENCE_S = 1_800.0
ASKED = 200
RECALL_MIN = 0.9
MEMORY_GIB_MAX = 18.0
WINDOW_S = 20.0
SUSTAINED_S = 60.0
SUSTAINED_PER_S_MAX = 1_500
"""Requests are prepared for so many, with no connection open meanwhile: a server closes those that are idle."""
CONNECTIONS = 32
NOTHING_SHARE, UPDATES_SHARE = 0.7, 0.2
GIB = 2**30


class Scale(NamedTuple):
    """How large a run is."""

    size: Size
    active: int
    rate: float
    minutes: float


class Used(NamedTuple):
    """What the server and PostgreSQL have used so far: resident bytes and seconds of CPU of each, bytes on disk."""

    server_bytes: int
    database_bytes: int
    server_cpu_s: float
    database_cpu_s: float
    disk: dict[str, int]


class Questions(NamedTuple):
    """Numbers of devices (m,) that ask, and the ids of the patterns that each should get."""

    devices: millions.Numbers
    truths: list[set[bytes]]


class Measured(NamedTuple):
    """One run: before the load, after it, and what the load saw; `sent_bytes` of all its requests."""

    filled_s: float
    ready_s: float
    loaded_s: float
    recall: float
    before: Used
    after: Used
    windows: list[Load]
    sustained: Load
    sent_bytes: int
    stats: dict[str, Any]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description="A shard of millions.")
    parser.add_argument("--devices", type=int, default=4_000_000, metavar="N", help="default %(default)s")
    parser.add_argument("--patterns", type=int, default=10_000_000, metavar="N", help="default %(default)s")
    parser.add_argument("--active", type=int, default=100_000, metavar="N", help="on at once, default %(default)s")
    parser.add_argument("--rate", type=float, default=167.0, metavar="N", help="syncs a second, default %(default)g")
    parser.add_argument("--minutes", type=float, default=15.0, metavar="M", help="of that, default %(default)g")
    parser.add_argument("--directory", type=Path, metavar="DIRECTORY", help="for the data, default: a temporary one")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="default: below build/bench/")
    asked = parser.parse_args(arguments)
    scale = Scale(Size(asked.devices, asked.patterns), min(asked.active, asked.devices), asked.rate, asked.minutes)
    plan, began_at = Plan(patterns=asked.patterns), time.perf_counter()
    started, console = datetime.now(UTC).isoformat(timespec="seconds"), Console(width=160)
    with tempfile.TemporaryDirectory(dir=asked.directory) as directory:
        answers = list(_rows(scale, _measure(plan, scale, Path(directory))))
    rows = [answer for answer in answers if isinstance(answer, Row)]
    notes = [str(answer) for answer in answers if isinstance(answer, Note)]
    title = f"{asked.devices:,} devices and {asked.patterns:,} patterns in one shard"
    section = Section("scale", title, rows, notes, time.perf_counter() - began_at)
    print_section(section, console)
    films = workload.load_library(plan.patterns, plan.seed).source
    run = Run(describe_machine(), films, plan.patterns, plan.seed, started, [section])
    console.print(f"saved in {save(run, asked.output, f'scale-{asked.devices}')}")
    return int(any(row.passed is False for row in rows))


def _measure(plan: Plan, scale: Scale, directory: Path) -> Measured:
    more = int(scale.rate * scale.minutes * 60) + 2 * int(SUSTAINED_PER_S_MAX * SUSTAINED_S)
    settings = msgspec.structs.replace(millions.room_for(scale.size, more), data_dir=str(directory))
    began_at = time.perf_counter()
    # In a child, so that what filling took is given back before the server starts.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child:
        child.submit(_fill, settings, plan, scale.size).result()
        filled_s = time.perf_counter() - began_at
        asked = plan.rng("asked").choice(scale.active, min(ASKED, scale.active), replace=False)
        truths = child.submit(_truths, plan, scale.size, asked).result()
    with serving(*_options(settings), patience_s=PATIENCE_S) as server:
        return uvloop.run(_live(plan, scale, server, directory, filled_s, Questions(asked, truths)))


def _fill(settings: Settings, plan: Plan, size: Size) -> None:
    """Runs in the child."""
    warm()
    millions.fill(settings, size, workload.load_library(plan.patterns, plan.seed).known, plan.seed)


def _truths(plan: Plan, size: Size, asked: millions.Numbers) -> list[set[bytes]]:
    """Runs in the child."""
    part = workload.load_library(plan.patterns, plan.seed).known
    return millions.nearest(size, part, plan.seed, asked, SIMILAR_MAX)


def _options(settings: Settings) -> list[str]:
    room = [f"--max-patterns={settings.max_patterns}", f"--max-devices={settings.max_devices}"]
    return ["--storage=postgres", f"--data-dir={settings.data_dir}", *room, *NOBODY_EXPIRES]


async def _live(
    plan: Plan, scale: Scale, server: Server, directory: Path, filled_s: float, questions: Questions
) -> Measured:
    rng = plan.rng("scale")
    syncs = _syncs(scale, workload.load_library(plan.patterns, plan.seed).known, rng)
    recall = await _recall(server, questions)
    before, windows, sent_bytes = _used(server, directory), [], 0
    for _ in tracked(range(max(1, round(scale.minutes * 60 / WINDOW_S))), "at its share"):
        requests = [sync_http.post(next(syncs)) for _ in range(max(1, round(scale.rate * WINDOW_S)))]
        sent_bytes += sum(map(len, requests))
        async with connected(server.url, CONNECTIONS) as connections:
            windows.append(await _window(connections, requests, scale.rate, rng))
    stats, after = _stats(server), _used(server, directory)
    closing = [sync_http.post(next(syncs)) for _ in range(int(SUSTAINED_PER_S_MAX * SUSTAINED_S))]
    async with connected(server.url, CONNECTIONS) as connections:
        sustained = await run_closed_loop(connections, closing, SUSTAINED_S)
    loaded_s = server.logged("loaded")["seconds"]
    return Measured(filled_s, server.ready_s, loaded_s, recall, before, after, windows, sustained, sent_bytes, stats)


async def _recall(server: Server, questions: Questions) -> float:
    """Of what devices are answered that bring nothing."""
    found = 0
    async with connected(server.url, 1) as (connection,):
        for device_id, truth in zip(millions.device_ids(questions.devices), questions.truths, strict=True):
            request = workload.make_request(device_id.tobytes(), workload.no_patterns(), workload.no_updates())
            similar = sync_http.decode(await connection.exchange(sync_http.post(request))).similar
            found += len({pattern_id.tobytes() for pattern_id in similar.ids} & truth)
    return found / sum(map(len, questions.truths))


async def _window(connections: list[Connection], requests: list[bytes], rate: float, rng: np.random.Generator) -> Load:
    dues_s = np.cumsum(rng.exponential(1 / rate, len(requests))).tolist()
    return await run_open_loop(connections, requests, dues_s)


def _syncs(scale: Scale, part: Part, rng: np.random.Generator) -> Iterator[SyncRequest]:
    """The active devices by turns, in another order each time; what one brings is drawn as in `sync_http`."""
    turn = 0
    while True:
        turn += 1
        for device in rng.permutation(scale.active):
            yield _sync(scale.size, np.array([device]), turn, part, rng)


def _sync(size: Size, device: millions.Numbers, turn: int, part: Part, rng: np.random.Generator) -> SyncRequest:
    draw, added, updated = rng.random(), workload.no_patterns(), workload.no_updates()
    own = int(size.patterns_of(device)[0])
    if draw >= NOTHING_SHARE + UPDATES_SHARE:
        codes = part.patterns(part.draw(sync_http.NEW_PATTERNS, rng), rng)
        added = workload.make_batch(workload.make_ids(sync_http.NEW_PATTERNS, rng), codes, rng)
    elif draw >= NOTHING_SHARE and own:
        places = np.arange(min(own, sync_http.UPDATES))
        updated = workload.make_updates(millions.pattern_ids(np.repeat(device, len(places)), places), rng)
    return workload.make_request(millions.device_ids(device)[0].tobytes(), added, updated, sequence=turn)


def _used(server: Server, directory: Path) -> Used:
    process = psutil.Process(server.pid)
    children = process.children(recursive=True)
    times, child_times = process.cpu_times(), [child.cpu_times() for child in children]
    sizes = {place.name: _size(place) for place in directory.iterdir()}
    return Used(
        server_bytes=process.memory_info().rss,
        database_bytes=sum(child.memory_full_info().pss for child in children),
        server_cpu_s=times.user + times.system,
        database_cpu_s=sum(each.user + each.system for each in child_times),
        disk=sizes,
    )


def _size(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.lstat().st_size for file in files if not file.is_symlink() and file.is_file())


def _stats(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/api/v1/stats") as reply:
        stats: dict[str, Any] = json.load(reply)
        return stats


def _rows(scale: Scale, measured: Measured) -> Answers:
    yield from _load_rows(scale, measured)
    yield from _size_rows(scale, measured)
    yield Note(f"made and written down in {measured.filled_s:.0f} s; on disk: {_listed(measured.before.disk)}")
    yield Note(f"after the load: {_listed(measured.after.disk)}")


def _load_rows(scale: Scale, measured: Measured) -> Answers:
    latencies_ms = np.concatenate([window.latencies_s for window in measured.windows]) * 1e3
    errors, name = sum(window.errors for window in measured.windows), f"{scale.rate:g} syncs/s, open loop"
    found = f"{errors} errors in {len(latencies_ms):,}, {scale.minutes:g} minutes"
    for q, target in ((0.5, None), (0.99, P99_MS_MAX), (0.999, None)):
        yield _row(f"{name}: p{q * 100:g}", float(np.quantile(latencies_ms, q)), "ms", found, target)
    yield Row(
        name="recall@100 of what devices are answered",
        value=measured.recall,
        unit="",
        quality=f"of {ASKED} that bring nothing, before the load",
        yardstick=Yardstick("exact scan", 1.0),
        target=at_least(RECALL_MIN),
    )
    active, total = measured.stats["active_devices"], measured.stats["total_devices"]
    yield Row(
        name="devices that are on at once",
        value=float(active),
        unit="",
        quality=f"of {total:,} registered",
        yardstick=Yardstick("asked for", float(scale.active)),
    )
    yield Row(
        name=f"the highest sustained rate, {CONNECTIONS} at once",
        value=measured.sustained.per_second,
        unit="/s",
        quality=f"{measured.sustained.errors} errors in {len(measured.sustained.latencies_s):,}, "
        f"p50 {measured.sustained.quantile_ms(0.5):.1f} ms",
        yardstick=Yardstick("a full shard's share", scale.rate),
        target=at_least(scale.rate),
    )
    syncs = len(latencies_ms)
    for what, cpu_s in (
        ("the shard", measured.after.server_cpu_s - measured.before.server_cpu_s),
        ("PostgreSQL", measured.after.database_cpu_s - measured.before.database_cpu_s),
    ):
        used = f"{cpu_s:.0f} s in all, background work of this time included"
        yield _row(f"CPU of {what}, a sync", cpu_s / syncs * 1e3, "ms", used, None)
    yield _row("bytes up, a sync", measured.sent_bytes / syncs, "B", "HTTP's own included", None)


def _size_rows(scale: Scale, measured: Measured) -> Answers:
    resident, size = measured.after.server_bytes, scale.size
    yield Row(
        name="memory of the shard",
        value=resident / GIB,
        unit="GiB",
        quality=f"{measured.stats['patterns_stored']:,} patterns, {measured.stats['total_devices']:,} devices; "
        f"{measured.before.server_bytes / GIB:.2f} GiB before the load",
        yardstick=Yardstick("embeddings as float32", size.patterns * 1_536 / GIB),
        target=at_most(MEMORY_GIB_MAX),
    )
    yield _row("memory of PostgreSQL", measured.after.database_bytes / GIB, "GiB", "proportional share", None)
    for place in ("postgres", "journal", "snapshot"):
        found = sum(of for name, of in measured.after.disk.items() if name.startswith(place))
        yield _row(f"on disk: {place}", found / GIB, "GiB", "after the load", None)
    ready = f"{measured.loaded_s:.0f} s of it to load"
    yield _row("start -> ready", measured.ready_s, "s", ready, None)


def _row(name: str, value: float, unit: str, quality: str, target: float | None) -> Row:
    beside = Yardstick("allowed", target) if target else None
    return Row(
        name=name, value=value, unit=unit, quality=quality, yardstick=beside, target=at_most(target) if target else None
    )


def _listed(disk: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in sorted(disk.items()) if size > GIB / 1_000)
