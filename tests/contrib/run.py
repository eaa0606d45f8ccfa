#!/usr/bin/env python3
"""Operators of ONNX Runtime's own domains beside it, with random shapes and attributes, and what its optimiser writes.

    run.py NESTJIT [--only NAME]... [--rounds N] [--seed N] [--jobs N]

Each operator, and each level of the optimiser with random networks, has N cases. An operator has a model with a
node for each, which the command NESTJIT runs fused and unfused. What ONNX
Runtime has no implementation of for the CPU is held against what its documentation says, written in NumPy. Needs the
packages of requirements.txt. Exit status 1 if a case fails.
"""

import argparse
import concurrent.futures
import logging
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel as Level
from onnxruntime.transformers.optimizer import optimize_model

import attention
import classical
import fused
import images
import quantized
from cases import OPERATORS, Case, difference, expected, halved, model
from networks import NETWORKS

MODES = {"fused": [], "unfused": ["--disable-pass", "OpFusion"]}
FAMILIES = [attention, classical, fused, images, quantized]
LEVELS = {"basic": Level.ORT_ENABLE_BASIC, "extended": Level.ORT_ENABLE_EXTENDED, "all": Level.ORT_ENABLE_ALL}
# Its transformers tool, which fuses whole layers.
TOOL = "tool"
# Operators on floats that ONNX Runtime runs with 16 bits, too: every fourth case has these.
HALVES = {
    "BiasGelu", "ConvTransposeWithDynamicPads", "DecoderMaskedMultiHeadAttention", "EmbedLayerNormalization", "FastGelu",
    "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "GroupQueryAttention", "LayerNormalization", "MatMulNBits",
    "MultiHeadAttention", "QuickGelu", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "TransposeMatMul", "com.microsoft.Attention", "com.microsoft.RotaryEmbedding",
}
# A step or two of the outputs, whose elements are rounded again and again.
QUANTISED = 0.04


def session(proto, level, written=None):
    """A session at a level of the optimiser, which writes what it makes of the model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if written:
        options.optimized_model_filepath = str(written)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_runtime(proto, feeds):
    """The outputs of a model as it is, without ONNX Runtime's optimiser."""
    return session(proto, Level.ORT_DISABLE_ALL).run(None, feeds)


def optimised(command, name, rounds, seed):
    """The failures of networks that the optimiser has written at a level."""
    kind, level = name.split("@")
    failures = []
    for i in range(rounds):
        proto, feeds = NETWORKS[kind](np.random.default_rng([seed, zlib.crc32(kind.encode()), i]))
        names = [output.name for output in proto.graph.output]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "optimised.onnx"
            if level == TOOL:
                onnx.save(proto, file)
                # It finds out by itself how many heads there are, and how large they are. Masks are lengths to it.
                written = optimize_model(str(file), "bert", opt_level=0).model
                right = onnx_runtime(written, feeds)
            else:
                # The same kernels: what an optimiser rounds otherwise is not in question.
                right = session(proto, LEVELS[level], file).run(None, feeds)
                written = onnx.load(file)
        case = Case(kind, [], tolerance=QUANTISED if kind == "quantised" else 1e-4)
        for mode, options in MODES.items():
            results = nestjit(command, written, feeds, names, options)
            text = results if isinstance(results, str) else difference(case, 0, results[0], right[0])
            if text:
                operators = sorted({f"{n.domain}.{n.op_type}" for n in written.graph.node if n.domain})
                failures.append(f"{name} #{i} {mode}: {', '.join(operators)}: {text}")
    return failures


def nestjit(command, proto, feeds, names, mode):
    """The outputs of a model, in the order of their names, or what the command says."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        arguments = [command, "run", str(folder / "model.onnx"), "--output-dir", str(folder / "out"), *mode]
        for i, (name, value) in enumerate(feeds.items()):
            np.save(folder / f"{i}.npy", value)
            arguments += ["--input", f"{name}={folder / f'{i}.npy'}"]
        (folder / "out").mkdir()
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        if done.returncode:
            return (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return [np.load(folder / "out" / f"{name}.npy") for name in names]


def wrong(command, cases, wanted):
    """For each mode, what is wrong with which case."""
    proto, feeds, names = model(cases)
    found = []
    for mode, options in MODES.items():
        results = nestjit(command, proto, feeds, sum(names, []), options)
        if isinstance(results, str):
            if len(cases) == 1:
                found.append((mode, 0, results))
                continue
            return [(mode, i, text) for i, case in enumerate(cases)
                    for mode, _, text in wrong(command, [case], [wanted[i]])]
        for i, (case, must) in enumerate(zip(cases, wanted)):
            numbers = [n for n, asked in enumerate(case.outputs) if asked]
            for number, right in zip(numbers, must):
                text = difference(case, number, results.pop(0), right)
                if text:
                    found.append((mode, i, f"output {number}: {text}"))
    return found


def operator(command, name, rounds, seed):
    """The failures of an operator, a line each."""
    cases, wanted = [], []
    for i in range(rounds):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), i])
        case = OPERATORS[name](rng, name.split(".")[-1])
        if name in HALVES and i % 4 == 3:
            case = halved(case)
        try:
            wanted.append(expected(case, onnx_runtime))
        except Exception as e:
            return [f"{name} #{i}: no reference: {case.describe()}: {str(e).splitlines()[0][:300]}"]
        cases.append(case)
    return [f"{name} #{i} {mode}: {cases[i].describe()}: {text}"
            for mode, i, text in wrong(command, cases, wanted)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nestjit")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    networks = [f"{kind}@{level}" for kind in NETWORKS for level in LEVELS] + [f"bert@{TOOL}"]
    names = [name for name in sorted(OPERATORS) + networks if not arguments.only or name in arguments.only]
    if not names:
        sys.exit(f"there is no operator {', '.join(arguments.only)}")
    logging.disable(logging.WARNING)
    command = str(pathlib.Path(arguments.nestjit).resolve())
    failures = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        judge = lambda name: optimised if "@" in name else operator
        run = lambda name: judge(name)(command, name, arguments.rounds, arguments.seed)
        for lines in pool.map(run, names):
            failures += lines
            print("\n".join(lines), end="\n" if lines else "", flush=True)
    print(f"{len(names)} operators and kinds of networks, {arguments.rounds} cases each, {len(failures)} failures")
    sys.exit(bool(failures))


main()
