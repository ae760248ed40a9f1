"""The `constellation` command: finds the command by its name and runs it.

A command is a module of this package with two functions, `configure(parser)` and `run(arguments) -> exit code`; only
the chosen one is imported, so that `--help` answers at once. A wrong argument or setting exits 2 before
anything starts.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from constellation import __version__
from constellation.config import WrongSetting

COMMANDS = {
    "serve": "run one shard: REST, gRPC and metrics",
    "health": "ask the shard that has these settings whether it is ready",
    "fleet": "simulate TVs against a URL",
    "demo": "run a shard and a fleet against it, for two minutes",
    "backup": "write what a shard keeps to one file, while it serves",
    "codebook": "show a codebook, train another on what shards serve, publish it",
    "worker": "run the rounds of a federation",
    "shards": "show the shards of a federation, or move slots between them",
    "rounds": "show the last rounds of a federation",
    "token": "make the keys of a fleet, and issue tokens to its devices and operators",
    "restore": "put a backup back into the database of a shard that is stopped",
}
"""Name (its module in this package) -> what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv else ""
    if name not in COMMANDS:
        return _answer_without_command(argv)
    # Before NumPy is loaded. Its products here are small, and threads that wait for one another on two busy cores make
    # filling the index thirteen times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command = import_module(f"constellation.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"constellation {name}", description=COMMANDS[name], allow_abbrev=False)
    command.configure(parser)
    arguments = parser.parse_args(argv[1:])
    try:
        code: int = command.run(arguments)
    except WrongSetting as error:
        print(f"constellation {name}: {error}", file=sys.stderr)
        return 2
    return code


def _answer_without_command(argv: list[str]) -> int:
    """`--help`, `--version`, or a command that there is not: argparse words the complaint and exits 2."""
    listed = "\n".join(f"  {name:8} {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="constellation",
        description="The server side of a distributed TV recommender.",
        epilog=f"commands:\n{listed}\n\n`constellation COMMAND --help` lists a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"constellation {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    parser.parse_args(argv)
    raise AssertionError("argparse exits on anything that is no command")
