"""The environments that peers are installed in, away from the service's: build/peers/NAME, of requirements-NAME.txt.

A peer runs as a script of its own environment and speaks through files in a directory; nothing of ours is in there.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.peers import NotInstalled

_HERE = Path(__file__).parent
_ENVIRONMENTS = Path(__file__).resolve().parents[2] / "build" / "peers"
INSTALL_S_MAX = 1_800
RUN_S_MAX = 3_600


def install(name: str) -> Path:
    """Its Python; made at the first call, and when the pins change. Raises `NotInstalled`."""
    environment, pins = _ENVIRONMENTS / name, _HERE / f"requirements-{name}.txt"
    stamp, python = environment / "installed.txt", environment / "bin" / "python"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return python
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--requirement", str(pins)]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True, capture_output=True)
        subprocess.run(pip, check=True, capture_output=True, timeout=INSTALL_S_MAX)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise NotInstalled(f"{pins.name} cannot be installed here: {said[-1]}") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{pins.name} was not installed after {INSTALL_S_MAX} s") from None
    stamp.write_text(pins.read_text())
    return python


def installed(name: str) -> Path:
    """Its Python, if `make bench-peers` made it. Raises `NotInstalled`."""
    python = _ENVIRONMENTS / name / "bin" / "python"
    if not (_ENVIRONMENTS / name / "installed.txt").exists():
        raise NotInstalled("make bench-peers installs it, in an environment of its own")
    return python


def run(python: Path, script: str, *arguments: str) -> None:
    """Run a script of this folder to its end. Raises `NotInstalled` with what it said last if it fails."""
    command = [str(python), "-P", str(_HERE / script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, timeout=RUN_S_MAX, env=environment)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise NotInstalled(f"{script} {' '.join(arguments[:1])} failed: {said[-1]}")
