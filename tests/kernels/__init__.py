"""Kernels against their plain twins; run with the JIT on and with NUMBA_DISABLE_JIT=1."""
