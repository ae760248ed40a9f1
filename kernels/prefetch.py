"""A hint to the processor that a cache line will be read soon (LLVM's `llvm.prefetch`, read, keep in all caches).

Scattered rows are read at the speed of memory latency unless the next ones are asked for in time: see `bench.kernels`.
A hint changes no result, so its twin does nothing, and so does this without the JIT.
"""

from typing import Any

from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 64

if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def prefetch(array: Any, offset: int) -> None:
        """Nothing to hint without the JIT."""

else:
    from llvmlite import ir

    @intrinsic
    def prefetch(_context: Any, array: Any, offset: Any) -> Any:
        """prefetch(array, offset): the cache line of the element `offset` of a C-contiguous one-byte array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            word = ir.IntType(32)
            pointer = ir.IntType(8).as_pointer()
            hint = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module, ir.FunctionType(ir.VoidType(), [pointer, word, word, word]), "llvm.prefetch.p0"
            )
            address = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
            builder.call(hint, [address, word(0), word(3), word(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), generate
