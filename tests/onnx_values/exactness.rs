//! Numbers that a detour over another type would change: bounds, fillings, exponents.

use nestjit::onnx::proto::TensorProto;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::{DType, Tensor};

use super::common::onnx::{empty, f32s, float, i64s, int, node, string, with};
use super::{assert_gives, single};

#[test]
fn a_bound_that_is_left_out_is_the_largest_finite_number() {
    let x = [f32::NEG_INFINITY, f32::MIN, -1.0, 0.5, f32::MAX, f32::INFINITY, f32::NAN];
    let cut = |low: f32, high: f32| {
        let y = x.map(|v| if v.is_nan() { v } else { v.max(low).min(high) });
        Tensor::new(&[7], &y).unwrap()
    };
    let input = Tensor::new(&[7], &x).unwrap();
    let low = || vec![f32s("l", &[], &[0.0])];
    for (version, clip, bounds, y) in [
        (13, node("Clip", &["x"], &["y"]), vec![], cut(f32::MIN, f32::MAX)),
        (13, node("Clip", &["x", "l"], &["y"]), low(), cut(0.0, f32::MAX)),
        (11, node("Clip", &["x", "", "l"], &["y"]), low(), cut(f32::MIN, 0.0)),
        (6, with(node("Clip", &["x"], &["y"]), float("min", 0.0)), vec![], cut(0.0, f32::MAX)),
        (6, node("Clip", &["x"], &["y"]), vec![], cut(f32::MIN, f32::MAX)),
        (
            13,
            node("Clip", &["x", "", "h"], &["y"]),
            vec![f32s("h", &[], &[f32::INFINITY])],
            cut(f32::MIN, f32::INFINITY),
        ),
    ] {
        let model = single(version, clip, &[("x", DataType::Float, &[7])], bounds);
        assert_gives(model, std::slice::from_ref(&input), &[y], 0.0);
    }
    let wide = Tensor::new(&[3], &[f64::NEG_INFINITY, 1e300, f64::INFINITY]).unwrap();
    let y = Tensor::new(&[3], &[f64::MIN, 1e300, f64::MAX]).unwrap();
    let model = single(13, node("Clip", &["x"], &["y"]), &[("x", DataType::Double, &[3])], vec![]);
    assert_gives(model, &[wide], &[y], 0.0);
    let whole = Tensor::new(&[2], &[i64::MIN, i64::MAX]).unwrap();
    let model = single(13, node("Clip", &["x"], &["y"]), &[("x", DataType::Int64, &[2])], vec![]);
    assert_gives(model, std::slice::from_ref(&whole), std::slice::from_ref(&whole), 0.0);
}

#[test]
fn bounds_that_are_computed_leave_the_other_one_finite() {
    let clip = node("Clip", &["x", "l"], &["y"]);
    let inputs = [("x", DataType::Float, &[3][..]), ("l", DataType::Float, &[])];
    let x = Tensor::new(&[3], &[f32::NEG_INFINITY, 2.0, f32::INFINITY]).unwrap();
    let low = Tensor::new(&[], &[-1.5f32]).unwrap();
    let y = Tensor::new(&[3], &[-1.5, 2.0, f32::MAX]).unwrap();
    assert_gives(single(13, clip, &inputs, vec![]), &[x, low], &[y], 0.0);
}

#[test]
fn large_integers_fill_as_they_are() {
    let large = (1i64 << 53) + 1;
    let pad = node("Pad", &["x", "p", "v"], &["y"]);
    let weights = vec![i64s("p", &[2], &[1, 2]), i64s("v", &[], &[large])];
    let x = Tensor::new(&[2], &[-large, i64::MIN]).unwrap();
    let y = Tensor::new(&[5], &[large, -large, i64::MIN, large, large]).unwrap();
    assert_gives(single(13, pad, &[("x", DataType::Int64, &[2])], weights), &[x], &[y], 0.0);
}

#[test]
fn whole_exponents_keep_their_parity() {
    let odd = (1i64 << 24) + 1;
    let pow = node("Pow", &["x", "e"], &["y"]);
    let x = Tensor::new(&[2], &[-1.0f32, -1.0]).unwrap();
    let y = Tensor::new(&[2], &[-1.0f32, 1.0]).unwrap();
    let exponents = Tensor::new(&[2], &[odd, odd + 1]).unwrap();
    let inputs = [("x", DataType::Float, &[2][..]), ("e", DataType::Int64, &[2])];
    assert_gives(
        single(15, pow.clone(), &inputs, vec![]),
        &[x.clone(), exponents],
        std::slice::from_ref(&y),
        0.0,
    );
    let weights = vec![i64s("e", &[2], &[odd, odd + 1])];
    assert_gives(single(15, pow, &inputs[..1], weights), &[x], &[y], 0.0);
}

#[test]
fn quantised_products_are_scaled_by_one_number() {
    // 825 * (0.01 * 0.02 / 0.11) is 1.5 and rounds to 2; divided last it would be a little less. 3,025 gives 5.5.
    let inputs = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"];
    let product = node("QLinearMatMul", &inputs, &["y"]);
    let zero = |name: &str| TensorProto { int32_data: vec![0], ..empty(name, DataType::Uint8, &[]) };
    let weights = vec![
        f32s("as", &[], &[0.01]),
        f32s("bs", &[], &[0.02]),
        f32s("ys", &[], &[0.11]),
        zero("az"),
        zero("bz"),
        zero("yz"),
    ];
    let shapes = [("a", DataType::Uint8, &[2, 1][..]), ("b", DataType::Uint8, &[1, 1])];
    let a = Tensor::new(&[2, 1], &[33u8, 121]).unwrap();
    let b = Tensor::new(&[1, 1], &[25u8]).unwrap();
    let y = Tensor::new(&[2, 1], &[2u8, 6]).unwrap();
    assert_gives(single(20, product, &shapes, weights), &[a, b], &[y], 0.0);
}

#[test]
fn what_has_no_element_stays_empty() {
    for (operator, attributes) in
        [("Hardmax", vec![int("axis", 1)]), ("Softmax", vec![int("axis", 1)]), ("LRN", vec![int("size", 3)])]
    {
        for shape in [[2, 0, 3], [0, 4, 3], [2, 4, 0]] {
            let node = attributes.iter().cloned().fold(node(operator, &["x"], &["y"]), with);
            let empty = Tensor::zeros(DType::F32, &shape).unwrap();
            let model = single(17, node, &[("x", DataType::Float, &shape)], vec![]);
            let empty = std::slice::from_ref(&empty);
            assert_gives(model, empty, empty, 0.0);
        }
    }
}

#[test]
fn there_may_be_no_channel_to_normalise() {
    let x = Tensor::zeros(DType::F32, &[2, 0, 3]).unwrap();
    let none = || TensorProto { ..empty("s", DataType::Float, &[0]) };
    let node = node("InstanceNormalization", &["x", "s", "s"], &["y"]);
    let model = single(17, node, &[("x", DataType::Float, &[2, 0, 3])], vec![none()]);
    assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&x), 0.0);
}

#[test]
fn what_is_left_out_need_not_be_a_number() {
    let shape: &[usize] = &[3, 2];
    let scores = Tensor::new(shape, &[0.5f32, 0.25, f32::NEG_INFINITY, 1.0, f32::NAN, f32::NAN]).unwrap();
    let targets = Tensor::new(&[3], &[0i64, -100, -100]).unwrap();
    for (reduction, rest) in [("mean", &[][..]), ("sum", &[]), ("none", &[0.0, 0.0])] {
        let first = f64::ln(0.5f64.exp() + 0.25f64.exp()) - 0.5;
        for (operator, value) in [("SoftmaxCrossEntropyLoss", first), ("NegativeLogLikelihoodLoss", -0.5)] {
            let mut node = with(node(operator, &["x", "t"], &["y"]), string("reduction", reduction));
            node = with(node, int("ignore_index", -100));
            let inputs: &[(&str, DataType, &[usize])] =
                &[("x", DataType::Float, shape), ("t", DataType::Int64, &[3])];
            let values: Vec<f32> = std::iter::once(value as f32).chain(rest.iter().copied()).collect();
            let dims: &[usize] = if rest.is_empty() { &[] } else { &[3] };
            let expected = Tensor::new(dims, &values).unwrap();
            assert_gives(
                single(13, node, inputs, vec![]),
                &[scores.clone(), targets.clone()],
                &[expected],
                1e-6,
            );
        }
    }
    let gemm = with(node("Gemm", &["a", "b", "c"], &["y"]), float("beta", 0.0));
    let inputs: &[(&str, DataType, &[usize])] =
        &[("a", DataType::Float, &[1, 2]), ("b", DataType::Float, &[2, 1]), ("c", DataType::Float, &[1])];
    let [a, b] = [[1, 2], [2, 1]].map(|shape| Tensor::new(&shape, &[2.0f32, 3.0]).unwrap());
    let c = Tensor::new(&[1], &[f32::NAN]).unwrap();
    let y = Tensor::new(&[1, 1], &[13.0f32]).unwrap();
    assert_gives(single(13, gemm, inputs, vec![]), &[a, b, c], &[y], 0.0);
}
