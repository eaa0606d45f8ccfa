"""Writes the suite's cases as files: `generate.py PACKAGES FOLDER`.

PACKAGES is where what `suite.txt` lists is installed. The node cases are made by the package's own code (models, inputs
and expected outputs), the others are copied from its data.
"""

import pathlib
import shutil
import sys
import warnings

sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_node_model_tests

COPIED = ["light", "pytorch-converted", "pytorch-operator", "simple"]


def encode(value, info):
    """A tensor, sequence, optional value or map, as the runner reads it."""
    if isinstance(value, onnx.TensorProto):
        return value
    make = {
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
        "map_type": numpy_helper.from_dict,
        "tensor_type": numpy_helper.from_array,
    }
    return make[info.type.WhichOneof("value")](value, info.name)


def write_case(case, folder):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir()
        graph = case.model.graph
        for kind, values, infos in [("input", inputs, graph.input), ("output", outputs, graph.output)]:
            for j, (value, info) in enumerate(zip(values, infos)):
                (data / f"{kind}_{j}.pb").write_bytes(encode(value, info).SerializeToString())


def main():
    folder = pathlib.Path(sys.argv[2])
    # Most cases draw random numbers without a seed of their own.
    np.random.seed(0)
    for case in load_node_model_tests():
        write_case(case, folder / case.kind / case.name)
    data = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
    for part in COPIED:
        shutil.copytree(data / part, folder / part)


main()
