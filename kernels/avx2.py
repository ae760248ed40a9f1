"""Inner products in the instructions of AVX2: 32 products at a time, half the time of the loop.

The one place that names a machine. LLVM does not find `vpmaddubsw` by itself (it wants a saturation that never
happens here), so it is asked for. Other machines run the loops of `kernels.sketches` and `kernels.dot`; their tests
hold the two together.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 32
"""Bytes of one register."""
_HALF = 96
_INT16_MAX = 2**15 - 1

# An int16 lane takes two products from each half of each 32 bytes: all of a sketch fit without a carry.
assert _HALF % LANES == 0
assert _HALF // LANES * 2 * 2 * 15 * 128 <= _INT16_MAX

_SLICE, _OCTETS, _SLICES_AT_ONCE = 4, 4, 4
_POINTS, _GROUPS = 4, 2
"""Of `kernels.product` at once: eight sums, which with what they are made of fit into the sixteen registers."""
# The same of the slices of `kernels.coarse`.
assert _SLICES_AT_ONCE * 2 * 2 * 15 * 128 <= _INT16_MAX

_BYTE, _SHORT, _WORD, _INDEX = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BYTES, _SHORTS = ir.VectorType(_BYTE, LANES), ir.VectorType(_SHORT, LANES // 2)
_WORDS, _WIDE = ir.VectorType(_WORD, LANES // 4), ir.VectorType(_WORD, LANES // 2)


@intrinsic
def packed_dot(_context: Any, packed: Any, at: Any, sketch: Any) -> Any:
    """packed_dot(packed, at, sketch): as `kernels.sketches.packed_dot`, for sketches of 192 components."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        multiply_add = _declared(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, _BYTES, _BYTES)
        sum_of = _declared(builder, "llvm.vector.reduce.add.v16i32", _WORD, _WIDE)
        mask, shift = (_splat(_BYTES, value) for value in (15, 4))
        row = builder.gep(_data(context, builder, signature, arguments, 0), [arguments[1]])
        column = _data(context, builder, signature, arguments, 2)
        total = _splat(_SHORTS, 0)
        for offset in range(0, _HALF, LANES):
            both = _load(builder, row, ir.Constant(_INDEX, offset))
            halves = builder.and_(both, mask), builder.lshr(both, shift)
            for half, start in zip(halves, (offset, _HALF + offset), strict=True):
                other = _load(builder, column, ir.Constant(_INDEX, start))
                total = builder.add(total, builder.call(multiply_add, [half, other]))
        return builder.call(sum_of, [builder.sext(total, _WIDE)])

    return types.int32(packed, types.int64, sketch), generate


@intrinsic
def dot_blocks(_context: Any, a: Any, b: Any, blocks: Any) -> Any:
    """dot_blocks(a, b, blocks): inner product of the first LANES x blocks components of two codes (d,) int8.

    The magnitudes of a with the components of b under the signs of a: two products are at most 2 x 127 x 127, which
    an int16 lane holds. Components must not be -128.
    """
    if not all(isinstance(kind, types.Array) and (kind.dtype, kind.layout) == (types.int8, "C") for kind in (a, b)):
        raise TypingError(f"dot_blocks takes contiguous int8, not {a} and {b}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with_sign = _declared(builder, "llvm.x86.avx2.psign.b", _BYTES, _BYTES, _BYTES)
        multiply_add = _declared(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, _BYTES, _BYTES)
        add_pairs = _declared(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, _SHORTS, _SHORTS)
        sum_of = _declared(builder, "llvm.vector.reduce.add.v8i32", _WORD, _WORDS)
        first, second = (_data(context, builder, signature, arguments, i) for i in (0, 1))
        total = cgutils.alloca_once_value(builder, _splat(_WORDS, 0))  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, arguments[2]) as loop:
            offset = builder.mul(loop.index, ir.Constant(_INDEX, LANES))
            left, right = _load(builder, first, offset), _load(builder, second, offset)
            signed = builder.call(with_sign, [left, left]), builder.call(with_sign, [right, left])
            pairs = builder.call(add_pairs, [builder.call(multiply_add, signed), _splat(_SHORTS, 1)])
            builder.store(builder.add(builder.load(total), pairs), total)
        return builder.call(sum_of, [builder.load(total)])

    return types.int32(a, b, types.int64), generate


@intrinsic
def coarse_dots(_context: Any, packed: Any, code: Any, dots: Any) -> Any:
    """coarse_dots(packed, code, dots): as `kernels.coarse.coarse_dots`.

    A register is 4 components of 8 coarse codes, in both halves of its bytes. An int16 lane takes four products of each
    of four slices before it is widened.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        multiply_add = _declared(builder, "llvm.x86.avx2.pmadd.ub.sw", _SHORTS, _BYTES, _BYTES)
        add_pairs = _declared(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, _SHORTS, _SHORTS)
        rows, column, out = (_data(context, builder, signature, arguments, i) for i in range(3))
        blocks, slices = (_size(context, builder, signature, arguments, 0, axis) for axis in (0, 1))
        middle = builder.gep(column, [builder.mul(slices, _index(_SLICE))])
        with cgutils.for_range(builder, blocks) as block:
            first = builder.mul(block.index, slices)
            totals = [cgutils.alloca_once(builder, _WORDS) for _ in range(_OCTETS)]  # type: ignore[no-untyped-call]
            for total in totals:
                builder.store(_splat(_WORDS, 0), total)
            with cgutils.for_range(builder, builder.udiv(slices, _index(_SLICES_AT_ONCE))) as loop:
                pairs = [_splat(_SHORTS, 0)] * _OCTETS
                for step in range(_SLICES_AT_ONCE):
                    number = builder.add(builder.mul(loop.index, _index(_SLICES_AT_ONCE)), _index(step))
                    at = builder.mul(number, _index(_SLICE))
                    row = builder.mul(builder.add(first, number), _index(_OCTETS * LANES))
                    low, high = _repeated(builder, column, at), _repeated(builder, middle, at)
                    for i in range(_OCTETS):
                        both = _load(builder, rows, builder.add(row, _index(i * LANES)))
                        lower = builder.call(multiply_add, [builder.and_(both, _splat(_BYTES, 15)), low])
                        upper = builder.call(multiply_add, [builder.lshr(both, _splat(_BYTES, 4)), high])
                        pairs[i] = builder.add(pairs[i], builder.add(lower, upper))
                for total, pair in zip(totals, pairs, strict=True):
                    wide = builder.call(add_pairs, [pair, _splat(_SHORTS, 1)])
                    builder.store(builder.add(builder.load(total), wide), total)
            for i, total in enumerate(totals):
                at = builder.add(builder.mul(block.index, _index(_OCTETS * LANES // 4)), _index(i * LANES // 4))
                place = builder.bitcast(builder.gep(out, [at]), _WORDS.as_pointer())
                builder.store(builder.load(total), place).align = 4
        return context.get_dummy_value()

    return types.void(packed, code, dots), generate


@intrinsic
def combine(_context: Any, points: Any, axes: Any, sums: Any) -> Any:
    """combine(points, axes, sums): as `kernels.product.combine`. Half the time of a product in float32, which takes
    as many bits for a number as this does for two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        add_pairs = _declared(builder, "llvm.x86.avx2.pmadd.wd", _WORDS, _SHORTS, _SHORTS)
        rows, columns, out = (
            builder.bitcast(_data(context, builder, signature, arguments, i), _BYTE.as_pointer()) for i in range(3)
        )
        count, groups, pairs = (_size(context, builder, signature, arguments, *of) for of in ((0, 0), (1, 0), (1, 1)))
        row_bytes, group_bytes, out_bytes = (
            builder.mul(size, _index(unit)) for size, unit in ((pairs, 4), (pairs, LANES), (groups, LANES))
        )
        with cgutils.for_range(builder, builder.udiv(groups, _index(_GROUPS))) as group:
            first = builder.mul(group.index, _index(_GROUPS))
            starts = [builder.mul(builder.add(first, _index(g)), group_bytes) for g in range(_GROUPS)]
            with cgutils.for_range(builder, builder.udiv(count, _index(_POINTS))) as some:
                numbers = [builder.add(builder.mul(some.index, _index(_POINTS)), _index(i)) for i in range(_POINTS)]
                points_at = [builder.mul(number, row_bytes) for number in numbers]
                sums_at_once = range(_POINTS * _GROUPS)
                totals = [cgutils.alloca_once(builder, _WORDS) for _ in sums_at_once]  # type: ignore[no-untyped-call]
                for total in totals:
                    builder.store(_splat(_WORDS, 0), total)
                with cgutils.for_range(builder, pairs) as pair:
                    at = builder.mul(pair.index, _index(LANES))
                    both = [
                        builder.bitcast(_load(builder, columns, builder.add(start, at)), _SHORTS) for start in starts
                    ]
                    for i in range(_POINTS):
                        place = builder.add(points_at[i], builder.mul(pair.index, _index(4)))
                        point = builder.bitcast(_repeated(builder, rows, place), _SHORTS)
                        for g in range(_GROUPS):
                            total = totals[i * _GROUPS + g]
                            more = builder.call(add_pairs, [point, both[g]])
                            builder.store(builder.add(builder.load(total), more), total)
                for i in range(_POINTS):
                    for g in range(_GROUPS):
                        at = builder.mul(builder.add(first, _index(g)), _index(LANES))
                        at = builder.add(builder.mul(numbers[i], out_bytes), at)
                        place = builder.bitcast(builder.gep(out, [at]), _WORDS.as_pointer())
                        builder.store(builder.load(totals[i * _GROUPS + g]), place).align = 4
        return context.get_dummy_value()

    return types.void(points, axes, sums), generate


def _repeated(builder: Any, array: Any, offset: Any) -> Any:
    """Four bytes in every word of a register."""
    word = builder.load(builder.bitcast(builder.gep(array, [offset]), _WORD.as_pointer()))
    word.align = 1
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), word, ir.Constant(_WORD, 0))
    every = builder.shuffle_vector(one, ir.Constant(_WORDS, ir.Undefined), ir.Constant(_WORDS, [0] * (LANES // 4)))
    return builder.bitcast(every, _BYTES)


def _declared(builder: Any, name: str, result: Any, *parameters: Any) -> Any:
    kind = ir.FunctionType(result, parameters)
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


def _data(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Where the array that is argument i lies."""
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


def _size(context: Any, builder: Any, signature: Any, arguments: Any, i: int, axis: int) -> Any:
    """Of an axis of the array that is argument i."""
    shape = context.make_array(signature.args[i])(context, builder, arguments[i]).shape
    return builder.extract_value(shape, axis)


def _index(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _load(builder: Any, array: Any, offset: Any) -> Any:
    value = builder.load(builder.bitcast(builder.gep(array, [offset]), _BYTES.as_pointer()))
    value.align = 1
    return value


def _splat(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
