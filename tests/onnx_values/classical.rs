//! Classical models (`ai.onnx.ml`): a few results that are written down, and what is refused. Beside ONNX Runtime they are run
//! by `tests/contrib`.

use nestjit::ErrorKind;
use nestjit::onnx::proto::AttributeProto;

use super::common::onnx::{floats as floats_attribute, string as text};
use super::*;

const F: DataType = DataType::Float;
const I: DataType = DataType::Int64;

/// A model of one node of the domain, in a version of its operator set.
fn ml(
    op: &str,
    version: i64,
    attributes: Vec<AttributeProto>,
    inputs: &[(&str, DataType, &[usize])],
    outputs: &[&str],
) -> ModelProto {
    let names: Vec<&str> = inputs.iter().map(|(name, ..)| *name).collect();
    let node =
        NodeProto { domain: Some("ai.onnx.ml".into()), name: Some("n".into()), ..node(op, &names, outputs) };
    let mut model = single(17, attributes.into_iter().fold(node, with), inputs, Vec::new());
    model.opset_import.push(opset("ai.onnx.ml", version));
    model
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

#[test]
fn one_score_of_two_classes() {
    let given = |transform: &str| {
        let attributes = vec![
            floats_attribute("coefficients", &[2.0, -1.0]),
            floats_attribute("intercepts", &[0.5]),
            ints("classlabels_ints", &[7, 9]),
            text("post_transform", transform),
        ];
        ml("LinearClassifier", 1, attributes, &[("x", F, &[2, 2])], &["label", "scores"])
    };
    let x = f32s(&[2, 2], &[1.0, 0.5, -1.0, 1.0]);
    let label = i64s(&[2], &[9, 7]);
    // The scores of the second class are 2 and -2.5.
    for transform in ["NONE", "SOFTMAX", "SOFTMAX_ZERO"] {
        let scores = f32s(&[2, 2], &[-1.0, 2.0, 3.5, -2.5]);
        assert_gives(given(transform), std::slice::from_ref(&x), &[label.clone(), scores], 1e-6);
    }
    let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
    let scores = f32s(&[2, 2], &[logistic(-2.0), logistic(2.0), logistic(2.5), logistic(-2.5)]);
    assert_gives(given("LOGISTIC"), &[x], &[label, scores], 1e-6);
    let e = import(given("PROBIT")).unwrap_err();
    assert_eq!(
        e.to_string(),
        "node 'n' (ai.onnx.ml.LinearClassifier, opset 1): the probit of one score for two classes is not supported"
    );
}

#[test]
fn scores_of_several_classes() {
    let given = |transform: &str| {
        let attributes = vec![
            floats_attribute("coefficients", &[1.0, 0.0, -1.0]),
            floats_attribute("intercepts", &[0.0, 0.0, 0.5]),
            ints("classlabels_ints", &[3, 1, 2]),
            text("post_transform", transform),
        ];
        ml("LinearClassifier", 1, attributes, &[("x", F, &[2, 1])], &["label", "scores"])
    };
    let x = f32s(&[2, 1], &[0.75, -1.0]);
    let label = i64s(&[2], &[3, 2]);
    let share = |scores: [f64; 3], skipped: bool| {
        let power = |s: f64| if skipped && s == 0.0 { 0.0 } else { s.exp() };
        let sum: f64 = scores.iter().map(|s| power(*s)).sum();
        scores.map(|s| (power(s) / sum) as f32)
    };
    for (transform, skipped) in [("SOFTMAX", false), ("SOFTMAX_ZERO", true)] {
        let scores = [share([0.75, 0.0, -0.25], skipped), share([-1.0, 0.0, 1.5], skipped)].concat();
        assert_gives(
            given(transform),
            std::slice::from_ref(&x),
            &[label.clone(), f32s(&[2, 3], &scores)],
            1e-6,
        );
    }
    // The quantiles of 0.75, 0.5 and 0.25 are 0.6745, 0 and -0.6745; the approximation is good to three digits.
    let attributes = vec![
        floats_attribute("coefficients", &[1.0, 1.0, 1.0]),
        floats_attribute("intercepts", &[0.25, 0.0, -0.25]),
        int("targets", 3),
        text("post_transform", "PROBIT"),
    ];
    let model = ml("LinearRegressor", 1, attributes, &[("x", F, &[1, 1])], &["y"]);
    assert_gives(model, &[f32s(&[1, 1], &[0.5])], &[f32s(&[1, 3], &[0.6745, 0.0, -0.6745])], 1e-3);
}

#[test]
fn integers_and_doubles_are_features() {
    let attributes = || vec![floats_attribute("offset", &[1.0, 2.0]), floats_attribute("scale", &[0.5, 2.0])];
    let y = f32s(&[2, 2], &[0.5, -4.0, -1.0, 2.0]);
    let x = [
        (F, Tensor::new(&[2, 2], &[2.0f32, 0.0, -1.0, 3.0])),
        (DataType::Double, Tensor::new(&[2, 2], &[2.0f64, 0.0, -1.0, 3.0])),
        (I, Tensor::new(&[2, 2], &[2i64, 0, -1, 3])),
        (DataType::Int32, Tensor::new(&[2, 2], &[2i32, 0, -1, 3])),
    ];
    for (number, x) in x {
        let x = x.unwrap();
        assert_gives(
            ml("Scaler", 1, attributes(), &[("x", number, &[2, 2])], &["y"]),
            &[x],
            std::slice::from_ref(&y),
            0.0,
        );
    }
    let model = ml("Scaler", 1, attributes(), &[("x", F, &[2, 3])], &["y"]);
    let e = import(model).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Shape);
    assert!(
        e.to_string().ends_with("2 elements in offset, which do not fit features of shape [2, 3]"),
        "{e}"
    );
}

/// An integer is above a number if it is above its floor, also where no `f32` tells it from its neighbours.
#[test]
fn integers_are_compared_as_integers() {
    let large = (1i64 << 53) + 1;
    for (threshold, expected) in [
        (-0.5, vec![0i64, 1, 1, 1]),
        (0.0, vec![0, 0, 1, 1]),
        (9007199254740992.0, vec![0, 0, 0, 1]),
        (f32::NAN, vec![0, 0, 0, 0]),
    ] {
        let model = ml("Binarizer", 1, vec![float("threshold", threshold)], &[("x", I, &[4])], &["y"]);
        let x = i64s(&[4], &[-1, 0, 1, large]);
        assert_gives(model, &[x], &[i64s(&[4], &expected)], 0.0);
    }
    let attributes = vec![ints("imputed_value_int64s", &[5]), int("replaced_value_int64", large)];
    let model = ml("Imputer", 1, attributes, &[("x", I, &[2])], &["y"]);
    assert_gives(model, &[i64s(&[2], &[large, large - 1])], &[i64s(&[2], &[5, large - 1])], 0.0);
}

#[test]
fn keys_are_found_wherever_they_lie() {
    let labels = |keys: &[i64]| -> Vec<i64> { (0..keys.len() as i64).map(|i| 100 + i).collect() };
    let spread = |n: i64| -> Vec<i64> { (0..n).map(|i| (i * 7919 % n) * 1_000_003 - 5_000_000).collect() };
    for keys in [vec![4], vec![3, 1, 2], vec![i64::MIN, i64::MAX, 0], vec![5, 0, 900], spread(2), spread(37)]
    {
        let attributes = vec![ints("keys_int64s", &keys), ints("values_int64s", &labels(&keys))];
        let x: Vec<i64> = keys.iter().flat_map(|k| [*k, k.wrapping_add(1), k.wrapping_sub(1)]).collect();
        let y: Vec<i64> =
            x.iter().map(|x| keys.iter().position(|k| k == x).map_or(-1, |i| 100 + i as i64)).collect();
        let shape = [3, keys.len()];
        let model = ml("LabelEncoder", 2, attributes, &[("x", I, &shape)], &["y"]);
        assert_gives(model, &[i64s(&shape, &x)], &[i64s(&shape, &y)], 0.0);
    }
}

/// The first of equal keys counts, zeros are equal, and NaN is a key like others.
#[test]
fn keys_that_are_equal() {
    let nan = f32::NAN;
    let attributes = vec![
        floats_attribute("keys_floats", &[nan, 1.5, 0.0, 1.5, nan]),
        ints("values_int64s", &[1, 2, 3, 4, 5]),
        int("default_int64", -7),
    ];
    let model = ml("LabelEncoder", 4, attributes, &[("x", F, &[6])], &["y"]);
    let x = f32s(&[6], &[1.5, -0.0, nan, -nan, f32::INFINITY, 1.0]);
    assert_gives(model, std::slice::from_ref(&x), &[i64s(&[6], &[2, 3, 1, 1, -7, -7])], 0.0);
    let attributes = vec![floats_attribute("keys_floats", &[nan]), floats_attribute("values_floats", &[2.0])];
    let model = ml("LabelEncoder", 4, attributes, &[("x", F, &[6])], &["y"]);
    assert_gives(model, &[x], &[f32s(&[6], &[-0.0, -0.0, 2.0, 2.0, -0.0, -0.0])], 0.0);
}

/// What is not a key is -1, whatever integers the values are.
#[test]
fn the_default_has_the_type_of_the_values() {
    for dtype in [DataType::Int32, DataType::Int16] {
        let values = TensorProto { int32_data: vec![5, 6], ..empty("v", dtype, &[2]) };
        let attributes = vec![ints("keys_int64s", &[1, 2]), tensor("values_tensor", values)];
        let model = ml("LabelEncoder", 4, attributes, &[("x", I, &[3])], &["y"]);
        let y = match dtype {
            DataType::Int32 => Tensor::new(&[3], &[6i32, -1, 5]),
            _ => Tensor::new(&[3], &[6i16, -1, 5]),
        };
        assert_gives(model, &[i64s(&[3], &[2, 9, 1])], &[y.unwrap()], 0.0);
    }
}

#[test]
fn a_category_that_is_not_known() {
    let given = |zeros| {
        let attributes = vec![ints("cats_int64s", &[8, 0, 3]), int("zeros", zeros)];
        import(ml("OneHotEncoder", 1, attributes, &[("x", I, &[2])], &["y"])).unwrap()
    };
    let known = [i64s(&[2], &[3, 8])];
    let y = f32s(&[2, 3], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    let unknown = [i64s(&[2], &[0, 42])];
    for fused in [true, false] {
        let compiler = Compiler::new();
        let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
        let strict = compiler.compile(&given(0).into()).unwrap();
        assert_eq!(strict.run(&known).unwrap(), std::slice::from_ref(&y));
        let e = strict.run(&unknown).unwrap_err();
        assert_eq!(
            e.to_string(),
            "node 'n' (ai.onnx.ml.OneHotEncoder, opset 1): the category 42 in 'x' is none of those that are known"
        );
        let lenient = compiler.compile(&given(1).into()).unwrap();
        let zeros = f32s(&[2, 3], &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(lenient.run(&unknown).unwrap(), [zeros]);
    }
}

/// Of two classes the probabilities are those of their pair.
#[test]
fn probabilities_of_classes() {
    let attributes = vec![
        floats_attribute("coefficients", &[1.0, -1.0]),
        floats_attribute("support_vectors", &[1.0, 0.0]),
        ints("vectors_per_class", &[1, 1]),
        floats_attribute("rho", &[0.25]),
        floats_attribute("prob_a", &[-2.0]),
        floats_attribute("prob_b", &[0.5]),
        ints("classlabels_ints", &[4, 6]),
    ];
    let model = ml("SVMClassifier", 1, attributes, &[("x", F, &[3, 1])], &["label", "p"]);
    let x = [0.5f32, -1.0, 2.0];
    let p: Vec<f32> = x
        .iter()
        .flat_map(|x| {
            let first = 1.0 / (1.0 + (-2.0 * (x + 0.25) + 0.5).exp());
            [first, 1.0 - first]
        })
        .collect();
    assert_gives(model, &[f32s(&[3, 1], &x)], &[i64s(&[3], &[4, 6, 4]), f32s(&[3, 2], &p)], 5e-3);
}

#[test]
fn lists_that_do_not_fit() {
    let linear = |coefficients: &[f32], labels: &[i64]| {
        let attributes =
            vec![floats_attribute("coefficients", coefficients), ints("classlabels_ints", labels)];
        ml("LinearClassifier", 1, attributes, &[("x", F, &[2, 2])], &["label", "scores"])
    };
    let machine = |vectors: &[f32], per_class: &[i64]| {
        let attributes = vec![
            floats_attribute("coefficients", &[1.0, -1.0]),
            floats_attribute("rho", &[0.0]),
            floats_attribute("support_vectors", vectors),
            ints("vectors_per_class", per_class),
            ints("classlabels_ints", &[0, 1]),
        ];
        ml("SVMClassifier", 1, attributes, &[("x", F, &[2, 1])], &["label", "scores"])
    };
    let two = ["label", "scores"];
    let cases = [
        (linear(&[1.0, 2.0, 3.0], &[0, 1]), "there are 3 coefficients, but 1 targets of 2 features"),
        (linear(&[1.0; 6], &[0, 1]), "there are 2 labels for 3 classes"),
        (ml("LinearClassifier", 1, Vec::new(), &[("x", F, &[2, 2])], &two), "'coefficients' is missing"),
        (machine(&[1.0, 2.0], &[1, 1, 0]), "there are 2 labels, but vectors of 3 classes"),
        (machine(&[1.0], &[1, 1]), "support_vectors has 1 elements, but 2 vectors of 1 features are needed"),
        (machine(&[1.0, 2.0], &[1, i64::MAX]), "but 9223372036854775808 vectors of 1 features are needed"),
        (machine(&[1.0, 2.0], &[-1, 1]), "vectors_per_class must not be negative, but is -1"),
    ];
    for (model, message) in cases {
        let e = import(model).unwrap_err();
        assert!(e.to_string().contains(message), "{e}");
        assert!(e.to_string().starts_with("node 'n' (ai.onnx.ml."), "{e}");
    }
}
