"""Operators on quantised tensors."""

import numpy as np

from cases import Case, Const, either, extent, extents, flag, floats, given, operator, optional
from fused import window


def small(rng, dtype, *shape):
    """Integers of 7 bits: with more, sums of two products saturate on CPUs without dot products of bytes."""
    low, high = (0, 127) if dtype == np.uint8 else (-64, 63)
    return np.asarray(rng.integers(low, high + 1, shape), dtype)


def some_type(rng):
    return np.uint8 if flag(rng) else np.int8


def scale(rng, *shape):
    return Const(np.asarray(rng.uniform(0.01, 0.1, shape), np.float32))


def zero(rng, dtype, *shape):
    low, high = (100, 140) if dtype == np.uint8 else (-20, 20)
    return Const(np.asarray(rng.integers(low, high + 1, shape), dtype))


def quantized(rng, dtype, *shape):
    """A tensor with its scale and zero point, which is left out at times."""
    return [np.asarray(rng.integers(*((0, 256) if dtype == np.uint8 else (-128, 128)), shape), dtype), scale(rng),
            zero(rng, dtype)]


def dims(rng):
    return extents(rng, 2, 1, 5) + [extent(rng, 1, 40)]


@operator("QLinearAdd", "QLinearMul")
def binary(rng, name):
    dtype, shape = some_type(rng), dims(rng)
    other = [n if flag(rng, 0.7) else 1 for n in shape][extent(rng, 0, 2):]
    inputs = quantized(rng, dtype, *shape) + quantized(rng, dtype, *other) + [scale(rng), zero(rng, dtype)]
    return Case(name, inputs, steps=1)


@operator("QLinearSigmoid", "QLinearLeakyRelu")
def unary(rng, name):
    dtype = some_type(rng)
    attributes = given(rng, {"alpha": 0.25}) if name == "QLinearLeakyRelu" else {}
    scales = [scale(rng), zero(rng, dtype)] if name == "QLinearLeakyRelu" else \
        [Const(np.float32(1 / 256).reshape(())), Const(np.asarray(0 if dtype == np.uint8 else -128, dtype))]
    return Case(name, quantized(rng, dtype, *dims(rng)) + scales, attributes, steps=1)


@operator("QLinearSoftmax")
def softmax(rng, name):
    dtype, shape = some_type(rng), dims(rng)
    attributes = {"opset": int(rng.choice([11, 13])), "axis": extent(rng, -3, 2)}
    result = [Const(np.float32(1 / 256).reshape(())), Const(np.asarray(0 if dtype == np.uint8 else -128, dtype))]
    return Case(name, quantized(rng, dtype, *shape) + result, attributes, steps=1)


@operator("QLinearConcat")
def concat(rng, name):
    dtype, shape = some_type(rng), dims(rng)
    axis = extent(rng, -3, 2)
    inputs = [scale(rng), zero(rng, dtype)]
    for _ in range(extent(rng, 1, 3)):
        own = list(shape)
        own[axis] = extent(rng, 1, 5)
        inputs += quantized(rng, dtype, *own)
    return Case(name, inputs, {"axis": axis}, steps=1)


@operator("QLinearWhere")
def where(rng, name):
    dtype, shape = some_type(rng), dims(rng)
    condition = rng.integers(0, 2, shape).astype(bool)
    inputs = [condition] + quantized(rng, dtype, *shape) + quantized(rng, dtype, *shape)
    return Case(name, inputs + [scale(rng), zero(rng, dtype)], steps=1)


@operator("QLinearReduceMean")
def reduce_mean(rng, name):
    dtype, shape = some_type(rng), dims(rng)
    axes = sorted(int(a) for a in rng.choice(3, extent(rng, 1, 3), replace=False))
    inputs = quantized(rng, dtype, *shape) + [scale(rng), zero(rng, dtype)]

    def reference(case, x, xs, xz, ys, yz):
        numbers = (x.astype(np.int64) - int(xz)).astype(np.float64) * float(xs)
        mean = numbers.mean(tuple(axes), keepdims=bool(attributes.get("keepdims", 1)))
        limits = np.iinfo(dtype)
        return np.clip(np.rint(mean / float(ys)) + int(yz), limits.min, limits.max).astype(dtype)

    attributes = {"axes": axes, **given(rng, {"keepdims": flag(rng)})}
    return Case(name, inputs, attributes, steps=1, reference=reference)


@operator("QLinearAveragePool")
def average_pool(rng, name):
    dtype = some_type(rng)
    spatial = extents(rng, 2, 5, 9)
    _, attributes = window(rng, spatial)
    attributes.pop("dilations", None)
    attributes.update(given(rng, {"count_include_pad": flag(rng), "ceil_mode": flag(rng, 0.3)}))
    n, c = extents(rng, 2, 1, 5)
    last = flag(rng)
    if last:
        attributes["channels_last"] = 1
    shape = [n, *spatial, c] if last else [n, c, *spatial]
    return Case(name, quantized(rng, dtype, *shape) + [scale(rng), zero(rng, dtype)], attributes, steps=1)


@operator("QLinearGlobalAveragePool")
def global_average_pool(rng, name):
    dtype = some_type(rng)
    shape = [extent(rng, 1, 3), extent(rng, 1, 20), *extents(rng, 2, 1, 8)]
    attributes = {}
    if flag(rng):
        attributes["channels_last"] = 1
        shape = [shape[0], *shape[2:], shape[1]]
    return Case(name, quantized(rng, dtype, *shape) + [scale(rng), zero(rng, dtype)], attributes, steps=1)


@operator("NhwcMaxPool")
def max_pool(rng, name):
    spatial = extents(rng, 2, 5, 9)
    _, attributes = window(rng, spatial)
    attributes.update(given(rng, {"ceil_mode": flag(rng)}, 0.3))
    return Case(name, [small(rng, some_type(rng), extent(rng, 1, 2), *spatial, extent(rng, 1, 20))], attributes)


@operator("com.microsoft.QLinearConv")
def conv(rng, name):
    dtype = np.uint8
    weights = some_type(rng)
    spatial = extents(rng, 2, 7, 12)
    kernel, attributes = window(rng, spatial)
    groups = int(rng.choice([1, 1, 2]))
    channels, filters = groups * extent(rng, 1, 5), groups * extent(rng, 1, 5)
    last = flag(rng, 0.7)
    attributes.update(group=groups, channels_last=last)
    n = extent(rng, 1, 2)
    shape = [n, *spatial, channels] if last else [n, channels, *spatial]
    scales = scale(rng, filters) if flag(rng) else scale(rng)
    inputs = [small(rng, dtype, *shape), scale(rng), zero(rng, dtype),
              Const(small(rng, weights, filters, channels // groups, *kernel)), scales,
              Const(np.asarray(0 if weights == np.int8 else 60, weights)),
              Const(np.asarray(0.2, np.float32)), zero(rng, dtype),
              Const(rng.integers(-500, 500, filters).astype(np.int32)) if flag(rng) else None]
    return Case(name, inputs, attributes, steps=1)


@operator("QGemm")
def gemm(rng, name):
    m, k, n = extents(rng, 3, 1, 20)
    a_type, b_type = np.uint8, some_type(rng)
    attributes = given(rng, {"transA": flag(rng), "transB": flag(rng), "alpha": 0.5})
    a = small(rng, a_type, *([k, m] if attributes.get("transA") else [m, k]))
    b = small(rng, b_type, *([n, k] if attributes.get("transB") else [k, n]))
    columns = [n] if flag(rng) else []
    addend = [None, Const(rng.integers(-500, 500, n).astype(np.int32)),
              rng.integers(-500, 500, (m, n)).astype(np.int32)][extent(rng, 0, 2)]
    inputs = [a, scale(rng), zero(rng, a_type), either(rng, b), scale(rng, *columns), zero(rng, b_type, *columns), addend]
    if flag(rng):
        inputs += [Const(np.asarray(0.5, np.float32)), zero(rng, a_type)]
    return Case(name, inputs, attributes, steps=1)


@operator("MatMulIntegerToFloat")
def matmul_to_float(rng, name):
    m, k, n = extents(rng, 3, 1, 30)
    a_type, b_type = np.uint8, some_type(rng)
    batch = extents(rng, extent(rng, 0, 2), 1, 3)
    columns = [n] if flag(rng) else []
    inputs = [small(rng, a_type, *batch, m, k), either(rng, small(rng, b_type, k, n)), scale(rng),
              scale(rng, *columns), zero(rng, a_type) if flag(rng, 0.7) else None,
              zero(rng, b_type, *columns) if flag(rng, 0.7) else None, optional(rng, floats(rng, n))]
    return Case(name, inputs)


@operator("DynamicQuantizeMatMul")
def dynamic_matmul(rng, name):
    m, k, n = extents(rng, 3, 1, 30)
    b_type = some_type(rng)
    columns = [n] if flag(rng) else []
    inputs = [floats(rng, m, k), Const(small(rng, b_type, k, n)), scale(rng, *columns),
              zero(rng, b_type, *columns) if flag(rng, 0.7) else None, optional(rng, floats(rng, n))]
    # An element of A that lies between two integers may be either.
    return Case(name, inputs, tolerance=2e-3)


@operator("MatMulInteger16")
def matmul16(rng, name):
    m, k, n = extents(rng, 3, 1, 20)
    batch = extents(rng, extent(rng, 0, 2), 1, 3)
    numbers = lambda *shape: rng.integers(-3000, 3000, shape).astype(np.int16)
    return Case(name, [numbers(*batch, m, k), either(rng, numbers(k, n))])


@operator("QAttention")
def attention(rng, name):
    b, s, n, d = extent(rng, 1, 3), extent(rng, 1, 6), extent(rng, 1, 3), extent(rng, 1, 8)
    hidden, width = extent(rng, 1, 20), 3 * n * d
    a_type, b_type = np.uint8, some_type(rng)
    columns = [width] if flag(rng) else []
    p = extent(rng, 1, 4) if flag(rng, 0.4) else 0
    attributes = {"num_heads": n, **given(rng, {"unidirectional": flag(rng), "scale": 0.3}, 0.4)}
    mask = rng.integers(1, p + s + 1, b).astype(np.int32) if flag(rng) else None
    past = floats(rng, 2, b, n, p, d) if p else None
    inputs = [small(rng, a_type, b, s, hidden), Const(small(rng, b_type, hidden, width)), Const(floats(rng, width)),
              scale(rng), scale(rng, *columns), mask, zero(rng, a_type), zero(rng, b_type, *columns), past]
    return Case(name, inputs, attributes, (True, True) if p else (True,), tolerance=1e-4)


@operator("QEmbedLayerNormalization")
def embed(rng, name):
    b, s, h = extent(rng, 1, 3), extent(rng, 1, 6), extent(rng, 2, 30)
    words, positions, segments = 11, s + extent(rng, 0, 3), 3
    dtype = some_type(rng)
    ids = lambda count, *shape: rng.integers(0, count, shape).astype(np.int32)
    segmented = bool(flag(rng))
    tables = [Const(small(rng, dtype, n, h)) for n in (words, positions, segments)] + \
        [Const(small(rng, dtype, h)), Const(small(rng, dtype, h))]
    scales, zeros = [scale(rng) for _ in range(5)], [zero(rng, dtype) for _ in range(5)]
    if not segmented:
        tables[2] = scales[2] = zeros[2] = None
    inputs = [ids(words, b, s), ids(segments, b, s) if segmented else None, *tables,
              ids(2, b, s) if flag(rng) else None, *scales, *zeros]
    return Case(name, inputs, given(rng, {"epsilon": 1e-3}), (True, True), tolerance=1e-4)


@operator("GatherBlockQuantized")
def gather_blocks(rng, name):
    block = int(rng.choice([16, 32]))
    rows, columns = extent(rng, 2, 6), block * extent(rng, 1, 3)
    bits = int(rng.choice([4, 8]))
    packed = np.asarray(rng.integers(0, 256, (rows, columns * bits // 8)), np.uint8)
    scales = floats(rng, rows, columns // block)
    zeros = np.asarray(rng.integers(0, 256, (rows, -(-columns // block * bits // 8))), np.uint8) if flag(rng) else None
    indices = rng.integers(-rows, rows, extents(rng, extent(rng, 1, 2), 1, 4)).astype(np.int64)
    inputs = [Const(packed), indices, Const(scales), zeros if zeros is None else Const(zeros)]
    return Case(name, inputs, {"block_size": block, "bits": bits, "gather_axis": 0, "quantize_axis": 1})


@operator("MatMulNBits")
def matmul_nbits(rng, name):
    block = int(rng.choice([16, 32]))
    m, n, k = extent(rng, 1, 5), extent(rng, 1, 12), extent(rng, 1, 80)
    blocks = -(-k // block)
    packed = np.asarray(rng.integers(0, 256, (n, blocks, block // 2)), np.uint8)
    zeros = np.asarray(rng.integers(0, 256, (n, -(-blocks // 2))), np.uint8) if flag(rng) else None
    inputs = [floats(rng, m, k), Const(packed), Const(floats(rng, n, blocks, scale=0.1)),
              zeros if zeros is None else Const(zeros), None, optional(rng, floats(rng, n))]
    return Case(name, inputs, {"K": k, "N": n, "bits": 4, "block_size": block}, tolerance=1e-4)
