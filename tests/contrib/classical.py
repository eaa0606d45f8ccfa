"""Classical models: features, linear models, support vector machines, labels."""

import numpy as np
from onnx import numpy_helper

from cases import Case, Const, extent, flag, floats, given, operator

DOMAIN = "ai.onnx.ml"
NUMBERS = [np.float32, np.float64, np.int64, np.int32]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


def case(name, inputs, attributes, version=3, **more):
    return Case(name, inputs, attributes, domain=DOMAIN, version=version, **more)


def features(rng, types=NUMBERS, columns=None):
    """A matrix of features, or one row of them."""
    columns = columns or extent(rng, 1, 9)
    rows = extent(rng, 1, 40)
    x = rng.standard_normal((rows, columns)) * 3
    dtype = types[rng.integers(len(types))]
    return (x[0] if rng.random() < 0.15 else x).astype(dtype)


def numbers(rng, count, scale=1.0):
    """Floats as attributes hold them."""
    return [float(v) for v in floats(rng, count, scale=scale)]


def transform(rng, two_of_one):
    """What is done to scores. The quantile of one score for two classes is not defined, of others not everywhere."""
    return str(rng.choice(TRANSFORMS[:4] if two_of_one else TRANSFORMS))


@operator("Scaler")
def scaler(rng, name):
    x = features(rng)
    sizes = [1, 1] if rng.random() < 0.5 else [x.shape[-1]] * 2
    return case(name, [x], {"offset": numbers(rng, sizes[0]), "scale": numbers(rng, sizes[1])})


@operator("Normalizer")
def normalizer(rng, name):
    x = features(rng)
    if rng.random() < 0.2:
        x = x * 0
    return case(name, [x], given(rng, {"norm": str(rng.choice(["MAX", "L1", "L2"]))}, 0.8))


@operator("Binarizer")
def binarizer(rng, name):
    return case(name, [features(rng, [np.float32])], given(rng, {"threshold": numbers(rng, 1)[0]}))


@operator("Imputer")
def imputer(rng, name):
    x = features(rng, [np.float32, np.int64])
    count = x.shape[-1] if rng.random() < 0.5 else 1
    if x.dtype == np.int64:
        return case(name, [x], {"imputed_value_int64s": [int(v) for v in rng.integers(-9, 9, count)],
                                "replaced_value_int64": int(x.flat[0])})
    missing = float("nan") if rng.random() < 0.5 else float(x.flat[0])
    x[rng.random(x.shape) < 0.3] = missing
    return case(name, [x], {"imputed_value_floats": numbers(rng, count), "replaced_value_float": missing})


@operator("FeatureVectorizer")
def feature_vectorizer(rng, name):
    rows, dtype = extent(rng, 1, 9), NUMBERS[rng.integers(4)]
    parts = [(rng.standard_normal((rows, extent(rng, 1, 5))) * 9).astype(dtype) for _ in range(extent(rng, 1, 4))]
    return case(name, parts, {"inputdimensions": [max(1, p.shape[1] + int(rng.integers(-2, 3))) for p in parts]})


@operator("ArrayFeatureExtractor")
def array_feature_extractor(rng, name):
    x = features(rng)
    if rng.random() < 0.3:
        x = np.stack([x, -x])
    which = rng.integers(0, x.shape[-1], extent(rng, 1, 6))
    return case(name, [x, Const(which) if rng.random() < 0.5 else which], {})


@operator("LinearClassifier")
def linear_classifier(rng, name):
    x = features(rng)
    classes = extent(rng, 1, 5)
    labels = max(classes, 2)
    attributes = {"coefficients": numbers(rng, classes * x.shape[-1]), "intercepts": numbers(rng, classes),
                  "classlabels_ints": [int(v) for v in rng.permutation(9)[:labels]],
                  "post_transform": transform(rng, classes == 1)}
    return case(name, [x], {**attributes, **given(rng, {"multi_class": flag(rng)})}, outputs=(True, True), tolerance=2e-4)


@operator("LinearRegressor")
def linear_regressor(rng, name):
    x = features(rng, [np.float32])
    targets = extent(rng, 1, 4)
    attributes = {"coefficients": numbers(rng, targets * x.shape[-1]), "targets": targets,
                  "post_transform": transform(rng, False)}
    return case(name, [x], {**attributes, **given(rng, {"intercepts": numbers(rng, targets)})}, tolerance=2e-4)


def kernel(rng, columns):
    kind = str(rng.choice(["LINEAR", "POLY", "RBF", "SIGMOID"]))
    degree = float(rng.choice([1, 2, 3, 4]))
    return {"kernel_type": kind, "kernel_params": [float(rng.uniform(0.02, 0.3)), float(rng.uniform(-0.5, 0.5)), degree]}


@operator("SVMRegressor")
def svm_regressor(rng, name):
    x = features(rng, [np.float32])
    columns, count = x.shape[-1], extent(rng, 0, 9)
    attributes = {**kernel(rng, columns), "n_supports": count, "rho": numbers(rng, 1),
                  "coefficients": numbers(rng, count or columns), "support_vectors": numbers(rng, count * columns)}
    if not count:
        del attributes["support_vectors"]
    return case(name, [x], {**attributes, **given(rng, {"one_class": flag(rng)}, 0.4)}, tolerance=2e-4)


@operator("SVMClassifier")
def svm_classifier(rng, name):
    x = features(rng)
    columns, classes = x.shape[-1], extent(rng, 2, 5)
    pairs = classes * (classes - 1) // 2
    attributes = {**kernel(rng, columns), "classlabels_ints": [int(v) for v in rng.permutation(9)[:classes]]}
    if rng.random() < 0.25:
        # Of a linear model.
        attributes.update(coefficients=numbers(rng, classes * columns), rho=numbers(rng, 1))
        if rng.random() < 0.3:
            attributes["coefficients"] = [abs(v) for v in attributes["coefficients"]]
        return case(name, [x], {**attributes, "post_transform": transform(rng, False)}, outputs=(True, True), tolerance=2e-4)
    of_class = [extent(rng, 1, 5) for _ in range(classes)]
    count = sum(of_class)
    attributes.update(vectors_per_class=of_class, support_vectors=numbers(rng, count * columns),
                      coefficients=numbers(rng, (classes - 1) * count), rho=numbers(rng, pairs))
    likely = rng.random() < 0.5
    if likely:
        attributes.update(prob_a=[-abs(v) - 0.1 for v in numbers(rng, pairs)], prob_b=numbers(rng, pairs))
    attributes["post_transform"] = transform(rng, classes == 2 and not likely)
    return case(name, [x], attributes, outputs=(True, True), tolerance=5e-3 if likely else 2e-4)


@operator("OneHotEncoder")
def one_hot_encoder(rng, name):
    categories = [int(v) for v in rng.permutation(200 if rng.random() < 0.5 else 12)[:extent(rng, 1, 9)]]
    known = flag(rng)
    shape = [extent(rng, 1, 6) for _ in range(extent(rng, 1, 3))]
    x = rng.choice(categories if known else categories + [-3, 5000], shape)
    types = [np.float32, np.float64, np.int64]
    return case(name, [x.astype(types[rng.integers(3)])], {"cats_int64s": categories, **({"zeros": 0} if known else {})})


def labels(rng, dtype, count):
    """Labels, no two of which are equal."""
    if np.dtype(dtype).kind == "f":
        return rng.permutation(50)[:count].astype(dtype) / 4
    spread = 1 if rng.random() < 0.5 else 600
    return (rng.permutation(50)[:count] * spread - 7).astype(dtype)


def label_model(rng, name, version, types, attribute):
    count = extent(rng, 1, 20)
    source, target = (types[rng.integers(len(types))] for _ in range(2))
    keys, values = labels(rng, source, count), labels(rng, target, count)
    if np.dtype(source).kind == "f" and version >= 4 and rng.random() < 0.4:
        keys[rng.integers(count)] = np.nan
    x = rng.choice(np.append(keys, labels(rng, source, 3)), [extent(rng, 1, 6) for _ in range(extent(rng, 1, 3))])
    attributes = {**attribute("keys", keys), **attribute("values", values)}
    if np.dtype(target) == np.int64:
        attributes.update(given(rng, {"default_int64": 77}))
    elif np.dtype(target) == np.float32:
        attributes.update(given(rng, {"default_float": 0.75}))
    return case(name, [x], attributes, version)


def as_list(kind, array):
    return {f"{kind}_{'floats' if array.dtype.kind == 'f' else 'int64s'}": [v.item() for v in array]}


def as_tensor(kind, array):
    return {f"{kind}_tensor": numpy_helper.from_array(array, kind)}


@operator("2.LabelEncoder")
def label_encoder_2(rng, name):
    types = [np.int64, np.float32]
    while True:
        made = label_model(rng, name, 2, types, as_list)
        # ONNX Runtime has no such kernel.
        if not ("keys_floats" in made.attributes and "values_int64s" in made.attributes):
            return made


@operator("LabelEncoder")
def label_encoder(rng, name):
    # The pairs of types that ONNX Runtime has kernels for.
    types = [[np.int64, np.float32], [np.float64], [np.int16, np.int64]][rng.integers(2)]
    if types == [np.float64]:
        made = label_model(rng, name, 4, types, as_tensor)
        made.attributes["default_tensor"] = numpy_helper.from_array(np.array([1.25]), "default")
        return made
    return label_model(rng, name, 4, types, as_list)
