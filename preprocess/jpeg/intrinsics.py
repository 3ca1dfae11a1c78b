"""Machine operations that compiled Python cannot say: 8 bytes at once, counting bits, vectors.

Nothing here checks bounds: callers do. Products and sums are rounded one by one and sums have one
order, so that every CPU gives the same bits.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from shards.tiles.vectors import (
    LANES,
    LINE,
    WHOLES,
    array_data,
    clamped,
    colours_of,
    intrinsic,
    same_lanes,
    splat,
    vector_place,
)

_INT16 = ir.IntType(16)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_BLOCK = ir.VectorType(_INT16, 64)
_SHORTS = ir.VectorType(_INT16, LANES)
_HALF = ir.VectorType(ir.FloatType(), LANES // 2)
_EXACT = ir.Constant(ir.IntType(1), 0)  # counting the zeros of 0 has a result


def _at(context: Any, builder: Any, signature: Any, args: Any, number: int, kind: Any) -> Any:
    """Point at a `kind` in the array that is argument `number`, where the next argument says."""
    data = array_data(context, builder, signature.args[number], args[number])
    return vector_place(builder, data, args[number + 1], 0, kind)


@intrinsic
def load64(context: Any, data: Any, at: Any) -> Any:
    """Read data[at : at + 8], bytes, as a big-endian number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _at(context, builder, signature, args, 0, _INT64)
        return builder.bswap(builder.load(place, align=1))

    return types.uint64(data, types.uint64), generate


@intrinsic
def store64(context: Any, data: Any, at: Any, value: Any) -> Any:
    """Write a number big-endian to data[at : at + 8], bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _at(context, builder, signature, args, 0, _INT64)
        builder.store(builder.bswap(args[2]), place, align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), generate


@intrinsic
def leading_zeros(context: Any, value: Any) -> Any:
    """Count the zeros above the highest bit of a number's lower 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.ctlz(builder.trunc(args[0], _INT32), _EXACT), _INT64)

    return types.int64(types.int64), generate


@intrinsic
def nonzero64(context: Any, values: Any, at: Any) -> Any:
    """Tell which of the 64 int16 at values[at:] are not zero: uint64, the first in its lowest bit."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _at(context, builder, signature, args, 0, _BLOCK)
        zeros = ir.Constant(_BLOCK, [ir.Constant(_INT16, 0)] * 64)
        some = builder.icmp_signed("!=", builder.load(place, align=2), zeros)
        return builder.bitcast(some, _INT64)

    return types.uint64(values, types.int64), generate


@intrinsic
def weigh_all(
    context: Any, lines: Any, at: Any, count: Any, weights: Any, first: Any, out: Any, to: Any
) -> Any:
    """out[to:] = the sum of the `count` lines from lines[at], times weights[first:]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = array_data(context, builder, signature.args[0], args[0])
        factors = array_data(context, builder, signature.args[3], args[3])
        total = cgutils.alloca_once_value(builder, same_lanes(LINE, 0.0))
        with cgutils.for_range(builder, args[2]) as loop:
            moved = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            place = vector_place(builder, source, builder.add(args[1], moved), 0, LINE)
            weight = builder.load(builder.gep(factors, [builder.add(args[4], loop.index)]))
            product = builder.fmul(builder.load(place, align=4), splat(builder, weight))
            builder.store(builder.fadd(builder.load(total), product), total)
        builder.store(builder.load(total), _at(context, builder, signature, args, 5, LINE), align=4)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(lines, whole, whole, weights, whole, out, whole), generate


@intrinsic
def clamp_line(context: Any, lines: Any, at: Any) -> Any:
    """Clamp the line at lines[at:] to what samples can be, -128 to 127."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _at(context, builder, signature, args, 0, LINE)
        line = builder.load(place, align=4)
        for order, limit in ((">", -128.0), ("<", 127.0)):
            bound = same_lanes(LINE, limit)
            line = builder.select(builder.fcmp_ordered(order, line, bound), line, bound)
        builder.store(line, place, align=4)
        return context.get_dummy_value()

    return types.void(lines, types.int64), generate


@intrinsic
def quantise_line(
    context: Any, lines: Any, at: Any, factors: Any, first: Any, out: Any, to: Any, filled: Any
) -> Any:
    """out[to:], int16, = the line at lines[at:] * factors[first:], rounded, ties to even.

    Bit i of filled[to // LANES], uint32, says that number i is not 0.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line, factor, target = (
            _at(context, builder, signature, args, number, kind)
            for number, kind in ((0, LINE), (2, LINE), (4, _SHORTS))
        )
        product = builder.fmul(builder.load(line, align=4), builder.load(factor, align=4))
        kind = ir.FunctionType(LINE, [LINE])
        rint = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32")
        whole = builder.trunc(builder.fptosi(builder.call(rint, [product]), WHOLES), _SHORTS)
        builder.store(whole, target, align=2)
        zeros = ir.Constant(_SHORTS, [ir.Constant(_INT16, 0)] * LANES)
        some = builder.bitcast(builder.icmp_signed("!=", whole, zeros), _INT32)
        number = builder.sdiv(args[5], ir.Constant(_INT64, LANES))
        bits = array_data(context, builder, signature.args[6], args[6])
        builder.store(some, builder.gep(bits, [number]), align=4)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(lines, whole, factors, whole, out, whole, filled), generate


def _sum_up(is_halved: bool) -> Any:
    """Make what adds a line of pixels to sums; halved chroma has a value for two pixels."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def chroma(number: int) -> Any:
            kind = _HALF if is_halved else LINE
            line = builder.load(_at(context, builder, signature, args, number, kind), align=4)
            twice = ir.Constant(WHOLES, [lane // 2 for lane in range(LANES)])
            return builder.shuffle_vector(line, line, twice) if is_halved else line

        luma = builder.load(_at(context, builder, signature, args, 0, LINE), align=4)
        sums = array_data(context, builder, signature.args[6], args[6])
        for channel, colour in enumerate(colours_of(builder, luma, chroma(2), chroma(4))):
            value = clamped(builder, colour)
            for line, addend in ((channel, value), (channel + 3, builder.mul(value, value))):
                place = vector_place(builder, sums, args[7], line, WHOLES)
                builder.store(builder.add(builder.load(place, align=4), addend), place, align=4)
        return context.get_dummy_value()

    return generate


@intrinsic
def add_line(
    context: Any, luma: Any, at: Any, blue: Any, b: Any, red: Any, r: Any, sums: Any, to: Any
) -> Any:
    """Add a line of pixels to sums[to:], six lines of uint32: R, G, B and their squares.

    The planes, centred on 0, become RGB bytes as in `store_rgb` before they are added.
    """
    whole = types.int64
    return types.void(luma, whole, blue, whole, red, whole, sums, whole), _sum_up(False)


@intrinsic
def add_halved_line(
    context: Any, luma: Any, at: Any, blue: Any, b: Any, red: Any, r: Any, sums: Any, to: Any
) -> Any:
    """As add_line, with chroma of half as many samples."""
    whole = types.int64
    return types.void(luma, whole, blue, whole, red, whole, sums, whole), _sum_up(True)
