"""Small random networks of ONNX operators, for ONNX Runtime's optimiser."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cases import extent, flag, floats


class Builder:
    """A model in the making: nodes in order, each with one result."""

    def __init__(self, rng):
        self.rng, self.nodes, self.constants, self.count = rng, [], [], 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), self.name()))
        return self.constants[-1].name

    def weight(self, *shape):
        fan = np.prod(shape[1:]) if len(shape) > 1 else 1
        return self.constant(floats(self.rng, *shape, scale=1 / np.sqrt(fan)))

    def add(self, op, *inputs, **attributes):
        output = self.name()
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes))
        return output

    def model(self, inputs, output):
        infos = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
                 for name, x in inputs.items()]
        graph = helper.make_graph(self.nodes, "network", infos, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                                  self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def activation(b, x):
    kind = extent(b.rng, 0, 6)
    if kind == 0:
        return b.add("Relu", x)
    if kind == 1:
        return b.add("HardSwish", x)
    if kind == 2:
        return b.add("Clip", x, b.constant(np.float32(0)), b.constant(np.float32(6)))
    if kind == 3:
        return b.add("Mul", x, b.add("Sigmoid", x))
    if kind == 4:
        return b.add("LeakyRelu", x, alpha=0.125)
    if kind == 5:
        return b.add("Mul", x, b.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    return x


def conv(b, x, channels, filters, kernel=3, groups=1, stride=1):
    inputs = [x, b.weight(filters, channels // groups, kernel, kernel)]
    if flag(b.rng):
        inputs.append(b.weight(filters))
    x = b.add("Conv", *inputs, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups)
    if flag(b.rng):
        mean, variance = b.weight(filters), b.constant(b.rng.uniform(0.5, 2, filters).astype(np.float32))
        x = b.add("BatchNormalization", x, b.weight(filters), b.weight(filters), mean, variance)
    return activation(b, x)


def convolutional(rng):
    """Convolutions, depthwise ones, residuals, poolings, a classifier."""
    b = Builder(rng)
    size = 8 * extent(rng, 2, 3)
    feeds = {"x": floats(rng, extent(rng, 1, 2), 3, size, size)}
    channels = 8 * extent(rng, 1, 4)
    x = conv(b, "x", 3, channels, stride=extent(rng, 1, 2))
    for _ in range(extent(rng, 1, 4)):
        kind = extent(rng, 0, 6)
        if kind == 0:
            wider = 8 * extent(rng, 1, 6)
            y = conv(b, conv(b, x, channels, wider, 1), wider, wider, groups=wider)
            x = b.add("Add", conv(b, y, wider, channels, 1), x)
        elif kind == 1:
            x = b.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
        elif kind == 2:
            x = b.add("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1], count_include_pad=flag(rng))
        elif kind == 3:
            more = 8 * extent(rng, 1, 3)
            x = b.add("Concat", conv(b, x, channels, more), x, axis=1)
            channels += more
        elif kind == 4:
            scales = b.constant(np.array([1, 1, 2, 2], np.float32))
            if flag(rng):
                x = b.add("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                          nearest_mode="floor")
            else:
                x = b.add("Resize", x, "", scales, mode="linear",
                          coordinate_transformation_mode=str(rng.choice(["half_pixel", "asymmetric", "align_corners"])))
        elif kind == 5:
            gate = conv(b, b.add("GlobalAveragePool", x), channels, channels, 1)
            x = b.add("Mul", x, b.add("Sigmoid", gate))
        else:
            wider = 8 * extent(rng, 1, 4)
            x, channels = conv(b, x, channels, wider), wider
    if flag(rng):
        return b.model(feeds, x), feeds
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    x = b.add("Relu", b.add("Gemm", x, b.weight(channels, 10), b.weight(10)))
    return b.model(feeds, b.add("Softmax", x, axis=-1)), feeds


def gelu(b, x):
    kind = extent(b.rng, 0, 2)
    number = lambda v: b.constant(np.float32(v))
    if kind == 0:
        inner = b.add("Add", b.add("Erf", b.add("Div", x, number(np.sqrt(2)))), number(1))
        return b.add("Mul", b.add("Mul", x, inner), number(0.5))
    if kind == 1:
        cube = b.add("Mul", b.add("Pow", x, number(3)), number(0.044715))
        inner = b.add("Tanh", b.add("Mul", b.add("Add", x, cube), number(np.sqrt(2 / np.pi))))
        return b.add("Mul", b.add("Mul", x, number(0.5)), b.add("Add", inner, number(1)))
    return b.add("Mul", x, b.add("Sigmoid", b.add("Mul", x, number(1.702))))


def transformer(rng):
    """Embeddings and a layer or two of attention and dense products."""
    b = Builder(rng)
    heads, d, s = extent(rng, 1, 4), 4 * extent(rng, 1, 4), extent(rng, 2, 8)
    hidden = heads * d
    feeds = {"ids": rng.integers(0, 20, (1, s)).astype(np.int64)}
    norm = lambda x: b.add("LayerNormalization", x, b.weight(hidden), b.weight(hidden), axis=-1, epsilon=1e-5)
    dense = lambda x, n, m: b.add("Add", b.add("MatMul", x, b.weight(n, m)), b.weight(m))
    x = norm(b.add("Add", b.add("Gather", b.weight(20, hidden), "ids"), b.weight(s, hidden)))
    for _ in range(extent(rng, 1, 2)):
        split = b.constant(np.array([0, 0, heads, d], np.int64))
        part = lambda perm: b.add("Transpose", b.add("Reshape", dense(x, hidden, hidden), split), perm=perm)
        scores = b.add("MatMul", part([0, 2, 1, 3]), part([0, 2, 3, 1]))
        scores = b.add("Div" if flag(rng) else "Mul", scores, b.constant(np.float32(2)))
        y = b.add("MatMul", b.add("Softmax", scores, axis=-1), part([0, 2, 1, 3]))
        y = b.add("Reshape", b.add("Transpose", y, perm=[0, 2, 1, 3]), b.constant(np.array([0, 0, hidden], np.int64)))
        x = norm(b.add("Add", dense(y, hidden, hidden), x))
        x = norm(b.add("Add", dense(gelu(b, dense(x, hidden, 2 * hidden)), 2 * hidden, hidden), x))
    return b.model(feeds, x), feeds


def bert(rng):
    """An encoder with a mask, in the form in which the transformers tool knows it."""
    b = Builder(rng)
    heads, d, s, batch = extent(rng, 1, 4), 8 * extent(rng, 1, 2), extent(rng, 2, 8), extent(rng, 1, 2)
    hidden = heads * d
    ids = lambda count: rng.integers(0, count, (batch, s)).astype(np.int64)
    feeds = {"ids": ids(20), "segments": ids(2), "mask": ids(2)}
    feeds["mask"][:, 0] = 1
    norm = lambda x: b.add("LayerNormalization", x, b.weight(hidden), b.weight(hidden), axis=-1, epsilon=1e-5)
    dense = lambda x, n, m: b.add("Add", b.add("MatMul", x, b.weight(n, m)), b.weight(m))
    shape = lambda *extents: b.constant(np.array(extents, np.int64))
    number = lambda v: b.constant(np.float32(v))
    words = b.add("Add", b.add("Gather", b.weight(20, hidden), "ids"), b.weight(1, s, hidden))
    x = norm(b.add("Add", words, b.add("Gather", b.weight(2, hidden), "segments")))
    mask = b.add("Unsqueeze", b.add("Unsqueeze", "mask", shape(1)), shape(2))
    mask = b.add("Mul", b.add("Sub", number(1), b.add("Cast", mask, to=TensorProto.FLOAT)), number(-10000))
    for _ in range(extent(rng, 1, 2)):
        part = lambda perm: b.add("Transpose", b.add("Reshape", dense(x, hidden, hidden), shape(0, 0, heads, d)), perm=perm)
        q, k, v = part([0, 2, 1, 3]), part([0, 2, 3, 1]), part([0, 2, 1, 3])
        scores = b.add("Add", b.add("Div", b.add("MatMul", q, k), number(np.sqrt(d))), mask)
        y = b.add("Transpose", b.add("MatMul", b.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        y = dense(b.add("Reshape", y, shape(0, 0, hidden)), hidden, hidden)
        x = norm(b.add("Add", y, x))
        x = norm(b.add("Add", dense(gelu(b, dense(x, hidden, 2 * hidden)), 2 * hidden, hidden), x))
    return b.model(feeds, x), feeds


def quantised(rng):
    """Convolutions of bytes, as a quantiser writes them."""
    b = Builder(rng)
    feeds = {"x": np.clip(floats(rng, 1, 3, 16, 16), -2, 2)}
    scale = b.constant(np.float32(1 / 32))
    zero = b.constant(np.uint8(128))
    through = lambda x: b.add("DequantizeLinear", b.add("QuantizeLinear", x, scale, zero), scale, zero)
    x, channels = through("x"), 3
    for i in range(extent(rng, 1, 3)):
        filters = 8 * extent(rng, 1, 3)
        weight = b.constant(rng.integers(-60, 60, (filters, channels, 3, 3)).astype(np.int8))
        w_scale = b.constant(np.float32(1 / (60 * np.sqrt(channels * 9))))
        w = b.add("DequantizeLinear", weight, w_scale, b.constant(np.int8(0)))
        y = b.add("Conv", x, w, kernel_shape=[3, 3], pads=[1] * 4)
        x, channels = through(b.add("Relu", y) if flag(rng) else y), filters
        if flag(rng):
            x = through(b.add("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1]))
        if flag(rng):
            x = through(b.add("Sigmoid", x))
    if flag(rng):
        x = through(b.add("GlobalAveragePool", x))
    return b.model(feeds, x), feeds


NETWORKS = {"bert": bert, "convolutional": convolutional, "transformer": transformer, "quantised": quantised}
