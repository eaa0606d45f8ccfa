#!/usr/bin/env python3
"""Do real models give the right answers?

Runs `nestjit check` on every model of a folder, fused and unfused, against the outputs that another framework
computed in float32 and in float64. Against both, the relative error (the largest difference divided by the largest
magnitude) must be within FACTOR times the error that the framework's own float32 has.

    tests/reference_models/check.py FOLDER [--nestjit PATH] [--models NAME,..] [--disable-pass A,B]

FOLDER has a MANIFEST.json that gives for each model NAME, beside NAME.onnx: `graph_inputs` (names) and `in_files`,
`outputs` (names), `out_files` (float32) and `out64_files` (float64), `torch_f32_vs_f64_relmax` (an error for each
output). Needs nothing but Python. The command is made with cargo unless it is given.
"""

import argparse
import json
import pathlib
import subprocess
import sys

FACTOR = 4
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "nestjit"], cwd=ROOT, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, check=True,
                              capture_output=True, text=True).stdout
    return pathlib.Path(json.loads(metadata)["target_directory"]) / "release" / "nestjit"


def check(nestjit, folder, name, model, extra):
    """Whether every output is close enough; prints what was found."""
    inputs = []
    for port, file in zip(model["graph_inputs"], model["in_files"], strict=True):
        inputs += ["--input", f"{port}={folder / file}"]
    outputs = zip(model["outputs"], model["out_files"], model["out64_files"], model["torch_f32_vs_f64_relmax"],
                  strict=True)
    fine = True
    for port, single, double, error in outputs:
        expected = ["--expect", f"{port}={folder / single}", "--expect", f"{port}={folder / double}"]
        limit = ["--tolerance", f"{FACTOR * error:.3e}"]
        result = subprocess.run([nestjit, "check", folder / f"{name}.onnx", *inputs, *expected, *limit, *extra],
                                capture_output=True, text=True)
        rows = [line for line in result.stdout.splitlines() if " expected" in line or "FAILED" in line]
        print(f"{name}: {port}: the framework's own error is {error:.2e}")
        print("\n".join(rows) + result.stderr, flush=True)
        fine &= result.returncode == 0
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--nestjit", type=pathlib.Path, help="the command")
    parser.add_argument("--models", type=lambda s: s.split(","), help="models of the manifest (default: all)")
    parser.add_argument("--disable-pass", help="passes to switch off")
    arguments = parser.parse_args()
    nestjit = arguments.nestjit or build()
    manifest = json.loads((arguments.folder / "MANIFEST.json").read_text())
    extra = ["--disable-pass", arguments.disable_pass] if arguments.disable_pass else []
    wrong = [name for name in arguments.models or manifest
             if not check(nestjit, arguments.folder, name, manifest[name], extra)]
    print(f"FAILED: {', '.join(wrong)}" if wrong else "PASSED")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
