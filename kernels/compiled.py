"""How kernels are compiled: one decorator, so that every kernel has the same options.

Compiled code is cached in `NUMBA_CACHE_DIR`, else beside the modules, else in the user's cache directory where they
cannot be written, else nowhere. numba knows a kernel's own file only, and a kernel that
was compiled with another module's old constants writes out of bounds: so the place is named after all sources here.
The GIL is kept: a kernel takes microseconds on the event loop, and a loop that lets the GIL go gets it back only after
another thread's switch interval.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numba
import numpy as np
from llvmlite import binding
from numba.extending import is_jitted

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

JIT = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
"""False under NUMBA_DISABLE_JIT=1: kernels then run as plain Python, for tests."""


def has_feature(name: str) -> bool:
    """Does this processor have these instructions? Names as LLVM has them, such as avx2."""
    return bool(binding.get_host_cpu_features().get(name, False))


def compiled(kernel: Kernel) -> Kernel:
    """Compile `kernel` on first use for the types it gets; division by zero gives inf or NaN as in NumPy."""
    return _compile(kernel)


def inlined(kernel: Kernel) -> Kernel:
    """As `compiled`, but its body goes into every kernel that calls it, so that loops vectorise across the call."""
    return _compile(kernel, "always")


def wrapping(kernel: Kernel) -> Kernel:
    """As `compiled`, for arithmetic modulo 2^64: machine code wraps silently, NumPy's scalars would warn."""
    if not JIT:
        return np.errstate(over="ignore")(kernel)
    return _compile(kernel)


def specialisations() -> int:
    """Compiled type combinations of all loaded kernels. If it grows while serving, a request paid for a compile."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("kernels.")]
    kernels = {id(value): value for module in modules for value in vars(module).values() if is_jitted(value)}
    return sum(len(kernel.signatures) for kernel in kernels.values())


def _cache_directory() -> str:
    """Where code compiled from these very sources is kept; empty if nothing can be written."""
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    name = f"kernels-{hashlib.sha256(sources).hexdigest()[:16]}"
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    for parent in (Path(chosen),) if chosen else (here / "__pycache__", Path.home() / ".cache" / "constellation"):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
            (parent / name / "writable").touch()
        except OSError:
            continue
        return str(parent / name)
    return ""


numba.config.CACHE_DIR = _cache_directory()  # type: ignore[attr-defined]


def _compile(kernel: Kernel, inline: Literal["never", "always"] = "never") -> Kernel:
    def compile_with(cache: bool) -> Any:
        return numba.njit(cache=cache, inline=inline, error_model="numpy", boundscheck=False)(kernel)

    try:
        dispatcher = compile_with(cache=True)
    except RuntimeError:  # no directory can be written to: numba has no locator for the cache
        dispatcher = compile_with(cache=False)
    return cast(Kernel, dispatcher)
