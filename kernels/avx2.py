"""`packed_dot` of `kernels.sketches` in the instructions of AVX2: 32 products at a time, half the time of the loop.

The one place that names a machine. LLVM does not find `vpmaddubsw` by itself (it wants a saturation that never
happens here), so it is asked for. Other machines run the loop; `tests/kernels/test_sketches.py` holds the two together.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = 32
_HALF = 96
_INT16_MAX = 2**15 - 1

# An int16 lane takes two products from each half of each 32 bytes: all of a sketch fit without a carry.
assert _HALF % _LANES == 0
assert _HALF // _LANES * 2 * 2 * 15 * 128 <= _INT16_MAX


@intrinsic
def packed_dot(_context: Any, packed: Any, at: Any, sketch: Any) -> Any:
    """packed_dot(packed, at, sketch): as `kernels.sketches.packed_dot`, for sketches of 192 components."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, short, word, index = (ir.IntType(bits) for bits in (8, 16, 32, 64))
        bytes32, shorts, words = ir.VectorType(byte, 32), ir.VectorType(short, 16), ir.VectorType(word, 16)

        def declared(name: str, result: Any, *parameters: Any) -> Any:
            kind = ir.FunctionType(result, parameters)
            return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]

        def load(array: Any, offset: int) -> Any:
            address = builder.gep(array, [ir.Constant(index, offset)])
            value = builder.load(builder.bitcast(address, bytes32.as_pointer()))
            value.align = 1
            return value

        multiply_add = declared("llvm.x86.avx2.pmadd.ub.sw", shorts, bytes32, bytes32)
        sum_of = declared("llvm.vector.reduce.add.v16i32", word, words)
        mask, shift = (ir.Constant(bytes32, [ir.Constant(byte, value)] * _LANES) for value in (15, 4))
        columns = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2)]
        row = builder.gep(columns[0], [arguments[1]])
        total = ir.Constant(shorts, [ir.Constant(short, 0)] * 16)
        for offset in range(0, _HALF, _LANES):
            both = load(row, offset)
            low, high = builder.and_(both, mask), builder.lshr(both, shift)
            total = builder.add(total, builder.call(multiply_add, [low, load(columns[1], offset)]))
            total = builder.add(total, builder.call(multiply_add, [high, load(columns[1], _HALF + offset)]))
        return builder.call(sum_of, [builder.sext(total, words)])

    return types.int32(packed, types.int64, sketch), generate
