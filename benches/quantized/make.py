#!/usr/bin/env python3
"""Makes quantised and half-precision ONNX files of nestjit's built-in models, or of other ONNX files, with ONNX Runtime's own quantiser.

    python3 benches/quantized/make.py OUT [MODEL ...] [--nestjit BINARY] [--kinds dynamic,qdq,..]

Each MODEL (the name of a built-in model such as resnet18 or resnet18@64, or an ONNX file) becomes OUT/NAME.onnx in
float32 and OUT/NAME.KIND.onnx for each kind:

    dynamic      weights i8, activations quantised when the model runs; products and LSTMs only
    dynamic-u8   the same with weights u8, per channel
    qdq          QuantizeLinear and DequantizeLinear around operators: activations u8, weights i8 per channel
    qdq-i8       activations i8, weights i8 per tensor: the defaults of the quantiser
    qop          QLinearConv, QLinearMatMul, ..: activations u8, weights i8 per tensor
    4bit         weights of products in 4 bits, in blocks of 32 with a scale each (MatMulNBits)
    4bit-zeros   the same in blocks of 128 with a zero point each
    4bit-qdq     weights int4 behind DequantizeLinear, in blocks of 32
    f16          weights, activations, inputs and outputs in half precision (its converter for transformers)

Inputs for calibration are seeded, so that the same versions of onnx and onnxruntime make the same files. Beside each
float32 file lie an input for each of the model's (OUT/NAME.in0.npy, ..) and what ONNX Runtime makes of them in float32 and
in each kind (OUT/NAME.KIND.out0.npy, ..), to compare with. Needs onnx, onnxruntime and numpy; for 4 bits also onnx_ir.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

MODELS = ["mlp10", "conv_swish", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "bert_minilm"]
KINDS = ["dynamic", "dynamic-u8", "qdq", "qdq-i8", "qop", "4bit", "4bit-zeros", "4bit-qdq", "f16"]
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def inputs(session, rng):
    """Random inputs of a model: floats as of a normalised image, integers as tokens."""
    made = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in value.shape]
        dtype = TYPES[value.type]
        if dtype == np.float32:
            made[value.name] = rng.standard_normal(shape).astype(np.float32)
        elif dtype == np.bool_:
            made[value.name] = np.ones(shape, np.bool_)
        elif "mask" in value.name:
            made[value.name] = np.ones(shape, dtype)
        else:
            high = 2 if "type" in value.name else 1000
            made[value.name] = rng.integers(0, high, shape).astype(dtype)
    return made


class Seeded(CalibrationDataReader):
    """A few seeded inputs to calibrate with."""

    def __init__(self, session, count=4):
        self.given = iter([inputs(session, np.random.default_rng(seed)) for seed in range(1, count + 1)])

    def get_next(self):
        return next(self.given, None)


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def quantise(kind, source, target, float32):
    if kind == "f16":
        onnx.save(convert_float_to_float16(onnx.load(source)), target)
        return
    if kind.startswith("dynamic"):
        u8 = kind.endswith("u8")
        quantize_dynamic(source, target, per_channel=u8, weight_type=QuantType.QUInt8 if u8 else QuantType.QInt8)
        return
    if kind.startswith("4bit"):
        # Needs a package of its own.
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        zeros = kind.endswith("zeros")
        quantizer = MatMulNBitsQuantizer(
            str(source),
            bits=4,
            block_size=128 if zeros else 32,
            is_symmetric=not zeros,
            quant_format=QuantFormat.QDQ if kind.endswith("qdq") else QuantFormat.QOperator,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), False)
        return
    quantize_static(
        source,
        target,
        Seeded(float32),
        quant_format=QuantFormat.QOperator if kind == "qop" else QuantFormat.QDQ,
        per_channel=kind == "qdq",
        activation_type=QuantType.QInt8 if kind == "qdq-i8" else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def make(model, kinds, out, nestjit):
    name = Path(model).stem.replace("@", "_")
    path = out / f"{name}.onnx"
    if model.endswith(".onnx"):
        onnx.save(onnx.load(model), path)
    else:
        subprocess.run([nestjit, "export", model, str(path)], check=True, stdout=subprocess.DEVNULL)
    float32 = session(path)
    given = inputs(float32, np.random.default_rng(0))
    for i, value in enumerate(float32.get_inputs()):
        np.save(out / f"{name}.in{i}.npy", given[value.name])
    expected = float32.run(None, given)
    for i, y in enumerate(expected):
        np.save(out / f"{name}.out{i}.npy", y)
    with tempfile.TemporaryDirectory() as scratch:
        # Batch normalisation goes into weights, and shapes become known.
        source = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(path), str(source), skip_symbolic_shape=True)
        for kind in kinds:
            target = out / f"{name}.{kind}.onnx"
            # Products that have become Gemm would be left alone, and halves are converted from what is exported:
            # normalisations stay, as in files that people have.
            as_exported = kind.startswith("4bit") or kind == "f16"
            quantise(kind, path if as_exported else source, target, session(source))
            quantised = session(target)
            halves = {v.name for v in quantised.get_inputs() if v.type == "tensor(float16)"}
            taken = {n: x.astype(np.float16) if n in halves else x for n, x in given.items()}
            outputs = quantised.run(None, taken)
            for i, (y, e) in enumerate(zip(outputs, expected)):
                np.save(out / f"{name}.{kind}.out{i}.npy", y)
                if i == 0:
                    error = np.linalg.norm(y.astype(np.float64) - e) / max(np.linalg.norm(e.astype(np.float64)), 1e-30)
            size = target.stat().st_size
            print(f"{target.name}: {size / 1e6:.1f} MB, {error:.2%} from float32 in ONNX Runtime", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--nestjit", default="nestjit", help="the command, to export built-in models")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which kinds, separated by commas")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        sys.exit(f"there is no kind '{unknown[0]}'; there are {', '.join(KINDS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models:
        make(model, kinds, args.out, args.nestjit)


if __name__ == "__main__":
    main()
