"""`constellation worker`: rounds of a federation on a schedule, until SIGTERM or Ctrl-C. Of several one works."""

import argparse

from constellation import config
from constellation.cli.options import add_options, given
from constellation.config import WorkerSettings


def configure(parser: argparse.ArgumentParser) -> None:
    add_options(parser, config.options(WorkerSettings))
    parser.add_argument("--once", action="store_true", help="one round at once, then exit: 0 if it was published")


def run(arguments: argparse.Namespace) -> int:
    settings = config.load_worker(given(arguments, config.options(WorkerSettings)), config_file=arguments.config)
    from constellation.api.worker import work

    return work(settings, arguments.once)
