"""`serve --shards N`: N shards and a federation worker, each a process of its own, over one embedded PostgreSQL.

This process has the database server and the children, and ends with the first of them that ends. Shard i listens i
ports above the first.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from constellation import config
from constellation.config import AUTO, EMBEDDED, NONE, Settings, WrongSetting
from constellation.storage import embedded
from constellation.storage.connections import DatabaseUnavailable, make_database
from constellation.storage.embedded import EmbeddedServer
from kernels.warm import warm

COORDINATOR = "coordinator"
STOP_S_MAX = 45
WATCH_EVERY_S = 1.0


def run(settings: Settings) -> int:
    """Raises `WrongSetting`."""
    if settings.database_url != EMBEDDED or settings.public_url != AUTO or settings.public_grpc_port:
        raise WrongSetting(
            f"--shards {settings.shards}: these share one embedded database and count their ports up; allowed: 1 with "
            "--database-url, --public-url or --public-grpc-port, and one `constellation serve` for each shard"
        )
    warm()  # once: the first start compiles, and the shards would all do so at the same time
    try:
        return asyncio.run(_run(settings))
    except DatabaseUnavailable as error:
        print(f"constellation serve: {error}", file=sys.stderr)
        return 1


async def _run(settings: Settings) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    server = await embedded.start(Path(settings.data_dir))
    try:
        coordinator = settings.coordinator_url
        if coordinator == NONE:
            coordinator = await make_database(server.url, COORDINATOR)
        print(f"coordinator at {coordinator}", flush=True)
        shards = [shard_settings(settings, i) for i in range(settings.shards)]
        commands = {}
        for shard in shards:
            url = await make_database(server.url, shard.shard_id)
            commands[shard.shard_id] = [*_serve(shard), f"--database-url={url}", f"--coordinator-url={coordinator}"]
        ports = shards[-1].metrics_port
        commands["worker"] = [
            "worker", f"--coordinator-url={coordinator}", f"--metrics-port={ports + 1 if ports else 0}",
            f"--log-level={settings.log_level}", f"--log-key-file={settings.log_key_file}",
            f"--otlp-endpoint={settings.otlp_endpoint}",
        ]  # fmt: skip
        return await _watch(commands, server, stopping)
    finally:
        await server.stop()


def shard_settings(settings: Settings, i: int) -> Settings:
    """Those of shard i: the regions are shared out in order, and in each the slots."""
    regions = settings.region.split(",")
    region_of = [regions[number * len(regions) // settings.shards] for number in range(settings.shards)]
    name, quic = settings.shard_id.removesuffix("-0"), settings.quic_port
    return config.changed(
        settings,
        shards=1,
        shard_id=f"{name}-{i}",
        region=region_of[i],
        share=f"{region_of[:i].count(region_of[i])}/{region_of.count(region_of[i])}",
        port=settings.port + i if settings.port else 0,
        grpc_port=settings.grpc_port + i if settings.grpc_port else 0,
        metrics_port=settings.metrics_port + i if settings.metrics_port else 0,
        quic_port=quic + i if isinstance(quic, int) and quic else quic,
        data_dir=str(Path(settings.data_dir) / f"{name}-{i}"),
    )


def _serve(settings: Settings) -> Iterator[str]:
    yield "serve"
    for option in config.options():
        value = getattr(settings, option.field)
        if option.field not in ("database_url", "coordinator_url"):
            yield f"{option.flag}={value}" if not isinstance(value, bool) else _switch(option.flag, value)


def _switch(flag: str, value: bool) -> str:
    return flag if value else flag.replace("--", "--no-", 1)


async def _watch(commands: dict[str, list[str]], server: EmbeddedServer, stopping: asyncio.Event) -> int:
    """Start the children; stop them all when one ends or this process is told to. 0 if it was told."""
    children = {
        name: await asyncio.create_subprocess_exec(sys.executable, "-m", "constellation", *command, process_group=0)
        for name, command in commands.items()
    }
    try:
        while not stopping.is_set() and all(child.returncode is None for child in children.values()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), WATCH_EVERY_S)
            await server.ensure_running()
        for name, child in children.items():
            if child.returncode is not None:
                print(f"constellation serve: {name} ended with {child.returncode}, so all stop", file=sys.stderr)
        return 0 if stopping.is_set() else 1
    finally:
        await _stop(list(children.values()))


async def _stop(children: list[asyncio.subprocess.Process]) -> None:
    for child in children:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await asyncio.gather(*(child.wait() for child in children))
    except TimeoutError:
        for child in children:
            if child.returncode is None:
                child.kill()
        await asyncio.gather(*(child.wait() for child in children))
