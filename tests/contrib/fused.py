"""What ONNX Runtime's optimiser makes of several operators on floats, and operators with a form of their own."""

import math

import numpy as np

from cases import Case, Const, either, extent, extents, flag, floats, given, operator, optional

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x):
    x = x.astype(np.float64)
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@operator("FusedMatMul", "TransposeMatMul")
def matmul(rng, name):
    m, k, n = extents(rng, 3, 1, 20)
    batch = extents(rng, extent(rng, 0, 2), 1, 4)
    attributes = given(rng, {"transA": flag(rng), "transB": flag(rng), "alpha": float(rng.uniform(0.1, 2))})
    rows_first = [0, 0]
    if name == "FusedMatMul" and batch:
        rows_first = [flag(rng, 0.3), flag(rng, 0.3)]
        attributes.update(transBatchA=rows_first[0], transBatchB=rows_first[1])
    operands = []
    for (rows, columns), first, which in zip([(m, k), (k, n)], rows_first, ["transA", "transB"]):
        if attributes.get(which):
            rows, columns = columns, rows
        shape = [rows, *batch, columns] if first else [*batch, rows, columns]
        operands.append(floats(rng, *shape))
    return Case(name, [operands[0], either(rng, operands[1])], attributes)


ACTIVATIONS = {"Relu": [], "Tanh": [], "Sigmoid": [], "LeakyRelu": ["alpha"], "HardSigmoid": ["alpha", "beta"]}


@operator("FusedGemm")
def gemm(rng, name):
    m, k, n = extents(rng, 3, 1, 20)
    activations = {**ACTIVATIONS, "Elu": ["alpha"], "Softplus": [], "Softsign": [], "ThresholdedRelu": ["alpha"],
                   "Selu": ["alpha", "gamma"]}
    activation = str(rng.choice(list(activations)))
    attributes = given(rng, {"transA": flag(rng), "transB": flag(rng), "alpha": float(rng.uniform(0.1, 2)),
                             "beta": float(rng.uniform(0.1, 2))})
    attributes["activation"] = activation
    attributes.update({f"activation_{p}": float(rng.uniform(0.05, 1)) for p in activations[activation]})
    a = floats(rng, *([k, m] if attributes.get("transA") else [m, k]))
    b = floats(rng, *([n, k] if attributes.get("transB") else [k, n]))
    addend = [floats(rng, n), floats(rng, m, 1), floats(rng, m, n)][extent(rng, 0, 2)]
    return Case(name, [a, either(rng, b), optional(rng, addend, 0.7)], attributes)


def window(rng, spatial):
    """Kernel and attributes of a convolution or pooling that fits extents."""
    kernel = [extent(rng, 1, 3) for _ in spatial]
    attributes = {"kernel_shape": kernel}
    attributes.update(given(rng, {"strides": [extent(rng, 1, min(k, 2)) for k in kernel]}))
    if rng.random() < 0.3:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    else:
        attributes.update(given(rng, {"pads": [extent(rng, 0, k - 1) for k in kernel * 2],
                                      "dilations": [extent(rng, 1, 2) for _ in spatial]}))
    return kernel, attributes


@operator("FusedConv")
def conv(rng, name):
    spatial = extents(rng, 2, 7, 12)
    kernel, attributes = window(rng, spatial)
    groups = int(rng.choice([1, 1, 2]))
    channels, filters = groups * extent(rng, 1, 5), groups * extent(rng, 1, 5)
    activation = str(rng.choice(["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid"]))
    attributes.update(group=groups, activation=activation)
    parameters = {"LeakyRelu": [0.125], "Clip": [-0.5, 0.75], "HardSigmoid": [0.25, 0.4]}.get(activation)
    if parameters:
        attributes["activation_params"] = parameters
    x, w = floats(rng, extent(rng, 1, 2), channels, *spatial), floats(rng, filters, channels // groups, *kernel)
    return Case(name, [x, either(rng, w), optional(rng, floats(rng, filters))], attributes)


@operator("Gelu", "FastGelu", "QuickGelu", "BiasGelu")
def gelus(rng, name):
    x = floats(rng, *extents(rng, 2), extent(rng, 1, 40), scale=3)
    bias = {"FastGelu": optional(rng, floats(rng, x.shape[-1])), "BiasGelu": either(rng, floats(rng, x.shape[-1]))}
    attributes = given(rng, {"alpha": float(rng.uniform(0.5, 2))}) if name == "QuickGelu" else {}
    return Case(name, [x, bias.get(name)], attributes)


@operator("BiasAdd")
def bias_add(rng, name):
    n, s, c = extents(rng, 3, 1, 20)
    x, bias, skip = floats(rng, n, s, c), floats(rng, c), floats(rng, n, s, c)
    return Case(name, [x, either(rng, bias), skip], reference=lambda case, x, bias, skip: x + bias + skip)


@operator("BiasSplitGelu")
def bias_split_gelu(rng, name):
    n, s, c = extents(rng, 3, 1, 20)

    def reference(case, x, bias):
        left, right = np.split(x + bias, 2, axis=-1)
        return (left * gelu(right)).astype(np.float32)

    return Case(name, [floats(rng, n, s, 2 * c), either(rng, floats(rng, 2 * c))], reference=reference)


@operator("BiasSoftmax")
def bias_softmax(rng, name):
    shape = extents(rng, 4, 1, 6)
    axis, inner = extent(rng, 1, 3), flag(rng)
    bias = [n if (d >= axis or (inner and d == 0)) else 1 for d, n in enumerate(shape)]

    def reference(case, x, bias):
        y = (x + bias).astype(np.float64).reshape(math.prod(shape[:axis]), -1)
        e = np.exp(y - y.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True)).reshape(shape).astype(np.float32)

    attributes = {"axis": axis if flag(rng) else axis - 4, "is_inner_broadcast": inner}
    return Case(name, [floats(rng, *shape), floats(rng, *bias)], attributes, reference=reference)


@operator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_layer_norm(rng, name):
    b, s, h = extent(rng, 1, 3), extent(rng, 1, 6), extent(rng, 2, 40)
    skip = [(b, s, h), (1, s, h), (s, h)][extent(rng, 0, 2)]
    inputs = [floats(rng, b, s, h), floats(rng, *skip), either(rng, floats(rng, h))]
    if name == "SkipLayerNormalization":
        inputs.append(optional(rng, floats(rng, h)))
    inputs.append(optional(rng, floats(rng, h)))
    dtype = rng.choice([np.float32, np.float32, np.float16])
    inputs = [x and Const(x.array.astype(dtype)) if isinstance(x, Const) or x is None else x.astype(dtype)
              for x in inputs]
    return Case(name, inputs, given(rng, {"epsilon": 1e-3}), (True, False, False, bool(flag(rng))), tolerance=1e-4)


@operator("SimplifiedLayerNormalization", "LayerNormalization")
def layer_norm(rng, name):
    shape = extents(rng, 3, 2, 12)
    axis = extent(rng, -3, 2)
    inner = shape[axis:]
    inputs = [floats(rng, *shape), either(rng, floats(rng, *inner))]
    outputs = (True, bool(flag(rng)))
    if name == "LayerNormalization":
        inputs.append(optional(rng, floats(rng, *inner)))
        outputs = (True, outputs[1], outputs[1])
    attributes = {"axis": axis, **given(rng, {"epsilon": 1e-3, "stash_type": 1})}
    return Case(name, inputs, attributes, outputs, domain="", opset=int(rng.choice([12, 16])), tolerance=1e-4)


@operator("EmbedLayerNormalization")
def embed(rng, name):
    b, s, h = extent(rng, 1, 3), extent(rng, 1, 6), extent(rng, 2, 30)
    words, positions, segments = 11, s + extent(rng, 0, 3), 3
    ids = lambda count, *shape: rng.integers(0, count, shape).astype(np.int32)
    tables = [Const(floats(rng, n, h)) for n in (words, positions, segments)]
    segmented = flag(rng)
    position_ids = ids(positions, b if flag(rng) else 1, s) if flag(rng) else None
    mask = ids(2, b, s) if flag(rng) else None
    inputs = [ids(words, b, s), ids(segments, b, s) if segmented else None, tables[0], tables[1],
              tables[2] if segmented else None, Const(floats(rng, h)), Const(floats(rng, h)), mask, position_ids]
    outputs = (True, mask is not None or bool(flag(rng)), bool(flag(rng)))
    return Case(name, inputs, given(rng, {"epsilon": 1e-3}), outputs, tolerance=1e-4)


@operator("GroupNorm", "SkipGroupNorm")
def group_norm(rng, name):
    n, h, w, groups = extent(rng, 1, 2), extent(rng, 1, 5), extent(rng, 1, 5), extent(rng, 1, 4)
    c = groups * extent(rng, 1, 4)
    last = flag(rng, 0.7)
    activation = flag(rng)
    attributes = {"activation": activation, "groups": groups, **given(rng, {"epsilon": 1e-3})}
    if not last or flag(rng):
        attributes["channels_last"] = last
    shape = [n, h, w, c] if last else [n, c, h, w]
    inputs = [floats(rng, *shape), either(rng, floats(rng, c)), either(rng, floats(rng, c))]
    if name == "SkipGroupNorm":
        skip = [shape, [n, c], [n, 1, 1, c] if last else [n, c, 1, 1]][extent(rng, 0, 2)]
        inputs += [floats(rng, *skip), optional(rng, floats(rng, c))]

    def reference(case, x, gamma, beta, skip=None, bias=None):
        first = lambda a: np.moveaxis(a, -1, 1) if last else a
        x = first(x).astype(np.float64)
        if skip is not None:
            x = x + (skip[:, :, None, None] if skip.ndim == 2 else first(skip))
        if bias is not None:
            x = x + bias[:, None, None]
        grouped = x.reshape(n, groups, -1)
        spread = np.sqrt(grouped.var(2, keepdims=True) + attributes.get("epsilon", 1e-5))
        y = ((grouped - grouped.mean(2, keepdims=True)) / spread).reshape(n, c, h, w)
        y = y * gamma[:, None, None] + beta[:, None, None]
        y = y * sigmoid(y) if activation else y
        back = lambda a: (np.moveaxis(a, 1, -1) if last else a).astype(np.float32)
        return back(y), back(x)

    outputs = (True, bool(flag(rng))) if name == "SkipGroupNorm" else (True,)
    return Case(name, inputs, attributes, outputs, tolerance=1e-4, reference=reference)


@operator("Pad")
def pad(rng, name):
    shape = extents(rng, 2, 3, 6)
    mode = str(rng.choice(["constant", "reflect", "edge"]))
    pads = rng.integers(0 if mode != "constant" else -1, 3, 4).astype(np.int64)
    inputs = [floats(rng, *shape), Const(pads if flag(rng) else pads.reshape(1, 4))]
    if mode == "constant":
        inputs.append(optional(rng, floats(rng, *([1] if flag(rng) else []))))
    return Case(name, inputs, {"mode": mode} if mode != "constant" or flag(rng) else {})


@operator("Range")
def numbers(rng, name):
    dtype = rng.choice([np.float32, np.float64, np.int16, np.int32, np.int64])
    start, distance, step = extent(rng, -5, 5), extent(rng, 0, 20), extent(rng, 1, 3)
    if flag(rng):
        distance, step = -distance, -step
    shape = [1] if flag(rng) else []
    values = [np.full(shape, v, dtype) for v in (start, start + distance, step)]
    inputs = [Const(v) for v in values]
    if step == 1 and flag(rng):
        inputs.pop()
    return Case(name, inputs)


@operator("com.microsoft.Trilu")
def trilu(rng, name):
    dtype = rng.choice([np.float32, np.float64, np.int64])
    x = rng.integers(0, 9, extents(rng, 3)).astype(dtype)
    k = Const(np.array(extent(rng, -3, 3), np.int64)) if flag(rng) else None
    return Case(name, [x, k], given(rng, {"upper": flag(rng)}))


@operator("com.microsoft.Unique")
def unique(rng, name):
    x = rng.integers(0, 6, extent(rng, 1, 20)).astype(np.float32)
    return Case(name, [either(rng, x)], outputs=(True, True, True))


@operator("ExpandDims")
def expand_dims(rng, name):
    shape = extents(rng, extent(rng, 0, 3))
    at = extent(rng, -len(shape) - 1, len(shape))
    return Case(name, [floats(rng, *shape), Const(np.array(at, np.int32))])


@operator("com.microsoft.GatherND")
def gather_nd(rng, name):
    shape = extents(rng, 3, 2, 5)
    depth = extent(rng, 1, 3)
    outer = extents(rng, extent(rng, 1, 2), 1, 4)
    indices = np.stack([rng.integers(0, n, outer) for n in shape[:depth]], -1)
    return Case(name, [floats(rng, *shape), either(rng, indices.astype(rng.choice([np.int32, np.int64])))])


@operator("Inverse")
def inverse(rng, name):
    n = extent(rng, 1, 8)
    x = floats(rng, *extents(rng, extent(rng, 0, 2), 1, 3), n, n) + 4 * np.eye(n, dtype=np.float32)
    return Case(name, [either(rng, x)], tolerance=1e-4)


@operator("CDist")
def distances(rng, name):
    dtype = rng.choice([np.float32, np.float64])
    m, k, n = extents(rng, 3, 1, 20)
    metric = {"metric": str(rng.choice(["euclidean", "sqeuclidean"]))} if flag(rng) else {}
    # Matrix products lose digits where differences are small.
    return Case(name, [floats(rng, m, n, dtype=dtype), floats(rng, k, n, dtype=dtype)], metric, tolerance=1e-4)


@operator("ComplexMul", "ComplexMulConj")
def complex_product(rng, name):
    shape = extents(rng, 2)
    other = [n if flag(rng) else 1 for n in shape]

    def reference(case, a, b):
        a, b = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
        y = a * (b.conj() if name == "ComplexMulConj" else b)
        return np.stack([y.real, y.imag], -1).astype(np.float32)

    return Case(name, [floats(rng, *shape, 2), floats(rng, *other, 2)], reference=reference)
