//! The ends of what operators allow: windows larger than what they slide over, ranges that are empty, borders longer than
//! what they are made of, parameters of other shapes than usual.

use nestjit::onnx::proto::AttributeProto;

use super::common::onnx::*;
use super::{assert_refused, run};

/// Pools over one spatial dimension, in the order MaxPool, AveragePool, AveragePool with padding counted, LpPool.
fn pools(n: usize, attributes: &[AttributeProto]) -> [Vec<f32>; 4] {
    let counted = Some(int("count_include_pad", 1));
    [("MaxPool", None), ("AveragePool", None), ("AveragePool", counted), ("LpPool", None)].map(
        |(op, more)| {
            let pool = attributes.iter().cloned().chain(more).fold(node(op, &["x"], &["y"]), with);
            let x: Vec<f32> = (1..=n).map(|v| v as f32).collect();
            let (shape, y) = run(22, model(&["1", "1", &n.to_string()], vec![pool], vec![]), &x);
            assert_eq!(shape, [1, 1, y.len()]);
            y
        },
    )
}

/// What ONNX Runtime gives.
#[test]
fn windows_larger_than_what_they_slide_over() {
    let ceil = |kernel: i64, stride: i64, pad: i64, dilation: i64| {
        vec![
            int("ceil_mode", 1),
            ints("kernel_shape", &[kernel]),
            ints("strides", &[stride]),
            ints("pads", &[pad, pad]),
            ints("dilations", &[dilation]),
        ]
    };
    let root_5 = 5f32.sqrt();
    assert_eq!(pools(1, &ceil(4, 2, 1, 1)), [[1.0], [1.0], [1.0 / 3.0], [1.0]]);
    assert_eq!(pools(2, &ceil(3, 2, 0, 1)), [[2.0], [1.5], [1.5], [root_5]]);
    assert_eq!(pools(2, &ceil(3, 4, 0, 2)), [[1.0]; 4]);
    // A step further, and no window is left.
    for none in [ceil(5, 2, 1, 1), ceil(6, 2, 1, 1), ceil(3, 2, 0, 2), ceil(3, 1, 0, 1)] {
        let n = if none[3] == ints("pads", &[1, 1]) { 1 } else { 2 };
        assert_eq!(pools(n, &none), [const { Vec::<f32>::new() }; 4]);
    }
    let pool = ceil(9, 2, 0, 1).into_iter().fold(node("MaxPool", &["x"], &["y"]), with);
    let cause = "the window's extent 9 is larger than the padded input's 2";
    assert_refused(22, model(&["1", "1", "2"], vec![pool], vec![]), cause);
}

/// Every range of a dimension of 0 to 3 elements, by the operator's text.
#[test]
fn ranges() {
    for n in 0..4i64 {
        let x: Vec<f32> = (0..n).map(|v| v as f32).collect();
        let ends = [i64::MIN, -5, -3, -1, 0, 1, 2, 4, i64::MAX];
        for (start, end) in ends.iter().flat_map(|s| ends.map(|e| (*s, e))) {
            for step in [-3, -1, 1, 2, i64::MIN, i64::MAX] {
                let list = |name, v| i64s(name, &[1], &[v]);
                let weights = vec![list("s", start), list("e", end), list("a", 0), list("t", step)];
                let m = model(
                    &[&n.to_string()],
                    vec![node("Slice", &["x", "s", "e", "a", "t"], &["y"])],
                    weights,
                );
                let from_start = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
                let (mut i, to) = match step > 0 {
                    true => (from_start(start).clamp(0, n), from_start(end).clamp(0, n)),
                    false => (
                        from_start(start).clamp(0, (n - 1).max(0)),
                        from_start(end).clamp(-1, (n - 1).max(-1)),
                    ),
                };
                let mut expected = Vec::new();
                while n > 0 && if step > 0 { i < to } else { i > to } {
                    expected.push(i as f32);
                    i = i.saturating_add(step);
                }
                let what = format!("{start}:{end}:{step} of {n}");
                assert_eq!(run(13, m, &x), (vec![expected.len()], expected), "{what}");
            }
        }
    }
}

#[test]
fn borders_longer_than_what_they_are_made_of() {
    let padded = |mode: &str, pads: &[i64], x: &[f32]| {
        let pad = with(node("Pad", &["x", "p"], &["y"]), string("mode", mode));
        let m = model(&[&x.len().to_string()], vec![pad], vec![i64s("p", &[2], pads)]);
        run(19, m, x).1
    };
    let x = [1.0, 2.0, 3.0];
    assert_eq!(padded("wrap", &[4, 0], &x), [3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    assert_eq!(padded("wrap", &[0, 7], &x), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]);
    assert_eq!(padded("wrap", &[-1, 5], &x), [2.0, 3.0, 2.0, 3.0, 2.0, 3.0, 2.0]);
    assert_eq!(padded("wrap", &[2, -1], &x), [1.0, 2.0, 1.0, 2.0]);
    assert_eq!(padded("reflect", &[4, 0], &x), [1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0]);
    assert_eq!(padded("reflect", &[3, 3], &x), [2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]);
    assert_eq!(padded("reflect", &[2, 1], &x[..1]), [1.0; 4]);
    assert_eq!(padded("edge", &[-2, 3], &x), [3.0; 4]);
}

#[test]
fn parameters_of_normalisations_broadcast() {
    let layer = |weights: &[(&str, &[i64], &[f32])]| {
        let names: Vec<&str> = std::iter::once("x").chain(weights.iter().map(|w| w.0)).collect();
        let n = with(node("LayerNormalization", &names, &["y"]), float("epsilon", 0.0));
        let weights = weights.iter().map(|(name, dims, values)| f32s(name, dims, values)).collect();
        model(&["1", "2", "2"], vec![n], weights)
    };
    // Every row becomes -1, 1.
    let x = [1.0, 3.0, 10.0, 20.0];
    let of = |weights: &[(&str, &[i64], &[f32])]| run(17, layer(weights), &x).1;
    assert_eq!(of(&[("s", &[1, 1, 2], &[2.0, 3.0])]), [-2.0, 3.0, -2.0, 3.0]);
    assert_eq!(of(&[("s", &[2, 1], &[2.0, 3.0])]), [-2.0, 2.0, -3.0, 3.0]);
    assert_eq!(of(&[("s", &[], &[2.0]), ("b", &[1, 2, 1], &[1.0, 5.0])]), [-1.0, 3.0, 3.0, 7.0]);
    assert_eq!(
        of(&[("s", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), ("b", &[2], &[0.5, 1.0])]),
        [-0.5, 3.0, -2.5, 5.0]
    );
    let wide = layer(&[("s", &[3, 1, 2], &[1.0; 6])]);
    assert_refused(17, wide, "the scale [3, 1, 2] does not broadcast to [1, 2, 2]");
    // Every row becomes 0.6, 0.8 times the root of 2.
    let root = with(node("RMSNormalization", &["x", "s"], &["y"]), float("epsilon", 0.0));
    let m = model(&["2", "2"], vec![root], vec![f32s("s", &[2, 1], &[5.0, 10.0])]);
    let y = run(23, m, &[3.0, 4.0, 6.0, 8.0]).1;
    let expected = [3.0, 4.0, 6.0, 8.0].map(|v: f32| v * 2f32.sqrt());
    assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
}
