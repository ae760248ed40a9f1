"""Options of a command that are settings: the same in the environment and in the TOML file, nothing is named twice."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from constellation.config import Option


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """These, and `--config`."""
    parser.epilog = "An option is also read from the environment (CONSTELLATION_...) and from the TOML file."
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with any options as its keys")
    for option in options:
        _add(parser, option)


def given(arguments: argparse.Namespace, options: Iterable[Option]) -> dict[str, object]:
    """Those that stand on the command line, by field, for `config.load`."""
    stated = vars(arguments)
    return {option.field: stated[option.field] for option in options if option.field in stated}


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    # The check is config's alone, for the three sources alike; argparse only splits the line.
    text = f"{option.description} ({option.allowed}; default {_shown(option.default)})".replace("%", "%%")
    if isinstance(option.default, bool):
        action = argparse.BooleanOptionalAction
        parser.add_argument(option.flag, action=action, default=argparse.SUPPRESS, help=option.description)
    else:
        parser.add_argument(option.flag, default=argparse.SUPPRESS, metavar=_metavar(option), help=text)


def _metavar(option: Option) -> str:
    return {int: "N", float: "X"}.get(type(option.default), "TEXT")


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)
