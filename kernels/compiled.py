"""How kernels are compiled: one decorator, so that every kernel has the same options.

Compiled code is cached on disk beside the module, in `NUMBA_CACHE_DIR`, or in the user's cache directory; where none
of them can be written it is compiled at every start. The GIL is kept: a kernel takes microseconds on the event loop,
and a loop that lets the GIL go gets it back only after another thread's switch interval.
numba's cache looks at the kernel's own file only: after a change to an inlined helper (`heap`, `dot`), touch its users.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

JIT = not numba.config.DISABLE_JIT
"""False under NUMBA_DISABLE_JIT=1: kernels then run as plain Python, for tests."""

_kernels: list[Any] = []


def compiled(kernel: Kernel) -> Kernel:
    """Compile `kernel` on first use for the types it gets; division by zero gives inf or NaN as in NumPy."""
    return _compile(kernel, inline="never")


def inlined(kernel: Kernel) -> Kernel:
    """As `compiled`, but its body goes into every kernel that calls it, so that loops vectorise across the call."""
    return _compile(kernel, inline="always")


def wrapping(kernel: Kernel) -> Kernel:
    """As `compiled`, for arithmetic modulo 2^64: machine code wraps silently, NumPy's scalars would warn."""
    if not JIT:
        return np.errstate(over="ignore")(kernel)
    return _compile(kernel, inline="never")


def specialisations() -> int:
    """Compiled type combinations of all kernels together. If it grows while serving, a request paid for a compile."""
    return sum(len(kernel.signatures) for kernel in _kernels)


def uncompiled() -> list[str]:
    """Names of the kernels that no call has compiled or loaded yet."""
    return [f"{kernel.__module__}.{kernel.__name__}" for kernel in _kernels if not kernel.signatures]


def _compile(kernel: Kernel, inline: str) -> Kernel:
    options = {"inline": inline, "error_model": "numpy", "boundscheck": False}
    try:
        dispatcher: Any = numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # no directory can be written to: numba has no locator for the cache
        dispatcher = numba.njit(cache=False, **options)(kernel)
    if JIT:
        _kernels.append(dispatcher)
    result: Kernel = dispatcher
    return result
