"""A value that is read of files, and of them again whenever they are written, without a restart.

A rewritten file that cannot be used changes nothing but `failing`: a mistake of the operator, or a file that is half
written, must not lock out a fleet. It is looked at again until it can be.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")


class WrongFile(Exception):
    """A file that cannot be used: which, and what is wrong with it."""


class Watched(Generic[Value]):
    """`value` is of the last look at which the files could be used."""

    def __init__(self, paths: tuple[Path, ...], read: Callable[..., Value]) -> None:
        """`read` gets the paths. Raises `WrongFile`."""
        self.failing = ""
        """Why the files as they are now are not used, if they are not."""
        self._paths, self._read = paths, read
        try:
            self._stamps = _stamps(paths)
            self.value = read(*paths)
        except OSError as error:
            raise WrongFile(_why(error)) from error

    def look(self) -> bool:
        """Read again what was written since the last look; was it? It blocks, as files do."""
        try:
            # Before reading: what is written meanwhile has another stamp, and is read at the next look.
            stamps = _stamps(self._paths)
            if stamps == self._stamps and not self.failing:
                return False
            self.value = self._read(*self._paths)
        except (OSError, WrongFile) as error:
            self.failing = _why(error) if isinstance(error, OSError) else str(error)
            return False
        self._stamps, self.failing = stamps, ""
        return True


def _stamps(paths: tuple[Path, ...]) -> list[tuple[int, int, int]]:
    found = [path.stat() for path in paths]
    return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]


def _why(error: OSError) -> str:
    return f"cannot read {error.filename}: {error.strerror}"
