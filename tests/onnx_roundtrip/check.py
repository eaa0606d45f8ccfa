#!/usr/bin/env python3
"""Do other runtimes understand what nestjit exports?

Every exported file must be accepted by the ONNX checker, and ONNX Runtime must compute what nestjit computes:
within 1e-5 of the largest value for floats (3e-5 for built-in models), exactly for everything else. Deep networks
amplify rounding: where that is not met, ONNX Runtime is also run without its optimisations, and nestjit must not be
further from it than it is from itself, and not further than 1e-3. Checked are the operator cases of
tests/common/cases and built-in models.

    python3 -m venv venv && venv/bin/pip install onnx==1.23.2 onnxruntime numpy
    venv/bin/python tests/onnx_roundtrip/check.py [--models NAME,..] [--cases FOLDER] [--nestjit PATH]

The command and the cases are made with cargo unless they are given.
"""

import argparse
import collections
import concurrent.futures
import fnmatch
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnx.reference
import onnxruntime

# What ONNX Runtime does not do, or does otherwise than nestjit and the specification; patterns of names of cases.
# The checker must accept these files, too.
EXCEPTIONS = [
    ("NaN is lost", ["unary/thresholdedrelu_special", "unary/shrink*_special", "clip/*_special", "pool/max_special",
                     "reducem??/special", "arg*/special"]),
    ("the largest of infinities is finite", ["pool/max_all_minus_infinity"]),
    ("integers are divided by zero, which nestjit defines and ONNX Runtime refuses",
     ["binary/div_[iu]*", "binary/rem_[iu]*", "binary/mod_[iu]*", "binary/i64_extremes"]),
    ("powers of integers with negative exponents or overflow are not specified", ["binary/pow_[iu]*"]),
    ("numbers outside of a type's range are not specified", ["cast/from_f*"]),
    ("tensors of rank 0 are refused", ["slice/rank_0", "pad/*_rank_0"]),
    ("tensors without elements are refused, end the process or leave results unset",
     ["pad/*_crop_to_nothing", "conv/no_*", "global_pool/*_empty", "reducemean/nothing", "rnn/no_*", "lstm/no_*",
      "gru*/no_*"]),
    ("there are no kernels for f64", ["lstm/f64", "gru*/f64"]),
]

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOLERANCE = 1e-5
# The same for built-in models: a hundred layers round.
MODEL_TOLERANCE = 3e-5
# Where ONNX Runtime differs from itself by more than that, we may differ as much, but not more than this: a model that
# amplifies rounding errors so much shows nothing.
UPPER_LIMIT = 1e-3


def cargo(*arguments, **environment):
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, env={**os.environ, **environment},
                   stdout=subprocess.DEVNULL)


def difference(actual, expected, tolerance=TOLERANCE):
    """What is wrong with a result, if anything is."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return f"{actual.dtype}{list(actual.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if not np.issubdtype(expected.dtype, np.floating):
        wrong = np.count_nonzero(actual != expected)
        return f"{wrong} of {expected.size} elements differ" if wrong else None
    # NaN and infinities must be where they are expected.
    special = ~np.isfinite(expected) | ~np.isfinite(actual)
    if not np.array_equal(actual[special], expected[special], equal_nan=True):
        return "other NaN or infinities"
    found = distance(actual, expected)
    return f"relative difference {found:.1e}" if found > tolerance else None


def distance(actual, expected):
    """The largest difference of finite elements, divided by the largest magnitude."""
    special = ~np.isfinite(expected) | ~np.isfinite(actual)
    actual, expected = (np.where(special, 0, a).astype(np.float64) for a in (actual, expected))
    scale = max(np.abs(expected).max(initial=0), 1e-30)
    return np.abs(actual - expected).max(initial=0) / scale


def run(path, inputs, optimised=True):
    """The outputs, by ONNX Runtime, or by the reference evaluator where it has no kernel for a type."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(None, inputs), "ONNX Runtime"
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        model = onnx.reference.ReferenceEvaluator(str(path))
        with np.errstate(all="ignore"):
            return model.run(None, inputs), "the reference evaluator"


class Isolated:
    """Runs models in another process, since runtimes may end theirs."""

    def __init__(self):
        self.pool = None

    def compare(self, *arguments):
        self.pool = self.pool or concurrent.futures.ProcessPoolExecutor(1)
        try:
            return self.pool.submit(compare, *arguments).result()
        except concurrent.futures.process.BrokenProcessPool:
            self.pool = None
            return None, "the process ended"


ISOLATED = Isolated()


def compare(path, inputs, expected, tolerance):
    """The runtime that agrees with the expected outputs, or what is wrong."""
    try:
        outputs, runtime = run(path, inputs)
    except Exception as e:  # Whatever a runtime throws is a finding.
        return None, f"{type(e).__name__}: {first_line(e)}"
    plain = None
    for i, (actual, wanted) in enumerate(zip(outputs, expected, strict=True)):
        actual = np.asarray(actual)
        wrong = difference(actual, wanted, tolerance)
        if wrong and wrong.startswith("relative difference") and runtime == "ONNX Runtime":
            plain = plain or run(path, inputs, optimised=False)[0]
            spread = distance(actual, plain[i])
            if difference(actual, wanted, min(spread, UPPER_LIMIT)) is None:
                wrong, runtime = None, f"{runtime}, within the {spread:.1e} that it differs from itself"
            else:
                wrong += f", of {spread:.1e} between ONNX Runtime with and without optimisations"
        if wrong:
            return None, f"output {i}: {runtime}: {wrong}"
    return runtime, None


def first_line(error):
    return (str(error).splitlines() or [""])[0][:300]


def check(name, path, inputs, expected, tolerance=TOLERANCE):
    """The name, who agrees (or why nobody must), and what is wrong."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as e:
        return name, None, f"the checker: {first_line(e)}"
    runtime, wrong = ISOLATED.compare(path, inputs, expected, tolerance)
    if wrong:
        for reason, patterns in EXCEPTIONS:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                return name, f"nobody, since {reason}", None
    return name, runtime, wrong


def load(folder, what):
    count = len(list(folder.glob(f"{what}[0-9]*.npy")))
    return [np.load(folder / f"{what}{i}.npy") for i in range(count)]


def check_case(folder):
    name = (folder / "name").read_text()
    model = onnx.load(str(folder / "model.onnx"))
    inputs = dict(zip([port.name for port in model.graph.input], load(folder, "input"), strict=True))
    return check(name, folder / "model.onnx", inputs, load(folder, "output"))


def check_model(nestjit, name, folder):
    path = folder / "model.onnx"
    subprocess.run([nestjit, "export", name, path], check=True, stdout=subprocess.DEVNULL)
    random = np.random.default_rng(0)
    inputs, arguments = {}, []
    for i, port in enumerate(onnx.load(str(path)).graph.input):
        shape = [d.dim_value for d in port.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        is_float = np.issubdtype(dtype, np.floating)
        values = random.uniform(-1, 1, shape) if is_float else random.integers(0, 1000, shape)
        inputs[port.name] = values.astype(dtype)
        np.save(folder / f"{i}.npy", inputs[port.name])
        arguments += ["--input", f"{port.name}={folder / str(i)}.npy"]
    outputs = folder / "out"
    # What the built-in model computes, and not what the file that was made of it does.
    subprocess.run([nestjit, "run", name, *arguments, "--output-dir", outputs], check=True,
                   stdout=subprocess.DEVNULL)
    ports = [port.name for port in onnx.load(str(path)).graph.output]
    results = [np.load(outputs / f"{port}.npy") for port in ports]
    return check(name, path, inputs, results, MODEL_TOLERANCE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda s: s.split(",") if s else [], help="built-in models (default: all)")
    parser.add_argument("--cases", type=pathlib.Path, help="the folder of exported operator cases")
    parser.add_argument("--nestjit", help="the command")
    arguments = parser.parse_args()
    if not arguments.nestjit:
        cargo("build", "--release", "--quiet", "--bin", "nestjit")
        target = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT,
                                check=True, capture_output=True, text=True).stdout
        target = target.split('"target_directory":"')[1].split('"')[0]
        arguments.nestjit = f"{target}/release/nestjit"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        cases = arguments.cases
        if not cases:
            cases = scratch / "cases"
            cargo("test", "--quiet", "--test", "onnx_export", "--", "--ignored", "write_cases",
                  ONNX_CASES=str(cases))
        folders = sorted(cases.iterdir())
        results = []
        for number, folder in enumerate(folders, 1):
            results.append(check_case(folder))
            if number % 100 == 0 or number == len(folders):
                print(f"{number} of {len(folders)} operator cases", file=sys.stderr, flush=True)
        names = arguments.models
        if names is None:
            listed = subprocess.run([arguments.nestjit, "zoo", "--names"], check=True, capture_output=True, text=True)
            names = listed.stdout.split()
        for number, name in enumerate(names):
            print(f"model {number + 1} of {len(names)}: {name}", file=sys.stderr, flush=True)
            folder = scratch / f"model{number}"
            folder.mkdir()
            results.append(check_model(arguments.nestjit, name, folder))
            (folder / "model.onnx").unlink()
            print(*[part for part in results[-1] if part], sep=": ", flush=True)
    failures = [(name, wrong) for name, _, wrong in results if wrong]
    for name, wrong in failures:
        print(f"FAILED {name}: {wrong}")
    print(f"{len(results) - len(failures)} of {len(results)} files are fine; results were confirmed by")
    for runtime, count in collections.Counter(r for _, r, wrong in results if not wrong).most_common():
        print(f"  {count:5}  {runtime}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
