"""A worker that runs ONNX Runtime or OpenVINO: `worker.py ort|openvino MODEL.onnx THREADS INPUTS`.

It speaks the protocol of the Rust workers (workers/src/lib.rs). Inputs and outputs are bound once, so that a run
copies nothing, and the import of the Python modules is not part of the cold time.
"""

import json
import sys
import time

import numpy as np

ONNX_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64,
              "tensor(int32)": np.int32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8,
              "tensor(int8)": np.int8, "tensor(bool)": np.bool_}


def read(folder, i, dtype, shape):
    return np.fromfile(f"{folder}/input{i}.bin", dtype=dtype).reshape(shape)


def onnx_runtime(ort, model, threads, folder):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept = []
    for i, port in enumerate(session.get_inputs()):
        array = ort.OrtValue.ortvalue_from_numpy(read(folder, i, ONNX_TYPES[port.type], port.shape))
        kept.append(array)
        binding.bind_ortvalue_input(port.name, array)
    for port in session.get_outputs():
        value = ort.OrtValue.ortvalue_from_shape_and_type(port.shape, ONNX_TYPES[port.type])
        kept.append(value)
        binding.bind_ortvalue_output(port.name, value)
    return (lambda: session.run_with_iobinding(binding),
            lambda: (kept, binding.get_outputs()[0].numpy())[1])


def open_vino(ov, model, threads, folder):
    core = ov.Core()
    # bfloat16 and the like are not what the others compute.
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
              "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    for i, port in enumerate(compiled.inputs):
        array = read(folder, i, port.element_type.to_dtype(), list(port.shape))
        request.set_input_tensor(i, ov.Tensor(array))
    return request.infer, lambda: request.get_output_tensor(0).data


def main():
    runtime, model, threads, folder = sys.argv[1:]
    if runtime == "ort":
        import onnxruntime as module
        load = onnx_runtime
    else:
        import openvino as module
        load = open_vino
    start = time.perf_counter_ns()
    run, output = load(module, model, int(threads), folder)
    run()
    print(json.dumps({"cold_ms": (time.perf_counter_ns() - start) / 1e6}), flush=True)
    clock = time.perf_counter_ns
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        if command == "run":
            times = [0] * int(argument)
            for i in range(len(times)):
                start = clock()
                run()
                times[i] = clock() - start
            print(json.dumps(times), flush=True)
        else:
            np.ascontiguousarray(output()).tofile(argument.strip())
            print(json.dumps({"written": argument.strip()}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as e:  # Reported like any other answer.
        print(json.dumps({"error": f"{type(e).__name__}: {e}".splitlines()[0]}), flush=True)
