"""`constellation serve`: a shard with its REST, gRPC and metrics ports, or several, until SIGTERM or Ctrl-C.

Its options are the fields of `config.Settings`, nothing is named twice. What the limits imply in memory is checked
against the machine before anything is allocated.
"""

import argparse
import gc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from constellation import config
from constellation.cli.options import add_options, given
from constellation.config import Settings, WrongSetting
from constellation.identity import open_identity, open_tls

if TYPE_CHECKING:
    from constellation.codebook import Codebook

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def configure(parser: argparse.ArgumentParser) -> None:
    add_options(parser, config.options())


def run(arguments: argparse.Namespace) -> int:
    settings = config.load(given(arguments, config.options()), config_file=arguments.config)
    check_extra(settings)
    identity, tls = open_identity(settings), open_tls(settings)
    # Imported late: NumPy, numba and the web framework take a second that `--help` and a wrong option need not wait.
    # What comes stays: looking through it for garbage, then and later, would take a fifth as long again.
    gc.disable()
    from constellation.api.server import serve
    from constellation.shard import memory_bytes

    gc.freeze()
    gc.enable()
    check_memory(settings.shards * memory_bytes(settings), machine_memory_bytes(), settings)
    if settings.shards > 1:
        from constellation.cli import cluster

        return cluster.run(settings)
    return serve(settings, load_codebook(settings), identity, tls)


def check_extra(settings: Settings) -> None:
    """Raises `WrongSetting` for HTTP/3 where its library is not installed."""
    if settings.quic_port != config.NONE and find_spec("aioquic") is None:
        raise WrongSetting(
            f"--quic-port: got {settings.quic_port}, and what HTTP/3 needs is not installed; allowed: none, or after "
            "pip install 'constellation[quic]'"
        )


def load_codebook(settings: Settings) -> "Codebook":
    """Raises `WrongSetting`."""
    from constellation.codebook import WrongCodebook, default_codebook, load

    if settings.codebook == config.PACKAGED:
        return default_codebook()
    try:
        return load(Path(settings.codebook))
    except WrongCodebook as error:
        raise WrongSetting(f"--codebook: {error}") from error


def check_memory(implied_bytes: int, available_bytes: int, settings: Settings) -> None:
    """Raises `WrongSetting` when a full shard would not fit: it would be killed long after it was started."""
    if implied_bytes > available_bytes:
        raise WrongSetting(
            f"--max-patterns {settings.max_patterns} and --max-devices {settings.max_devices} for each shard imply "
            f"{implied_bytes / 2**30:.1f} GiB; allowed: the {available_bytes / 2**30:.1f} GiB of this machine"
        )


def machine_memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a control group says so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text().strip() for path in _CGROUP_LIMITS if path.exists()]
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])
