"""Operations on whole lines of LANES floats, which LLVM then maps to the vectors of the machine.

Written out as LLVM IR because compiled Python cannot say that two arrays do not overlap, without
which such short loops do not become vector code. Nothing here checks bounds: callers do.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as _intrinsic
from numba.np.arrayobj import make_array

LANES = 32
intrinsic: Any = _intrinsic
LINE = ir.VectorType(ir.FloatType(), LANES)
_EIGHT = ir.VectorType(ir.FloatType(), 8)
_INT = ir.IntType(32)
WHOLES = ir.VectorType(_INT, LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
# Low and high halves of interleaving by one, two and four elements inside halves of eight.
_SHUFFLES = (
    ([0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    ([0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)
_ORDER = (0, 2, 1, 3, 4, 6, 5, 7)  # which part these three steps leave a lane in


def array_data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return make_array(kind)(context, builder, array).data


def vector_place(builder: Any, data: Any, at: Any, line: int, kind: Any) -> Any:
    """Point at a vector that starts `line` lines after element `at`."""
    index = builder.add(at, ir.Constant(at.type, line * LANES))
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(LINE, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def same_lanes(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * LANES)


def _weigh(num_taps: int, adding: bool) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = array_data(context, builder, signature.args[0], args[0])
        target = vector_place(
            builder,
            array_data(context, builder, signature.args[2 + num_taps], args[2 + num_taps]),
            args[-1],
            0,
            LINE,
        )
        total = builder.load(target, align=4) if adding else None
        for tap in range(num_taps):
            line = builder.load(vector_place(builder, source, args[1], tap, LINE), align=4)
            product = builder.fmul(line, splat(builder, args[2 + tap]))
            total = product if total is None else builder.fadd(total, product)
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return generate


@intrinsic
def weigh2(context: Any, lines: Any, at: Any, w0: Any, w1: Any, out: Any, to: Any) -> Any:
    """out[to:] = w0 * the line at lines[at:] + w1 * the next."""
    return types.void(lines, types.int64, w0, w1, out, types.int64), _weigh(2, False)


@intrinsic
def weigh3(context: Any, lines: Any, at: Any, w0: Any, w1: Any, w2: Any, out: Any, to: Any) -> Any:
    """As weigh2, of three lines."""
    return types.void(lines, types.int64, w0, w1, w2, out, types.int64), _weigh(3, False)


@intrinsic
def weigh4(
    context: Any, lines: Any, at: Any, w0: Any, w1: Any, w2: Any, w3: Any, out: Any, to: Any
) -> Any:
    """As weigh2, of four lines."""
    return types.void(lines, types.int64, w0, w1, w2, w3, out, types.int64), _weigh(4, False)


@intrinsic
def add_weighed(context: Any, lines: Any, at: Any, w0: Any, out: Any, to: Any) -> Any:
    """out[to:] += w0 * the line at lines[at:]."""
    return types.void(lines, types.int64, w0, out, types.int64), _weigh(1, True)


@intrinsic
def turn8(context: Any, lines: Any, at: Any, out: Any, to: Any) -> Any:
    """out[to + i * LANES + j] = lines[at + j * LANES + i] for i, j < 8."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = array_data(context, builder, signature.args[0], args[0])
        target = array_data(context, builder, signature.args[2], args[2])
        parts = [
            builder.load(vector_place(builder, source, args[1], j, _EIGHT), align=4)
            for j in range(8)
        ]
        # After the first two steps parts[4 * a + b] holds lanes b and b + 4 of lines 4 * a to 4 * a
        # + 3.
        for distance, shuffles in zip((1, 2, 4), _SHUFFLES, strict=True):
            merged = list(parts)
            for i in range(8):
                if not i & distance:
                    for half, order in enumerate(shuffles):
                        mask = ir.Constant(ir.VectorType(_INT, 8), order)
                        merged[i + half * distance] = builder.shuffle_vector(
                            parts[i], parts[i + distance], mask
                        )
            parts = merged
        for i in range(8):
            builder.store(
                parts[_ORDER[i]], vector_place(builder, target, args[3], i, _EIGHT), align=4
            )
        return context.get_dummy_value()

    return types.void(lines, types.int64, out, types.int64), generate


def clamped(builder: Any, value: Any) -> Any:
    """Cut floats off to whole numbers of 0 to 255."""
    whole = builder.fptosi(value, WHOLES)
    low = same_lanes(WHOLES, 0)
    high = same_lanes(WHOLES, 255)
    whole = builder.select(builder.icmp_signed(">", whole, low), whole, low)
    return builder.select(builder.icmp_signed("<", whole, high), whole, high)


def colours_of(builder: Any, luma: Any, blue: Any, red: Any) -> tuple[Any, Any, Any]:
    """Convert lines of YCbCr, centred on 0, to red, green and blue: cut off, they are rounded."""

    def times(line: Any, factor: float) -> Any:
        return builder.fmul(line, same_lanes(LINE, factor))

    luma = builder.fadd(luma, same_lanes(LINE, 128.5))
    greener = builder.fadd(luma, times(blue, -0.344136))
    return (
        builder.fadd(luma, times(red, 1.402)),
        builder.fadd(greener, times(red, -0.714136)),
        builder.fadd(luma, times(blue, 1.772)),
    )


def _to_bytes(builder: Any, value: Any) -> Any:
    return builder.trunc(clamped(builder, value), _BYTES)


@intrinsic
def store_grey(context: Any, planes: Any, out: Any, to: Any) -> Any:
    """out[to:] = the bytes of the line at planes[0:], which is centred on 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = array_data(context, builder, signature.args[0], args[0])
        zero = ir.Constant(ir.IntType(64), 0)
        line = builder.load(vector_place(builder, source, zero, 0, LINE), align=4)
        values = _to_bytes(builder, builder.fadd(line, same_lanes(LINE, 128.5)))
        target = builder.gep(array_data(context, builder, signature.args[1], args[1]), [args[2]])
        builder.store(values, builder.bitcast(target, _BYTES.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(planes, out, types.int64), generate


@intrinsic
def store_rgb(context: Any, planes: Any, out: Any, to: Any) -> Any:
    """out[to:] = the bytes of RGB pixels from three lines of YCbCr at planes[0:], all centred on 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = array_data(context, builder, signature.args[0], args[0])
        zero = ir.Constant(ir.IntType(64), 0)
        target = array_data(context, builder, signature.args[1], args[1])
        luma, blue, red = (
            builder.load(vector_place(builder, source, zero, i, LINE), align=4) for i in range(3)
        )

        channels = [_to_bytes(builder, colour) for colour in colours_of(builder, luma, blue, red)]
        everything = ir.Constant(ir.VectorType(_INT, 2 * LANES), list(range(2 * LANES)))
        first = builder.shuffle_vector(channels[0], channels[1], everything)
        second = builder.shuffle_vector(channels[2], ir.Constant(_BYTES, ir.Undefined), everything)
        order = [i % 3 * LANES + i // 3 for i in range(3 * LANES)]
        mixed = builder.shuffle_vector(
            first, second, ir.Constant(ir.VectorType(_INT, 3 * LANES), order)
        )
        place = builder.bitcast(builder.gep(target, [args[2]]), mixed.type.as_pointer())
        builder.store(mixed, place, align=1)
        return context.get_dummy_value()

    return types.void(planes, out, types.int64), generate


@intrinsic
def copy_run(context: Any, data: Any, at: Any, out: Any, to: Any) -> Any:
    """Copy data[at : at + LANES], bytes, to out[to:]; a bit of the result is set for each FF."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (
            builder.gep(array_data(context, builder, signature.args[i], args[i]), [args[i + 1]])
            for i in (0, 2)
        )
        run = builder.load(builder.bitcast(source, _BYTES.as_pointer()), align=1)
        builder.store(run, builder.bitcast(target, _BYTES.as_pointer()), align=1)
        highest = ir.Constant(_BYTES, [ir.Constant(_BYTES.element, 0xFF)] * LANES)
        found = builder.icmp_unsigned("==", run, highest)
        return builder.zext(builder.bitcast(found, _INT), ir.IntType(64))

    return types.uint64(data, types.int64, out, types.int64), generate


@intrinsic
def trailing_zeros(context: Any, value: Any) -> Any:
    """Count the zeros below the lowest bit of uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))  # those of 0 have a count

    return types.int64(types.uint64), generate
