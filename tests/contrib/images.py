"""Convolutions with other layouts and paddings, regions and samples of images, Fourier transforms."""

import numpy as np
import onnxruntime
from onnx import helper

from cases import Case, Const, either, extent, extents, flag, floats, given, model, operator, optional
from fused import window


def plain(case, name, inputs, domain="", attributes=None):
    """What ONNX Runtime computes with another operator."""
    other = Case(name, [None if x is None else x for x in inputs], attributes or case.attributes, domain=domain,
                 opset=case.opset)
    proto, feeds, _ = model([other])
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def first(x):
    return np.moveaxis(x, -1, 1)


def last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def images(rng):
    """Extents, kernel and attributes of a convolution, its groups and channels."""
    spatial = extents(rng, 2, 7, 12)
    kernel, attributes = window(rng, spatial)
    groups = int(rng.choice([1, 1, 2]))
    attributes["group"] = groups
    return spatial, kernel, attributes, groups, groups * extent(rng, 1, 5), groups * extent(rng, 1, 5)


@operator("NhwcConv", "NhwcFusedConv")
def nhwc_conv(rng, name):
    spatial, kernel, attributes, groups, channels, filters = images(rng)
    fused = {"activation": str(rng.choice(["Relu", "Sigmoid"]))} if name == "NhwcFusedConv" else {}
    x, w = floats(rng, extent(rng, 1, 2), *spatial, channels), floats(rng, filters, channels // groups, *kernel)
    bias = optional(rng, floats(rng, filters))

    def reference(case, x, w, bias=None):
        return last(plain(case, "FusedConv", [first(x), w, bias], "com.microsoft"))

    return Case(name, [x, either(rng, w), bias], {**attributes, **fused}, reference=reference)


@operator("com.ms.internal.nhwc.Conv")
def internal_conv(rng, name):
    spatial, kernel, attributes, groups, channels, filters = images(rng)
    x, w = floats(rng, extent(rng, 1, 2), *spatial, channels), floats(rng, filters, channels // groups, *kernel)
    bias = optional(rng, floats(rng, filters))
    reference = lambda case, x, w, bias=None: last(plain(case, "Conv", [first(x), w, bias]))
    return Case(name, [x, either(rng, w), bias], attributes, domain="com.ms.internal.nhwc", reference=reference)


@operator("com.ms.internal.nhwc.MaxPool", "com.ms.internal.nhwc.AveragePool", "com.ms.internal.nhwc.GlobalAveragePool",
          "com.ms.internal.nhwc.GlobalMaxPool")
def internal_pool(rng, name):
    spatial = extents(rng, 2, 5, 9)
    _, attributes = window(rng, spatial)
    if name == "AveragePool":
        attributes.pop("dilations", None)
        attributes.update(given(rng, {"count_include_pad": flag(rng)}))
    if name.startswith("Global"):
        attributes = {}
    reference = lambda case, x: last(plain(case, name, [first(x)]))
    x = floats(rng, extent(rng, 1, 2), *spatial, extent(rng, 1, 8))
    return Case(name, [x], attributes, domain="com.ms.internal.nhwc", reference=reference)


@operator("ConvTransposeWithDynamicPads")
def conv_transpose(rng, name):
    spatial = extents(rng, 2, 3, 6)
    kernel = extents(rng, 2, 2, 4)
    groups = int(rng.choice([1, 2]))
    channels, filters = groups * extent(rng, 1, 4), extent(rng, 1, 4)
    attributes = {"group": groups, "kernel_shape": kernel, **given(rng, {"strides": extents(rng, 2, 1, 3)})}
    pads = Const(np.array([extent(rng, 0, k // 2) for k in kernel * 2], np.int64))
    x, w = floats(rng, extent(rng, 1, 2), channels, *spatial), floats(rng, channels, filters, *kernel)
    return Case(name, [x, either(rng, w), pads, optional(rng, floats(rng, groups * filters))], attributes)


@operator("CropAndResize")
def crop(rng, name):
    n, c, h, w = extent(rng, 1, 3), extent(rng, 1, 5), extent(rng, 2, 9), extent(rng, 2, 9)
    count = extent(rng, 1, 4)
    attributes = given(rng, {"mode": str(rng.choice(["bilinear", "nearest"])), "extrapolation_value": 7.0})
    # Some regions reach over the border.
    regions = rng.uniform(-0.2, 1.2, (count, 4)).astype(np.float32)
    batch = rng.integers(0, n, count).astype(np.int32)
    size = Const(np.array(extents(rng, 2, 1, 6), np.int32))
    return Case(name, [floats(rng, n, c, h, w), regions, batch, size], attributes, tolerance=1e-4)


@operator("com.microsoft.GridSample")
def grid_sample(rng, name):
    n, c, h, w = extent(rng, 1, 2), extent(rng, 1, 4), extent(rng, 2, 7), extent(rng, 2, 7)
    mode = str(rng.choice(["bilinear", "nearest", "bicubic"]))
    attributes = given(rng, {"padding_mode": str(rng.choice(["zeros", "border", "reflection"])),
                             "align_corners": flag(rng)})
    if mode != "bilinear" or flag(rng):
        attributes["mode"] = mode
    grid = rng.uniform(-1.3, 1.3, (n, *extents(rng, 2, 1, 6), 2)).astype(np.float32)

    def reference(case, x, grid):
        return plain(case, "GridSample", [x, grid], attributes={"mode": "bilinear", **case.attributes})

    return Case(name, [floats(rng, n, c, h, w), grid], attributes, tolerance=1e-4, reference=reference)


@operator("Rfft", "Irfft")
def transform(rng, name):
    count = extent(rng, 1, 2)
    shape = extents(rng, extent(rng, 0, 1), 1, 3) + extents(rng, count, 2, 6)
    shape[-1] = 2 * extent(rng, 1, 8)
    axes = tuple(range(-count, 0))
    attributes = {"signal_ndim": count, **given(rng, {"onesided": 1, "normalized": 0})}
    if name == "Rfft":

        def forward(case, x):
            y = np.fft.rfftn(x.astype(np.float64), axes=axes)
            return np.stack([y.real, y.imag], -1).astype(np.float32)

        return Case(name, [floats(rng, *shape)], attributes, tolerance=1e-4, reference=forward)

    def backward(case, x):
        y = np.fft.irfftn(x[..., 0].astype(np.float64) + 1j * x[..., 1], axes=axes)
        return y.astype(np.float32)

    half = [*shape[:-1], shape[-1] // 2 + 1, 2]
    x = floats(rng, *half)
    # A spectrum of a real signal.
    x[..., 0, 1] = x[..., -1, 1] = 0
    return Case(name, [x], attributes, tolerance=1e-4, reference=backward)
