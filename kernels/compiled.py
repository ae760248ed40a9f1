"""How kernels are compiled: one decorator, so that every kernel has the same options.

Compiled code is cached on disk beside the module, in `NUMBA_CACHE_DIR`, or in the user's cache directory; where none
of them can be written it is compiled at every start. The GIL is kept: a kernel takes microseconds on the event loop,
and a loop that lets the GIL go gets it back only after another thread's switch interval.
numba's cache looks at the kernel's own file only: after a change to an inlined helper (`heap`, `dot`), touch its users.
"""

import sys
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import numba
import numpy as np
from numba.extending import is_jitted

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

JIT = not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
"""False under NUMBA_DISABLE_JIT=1: kernels then run as plain Python, for tests."""


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


def _compile(kernel: Kernel, inline: Literal["never", "always"] = "never") -> Kernel:
    def compile_with(cache: bool) -> Any:
        return numba.njit(cache=cache, inline=inline, error_model="numpy", boundscheck=False)(kernel)

    try:
        dispatcher = compile_with(cache=True)
    except RuntimeError:  # no directory can be written to: numba has no locator for the cache
        dispatcher = compile_with(cache=False)
    return cast(Kernel, dispatcher)
