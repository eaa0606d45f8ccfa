#!/usr/bin/env python3
"""nestjit beside ONNX Runtime, OpenVINO and tract, on the same ONNX files, in one run. See README.md."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import numpy as np
import onnx

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUNTIMES = ["nestjit", "ort", "openvino", "tract"]
MODELS = ["mlp10", "weenet", "weenet_conv", "tvm_conv", "tvm_dw", "rnn_cell", "lstm_cell", "lstm_seq",
          "conv_swish", "mobilenet_v2", "efficientnet_b0", "resnet18"]


def build(runtimes):
    """The workers, and the command that exports models. Compiling tract takes minutes: only if it takes part."""
    def cargo(folder, *arguments):
        subprocess.run(["cargo", "build", "--release", "--quiet", *arguments], cwd=folder, check=True)
        describe = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
        found = json.loads(subprocess.run(describe, cwd=folder, check=True, capture_output=True).stdout)
        return pathlib.Path(found["target_directory"]) / "release"

    # One target directory must not hold both: the packages differ in features of common dependencies.
    command = cargo(ROOT, "--bin", "nestjit") / "nestjit"
    features = ["--features", "tract"] if "tract" in runtimes else []
    cargo(HERE / "workers", "--bins", *features, "--target-dir", str(HERE / "workers" / "target"))
    workers = HERE / "workers" / "target" / "release"
    return command, workers


class Worker:
    """A process with one model, pinned to the first cores."""

    def __init__(self, runtime, workers, model, threads, inputs):
        if runtime in ("ort", "openvino"):
            command = [sys.executable, str(HERE / "worker.py"), runtime]
        else:
            command = [str(workers / runtime)]
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self.process = subprocess.Popen(
            [*command, str(model), str(threads), str(inputs)], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores))
        answer = self.answer()
        self.error = answer.get("error")
        self.cold_ms = answer.get("cold_ms")

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"ended with code {self.process.wait()}"}

    def ask(self, command):
        try:
            print(command, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return {"error": f"ended with code {self.process.wait()}"}
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def write_inputs(model, folder):
    """Seeded inputs: floats in -1..1, integers 0 or 1. Returns the type of the first output's elements."""
    graph = onnx.load(str(model), load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    random = np.random.default_rng(0)
    number = 0
    for port in graph.input:
        if port.name in constants:
            continue
        kind = port.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [d.dim_value for d in kind.shape.dim]
        if not all(shape):
            sys.exit(f"{model}: input {port.name} has symbolic dimensions")
        is_float = np.issubdtype(dtype, np.floating)
        values = random.uniform(-1, 1, shape) if is_float else random.integers(0, 2, shape)
        values.astype(dtype).tofile(folder / f"input{number}.bin")
        number += 1
    return onnx.helper.tensor_dtype_to_np_dtype(graph.output[0].type.tensor_type.elem_type)


def measure(runtimes, workers, model, threads, arguments, folder, result):
    """Times of all runtimes for a model, taken in turns; `{runtime: {"error"} | {..}}`. The first output is of type `result`."""
    colds = {runtime: [] for runtime in runtimes}
    errors = {}
    for _ in range(arguments.colds - 1):
        for runtime in runtimes:
            if runtime not in errors:
                worker = Worker(runtime, workers, model, threads, folder)
                if worker.error:
                    errors[runtime] = worker.error
                else:
                    colds[runtime].append(worker.cold_ms)
                worker.close()
    live = {}
    for runtime in runtimes:
        if runtime in errors:
            continue
        worker = Worker(runtime, workers, model, threads, folder)
        if worker.error:
            errors[runtime] = worker.error
            worker.close()
        else:
            colds[runtime].append(worker.cold_ms)
            live[runtime] = worker
    # How many runs fit into a turn is found while warming up.
    counts = {}
    for runtime, worker in live.items():
        count, elapsed = 1, 0
        while True:
            times = worker.ask(f"run {count}")
            elapsed = sum(times) / 1e9
            if elapsed >= arguments.warmup:
                break
            count *= 2
        counts[runtime] = max(1, round(arguments.turn / (statistics.median(times) / 1e9)))
    samples = {runtime: [] for runtime in live}
    for turn in range(arguments.turns):
        order = list(live)
        # Nobody always comes after the same one.
        order = order[turn % len(order):] + order[:turn % len(order)] if order else order
        for runtime in order:
            # Threads of the one before may still spin; what it left in the caches is run out of them.
            time.sleep(0.01)
            live[runtime].ask(f"run {max(1, counts[runtime] // 10)}")
            samples[runtime] += live[runtime].ask(f"run {counts[runtime]}")
    outputs = {}
    for runtime, worker in live.items():
        path = folder / f"{runtime}.bin"
        worker.ask(f"output {path}")
        outputs[runtime] = np.fromfile(path, dtype=result).astype(np.float32)
        worker.close()
    results = {runtime: {"error": error} for runtime, error in errors.items()}
    for runtime in live:
        times = np.array(samples[runtime]) / 1e6
        results[runtime] = {
            "median_ms": float(np.median(times)), "p90_ms": float(np.percentile(times, 90)),
            "min_ms": float(times.min()), "runs": len(times), "cold_ms": statistics.median(colds[runtime]),
            "difference": difference(outputs[runtime], outputs[next(iter(live))])}
    return results


def difference(a, b):
    """The largest difference, relative to the largest value; of everything but floats it means nothing."""
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) if a.size else 0.0


def versions(runtimes):
    packages = {"ort": "onnxruntime", "openvino": "openvino"}
    found = {r: metadata.version(p) for r, p in packages.items() if r in runtimes}
    lock = (HERE / "workers" / "Cargo.lock").read_text().split("[[package]]")
    for runtime, package in [("tract", "tract-onnx"), ("nestjit", "nestjit")]:
        entry = next((e for e in lock if f'name = "{package}"' in e), "")
        found[runtime] = entry.split('version = "')[1].split('"')[0] if entry else "?"
    return {runtime: found[runtime] for runtime in runtimes}


def show(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip(), flush=True)


def table(model, threads, results, runtimes):
    ours = results.get("nestjit", {}).get("median_ms")
    ours_cold = results.get("nestjit", {}).get("cold_ms")
    rows = [["model", "runtime", "threads", "median ms", "p90 ms", "ratio", "cold ms", "ratio", "differs"]]
    for runtime in runtimes:
        result = results[runtime]
        if "error" in result:
            print(f"{model}: {runtime}: {result['error']}")
            continue
        ratio = f"{result['median_ms'] / ours:.2f}" if ours else "-"
        cold_ratio = f"{result['cold_ms'] / ours_cold:.2f}" if ours_cold else "-"
        rows.append([model, runtime, str(threads), f"{result['median_ms']:.4g}", f"{result['p90_ms']:.4g}",
                     ratio, f"{result['cold_ms']:.4g}", cold_ratio, f"{result['difference']:.0e}"])
    show(rows)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS,
                        help="ONNX files, or names of built-in models (default: %(default)s)")
    parser.add_argument("--threads", type=lambda s: [int(n) for n in s.split(",")], default=[1, 2])
    parser.add_argument("--runtimes", type=lambda s: s.split(","), default=RUNTIMES)
    parser.add_argument("--turns", type=int, default=10, help="turns of each runtime (default: 10)")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of a turn (default: 0.3)")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds before the first (default: 0.3)")
    parser.add_argument("--colds", type=int, default=5, help="processes of which the cold time is the median")
    parser.add_argument("--json", type=pathlib.Path, help="write everything to this file")
    arguments = parser.parse_args()
    if unknown := [r for r in arguments.runtimes if r not in RUNTIMES]:
        parser.error(f"there is no runtime {unknown[0]}; there are {', '.join(RUNTIMES)}")
    if min(arguments.turns, arguments.colds, *arguments.threads) < 1:
        parser.error("turns, colds and threads are at least 1")
    if max(arguments.threads) > len(os.sched_getaffinity(0)):
        parser.error(f"this machine has {len(os.sched_getaffinity(0))} cores")

    command, workers = build(arguments.runtimes)
    machine = json.loads(subprocess.run([str(workers / "nestjit"), "--machine"], check=True,
                                        capture_output=True).stdout)
    load = os.getloadavg()[0]
    print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores, load {load:.1f}; one core: "
          f"{machine['peak_gflops']:.0f} GFLOP/s ({machine['isa']} FMA), {machine['read_gbytes']:.0f} GB/s read")
    if load > 0.5:
        print("WARNING: other processes are running; times are not to be trusted")
    print(", ".join(f"{r} {v}" for r, v in versions(arguments.runtimes).items()))
    print("ratio: against nestjit; differs: from the first runtime's output, relative to its largest value\n")
    report = {"machine": machine, "cpu": cpu(), "load": load, "versions": versions(arguments.runtimes),
              "results": []}
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            model = folder / "model.onnx"
            if name.endswith(".onnx"):
                shutil.copy(name, model)
                name = pathlib.Path(name).stem
            else:
                subprocess.run([str(command), "export", name, str(model)], check=True,
                               stdout=subprocess.DEVNULL)
            result = write_inputs(model, folder)
            for threads in arguments.threads:
                results = measure(arguments.runtimes, workers, model, threads, arguments, folder, result)
                table(name, threads, results, arguments.runtimes)
                report["results"].append({"model": name, "threads": threads, "runtimes": results})
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
