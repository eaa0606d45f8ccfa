#!/usr/bin/env python3
"""Prints defaults.txt: `defaults.py > defaults.txt`. Needs the package onnx, whose schemas it reads."""
import numpy as np
import onnx

print(f"""\
# The default values of attributes, by operator and version of its schema, as the package onnx {onnx.__version__} has them; written by
# defaults.py. The notation is that of examples.txt. Of operators that have any, every version is listed.
""")


def text(value):
    if isinstance(value, list):
        return "[" + ",".join(text(v) for v in value) + "]"
    if isinstance(value, bytes):
        return f'"{value.decode()}"'
    if isinstance(value, float):
        # The shortest number that is the same float32, with a point.
        with np.errstate(over="ignore"):
            short = next(t for t in (f"{value:.{n}g}" for n in range(1, 20)) if np.float32(t) == value)
        digits, e, exponent = short.partition("e")
        return digits + ("" if "." in digits else ".0") + e + exponent
    return str(value)


operators = {}
for schema in onnx.defs.get_all_schemas_with_history():
    defaults = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.type}
    if schema.domain == "":
        values = (f"{name}={text(onnx.helper.get_attribute_value(defaults[name]))}" for name in sorted(defaults))
        operators.setdefault(schema.name, {})[schema.since_version] = " ".join(values)
for name, versions in sorted(operators.items()):
    if any(versions.values()):
        for version, values in sorted(versions.items()):
            print(f"{name}@{version} ; {values}" if values else f"{name}@{version}")
