"""How soon is a shard back, and how soon does it stop?

A real server on the data directory that a load left (`kept`) takes syncs for a while and is killed (kill -9); started,
killed again and bereft of its snapshot; started from the database, stopped in order, and started once more. Each is
timed until it is ready, from the start of its process.
"""

import tempfile
from pathlib import Path

import uvloop

from bench import kept, sync_http, workload
from bench.generator import Load, connected, run_closed_loop
from bench.loaded import load_shard
from bench.plan import Answers, Note, Plan
from bench.report import Row, Yardstick, at_most
from bench.served import Server, in_memory, on_disk, serving
from constellation.storage import snapshot

KILLED_S_MAX, STOPPED_S_MAX = 15.0, 5.0


def measure(plan: Plan) -> Answers:
    loaded = load_shard(plan)
    rng = plan.rng("restart")
    part = workload.load_library(plan.patterns, plan.seed).known
    syncs = sync_http.mix(loaded.households, part, int(sync_http.RATE_PER_S * plan.seconds), 1, rng)
    posts = [sync_http.post(request) for request in syncs]
    with serving(*in_memory(plan)) as server:
        empty = Yardstick("an empty shard in memory", server.ready_s)
    with tempfile.TemporaryDirectory() as directory:
        kept.fill(kept.settings_in(directory, plan), loaded.shard)
        options = on_disk(plan, directory)
        with serving(*options) as server:
            load = uvloop.run(_send(server.url, posts))
            assert load.errors == 0, load.last
            stored = server.stored()
            server.kill()
        with serving(*options) as server:
            yield _row("kill -9 -> ready", server, stored, empty, KILLED_S_MAX)
            server.kill()
        snapshot.drop(Path(directory))
        with serving(*options) as server:
            yield _row("kill -9, snapshot lost -> ready", server, stored, empty, KILLED_S_MAX)
            stopping_s = server.stop()
        with serving(*options) as server:
            yield _row("graceful stop -> ready", server, stored, empty, STOPPED_S_MAX)
    yield Row(
        name="SIGTERM -> stopped",
        value=stopping_s,
        unit="s",
        quality="the last changes flushed, a whole snapshot taken, PostgreSQL stopped",
        yardstick=empty,
    )
    yield Note(f"before the first kill it took {len(posts):,} syncs: they are in the journal behind the snapshot")
    yield Note("no titles are stored: their graph is made anew at every start")


async def _send(url: str, posts: list[bytes]) -> Load:
    async with connected(url, sync_http.CONNECTIONS) as connections:
        return await run_closed_loop(connections, posts, float("inf"))


def _row(name: str, server: Server, stored: int, empty: Yardstick, seconds_max: float) -> Row:
    source, loading_s = server.logged("restoring")["source"], server.logged("loaded")["seconds"]
    return Row(
        name=name,
        value=server.ready_s,
        unit="s",
        quality=f"{server.stored():,} of {stored:,} patterns from {source}, loaded in {loading_s:.1f} s",
        yardstick=empty,
        target=at_most(seconds_max),
    )
