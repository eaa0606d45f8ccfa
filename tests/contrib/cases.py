"""What a case of an operator is, its model, and how results are compared."""

from dataclasses import dataclass, field, replace

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPERATORS = {}


def operator(*names):
    """Registers a function that makes a random case of each operator: `make(rng, name) -> Case`."""

    def register(make):
        for name in names:
            OPERATORS[name] = make
        return make

    return register


@dataclass
class Const:
    """An operand that is an initializer."""

    array: np.ndarray


@dataclass
class Case:
    """A node with its operands."""

    name: str
    # Arrays, `Const`s, and `None` for what is left out.
    inputs: list
    attributes: dict = field(default_factory=dict)
    # For each output whether it is asked for.
    outputs: tuple = (True,)
    domain: str = "com.microsoft"
    # Bound of the error of floats, relative to the largest element (or 1).
    tolerance: float = 2e-5
    # How far integers may be apart: results that lie between two are rounded to either.
    steps: int = 0
    # What the outputs must be, where ONNX Runtime has no implementation for the CPU: a function of the arrays.
    reference: object = None
    # What of an output counts: `(number, array) -> array`.
    visible: object = None
    opset: int = 17
    # The version of the operator set of the case's own domain, unless that is the same.
    version: int = 0

    def arrays(self):
        return [x.array if isinstance(x, Const) else x for x in self.inputs]

    def parts(self, prefix=""):
        """The node, the inputs and the initializers, under names that start with `prefix`."""
        names, inputs, initializers = [], {}, []
        for i, x in enumerate(self.inputs):
            name = "" if x is None else f"{prefix}x{i}"
            names.append(name)
            if isinstance(x, Const):
                initializers.append(numpy_helper.from_array(x.array, name))
            elif x is not None:
                inputs[name] = x
        while names and not names[-1]:
            names.pop()
        outputs = [f"{prefix}y{i}" if asked else "" for i, asked in enumerate(self.outputs)]
        node = helper.make_node(self.name, names, outputs, name=f"{prefix}{self.name}", domain=self.domain,
                                **self.attributes)
        return node, inputs, initializers, [name for name in outputs if name]

    def describe(self):
        shape = lambda a: f"{a.dtype}{list(a.shape)}"
        operands = [("const " if isinstance(x, Const) else "") + shape(a) if a is not None else "-"
                    for x, a in zip(self.inputs, self.arrays())]
        return f"{self.name}({', '.join(operands)}) {self.attributes} -> {list(self.outputs)}"


def halved(case):
    """The case with its floats of 16 bits."""

    def half(x):
        if isinstance(x, Const):
            return Const(half(x.array))
        return x.astype(np.float16) if x is not None and x.dtype == np.float32 else x

    return replace(case, inputs=[half(x) for x in case.inputs])


def model(cases):
    """A model that has a node for each case, and the values of its inputs; and the names of the outputs of each case."""
    nodes, feeds, initializers, outputs = [], {}, [], []
    for i, case in enumerate(cases):
        node, inputs, constants, results = case.parts(f"c{i}_")
        nodes.append(node)
        feeds.update(inputs)
        initializers += constants
        outputs.append(results)
    infos = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
             for name, x in feeds.items()]
    results = [helper.make_value_info(name, helper.make_tensor_type_proto(TensorProto.UNDEFINED, None))
               for names in outputs for name in names]
    for info in results:
        info.ClearField("type")
    graph = helper.make_graph(nodes, "cases", infos, results, initializers)
    opsets = [helper.make_opsetid("", cases[0].opset), helper.make_opsetid("com.microsoft", 1)]
    opsets += [helper.make_opsetid(domain, cases[0].version or cases[0].opset)
               for domain in sorted({c.domain for c in cases} - {"", "com.microsoft"})]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds, outputs


def expected(case, run):
    """The outputs that are asked for: of the case's own reference, or `run(model, feeds)`."""
    if case.reference is not None:
        results = case.reference(case, *case.arrays())
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        return [r for r, asked in zip(results, case.outputs) if asked]
    proto, feeds, _ = model([case])
    return run(proto, feeds)


def difference(case, number, actual, wanted):
    """What is wrong with an output, if anything."""
    wanted = np.asarray(wanted)
    if actual.dtype != wanted.dtype or actual.shape != wanted.shape:
        return f"{actual.dtype}{list(actual.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if case.visible:
        actual, wanted = case.visible(number, actual), case.visible(number, wanted)
    if wanted.size == 0:
        return None
    if wanted.dtype.kind in "biu":
        apart = np.abs(actual.astype(np.int64) - wanted.astype(np.int64))
        # Only some lie in the middle between two.
        if apart.max() > case.steps or (apart > 0).mean() > 0.1:
            at = np.unravel_index(apart.argmax(), apart.shape)
            return f"{actual[at]} instead of {wanted[at]} at {list(map(int, at))}, {(apart > 0).mean():.1%} differ"
        return None
    a, b = actual.astype(np.float64), wanted.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN in other places"
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite & ~np.isnan(b)], b[~finite & ~np.isnan(b)]):
        return "infinities in other places"
    tolerance = max(case.tolerance, 4e-3 if wanted.dtype == np.float16 else 0)
    bound = tolerance * max(1.0, np.abs(b[finite]).max(initial=0.0))
    error = np.where(finite, np.abs(a - b), 0.0)
    if not error.max() <= bound:
        at = np.unravel_index(np.nanargmax(error), error.shape)
        return f"{a[at]:.7g} instead of {b[at]:.7g} at {list(map(int, at))}"
    return None


# Random operands.


def floats(rng, *shape, scale=1.0, dtype=np.float32):
    return np.asarray(rng.standard_normal(shape) * scale, dtype)


def either(rng, array):
    """An operand, or an initializer."""
    return Const(array) if rng.random() < 0.5 else array


def optional(rng, array, chance=0.5):
    return either(rng, array) if rng.random() < chance else None


def extent(rng, low=1, high=9):
    return int(rng.integers(low, high + 1))


def extents(rng, count, low=1, high=7):
    return [extent(rng, low, high) for _ in range(count)]


def flag(rng, chance=0.5):
    return int(rng.random() < chance)


def given(rng, attributes, chance=0.6):
    """Some of these attributes: the others keep their defaults."""
    return {name: value for name, value in attributes.items() if rng.random() < chance}
