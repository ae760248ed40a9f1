"""Numba functions over arrays, and nothing else: the arithmetic of the shard and of a federation round.

Every public function has a plain twin of the same name in `reference` (or `block_reference`): its specification.
What callers owe them (unchecked, because a check costs more than some of the kernels):
- arrays are C-contiguous, aligned, writable and of exactly the dtype the docstring names. Any other layout is
  compiled anew on first use, and a compile takes seconds: copy arrays made from request bytes, they are read-only;
- scalars are Python ints and floats, or NumPy scalars where the docstring says so;
- indices are in range: bounds checks are off.
`warm.warm()` compiles or loads everything before a port opens; `compiled.specialisations()` shows that it stayed so.
"""
