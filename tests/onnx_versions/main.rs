//! What changed from one version of ONNX to the next: attributes that became inputs, defaults, broadcasting. What
//! the format itself allows is in `format`, the ends of what operators allow in `corners`.

#[path = "../common/mod.rs"]
mod common;
mod corners;
mod format;

use common::onnx::*;
use nestjit::Tensor;
use nestjit::graph::{Graph, Precision, evaluate};
use nestjit::onnx::proto::{ModelProto, NodeProto, TensorProto};

fn outputs(graph: &Graph, x: &[f32]) -> Vec<Tensor> {
    let shape = &graph.value(graph.inputs[0]).shape;
    evaluate(graph, &[Tensor::new(shape, x).unwrap()], Precision::F32).unwrap()
}

/// The first output, which must be of floats, of a model in a version of the operator set.
#[track_caller]
fn run(version: i64, m: ModelProto, x: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let graph = import(in_opset(m, version)).unwrap_or_else(|e| panic!("opset {version}: {e}"));
    let y = outputs(&graph, x).remove(0);
    (y.shape().to_vec(), y.values::<f32>().unwrap().to_vec())
}

/// Every form of an operation must give the same; a form is a range of versions, a node and its weights.
#[track_caller]
fn assert_forms(
    dims: &[&str],
    x: &[f32],
    shape: &[usize],
    y: &[f32],
    forms: Vec<(&[i64], NodeProto, Vec<TensorProto>)>,
) {
    for (versions, n, weights) in forms {
        for version in versions {
            let (found, values) = run(*version, model(dims, vec![n.clone()], weights.clone()), x);
            assert_eq!((found.as_slice(), values.as_slice()), (shape, y), "opset {version}: {n:?}");
        }
    }
}

#[track_caller]
fn assert_refused(version: i64, m: ModelProto, cause: &str) {
    let (_, text) = refusal(in_opset(m, version));
    assert!(text.contains(cause), "opset {version}: {text}");
}

#[test]
fn axes_that_became_inputs() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let axes = |name: &str, v: &[i64]| i64s(name, &[v.len() as i64], v);
    assert_forms(
        &["2", "3"],
        &x,
        &[2, 1, 3, 1],
        &x,
        vec![
            (&[1, 6, 11, 12][..], with(node("Unsqueeze", &["x"], &["y"]), ints("axes", &[1, 3])), vec![]),
            (&[13, 17, 21, 23], node("Unsqueeze", &["x", "a"], &["y"]), vec![axes("a", &[1, 3])]),
            (&[13, 23], node("Unsqueeze", &["x", "a"], &["y"]), vec![axes("a", &[-1, 1])]),
        ],
    );
    assert_forms(
        &["1", "6", "1"],
        &x,
        &[6],
        &x,
        vec![
            (&[1, 6, 11, 12][..], with(node("Squeeze", &["x"], &["y"]), ints("axes", &[0, 2])), vec![]),
            (&[1, 11, 13, 21], node("Squeeze", &["x"], &["y"]), vec![]),
            (&[13, 21], node("Squeeze", &["x", "a"], &["y"]), vec![axes("a", &[0, -1])]),
        ],
    );
    for (op, changed, expected) in [
        ("ReduceSum", 13, [6.0, 15.0]),
        ("ReduceMean", 18, [2.0, 5.0]),
        ("ReduceMax", 18, [3.0, 6.0]),
        ("ReduceMin", 18, [1.0, 4.0]),
        ("ReduceProd", 18, [6.0, 120.0]),
        ("ReduceSumSquare", 18, [14.0, 77.0]),
        ("ReduceL1", 18, [6.0, 15.0]),
    ] {
        let flat = |n: NodeProto| with(n, int("keepdims", 0));
        let old = with(node(op, &["x"], &["y"]), ints("axes", &[1]));
        let new = node(op, &["x", "a"], &["y"]);
        let weights = || vec![axes("a", &[1])];
        assert_forms(
            &["2", "3"],
            &x,
            &[2],
            &expected,
            vec![(&[1, 11, changed - 1][..], flat(old), vec![]), (&[changed, 20], flat(new), weights())],
        );
    }
    let nothing = with(node("ReduceSum", &["x", "a"], &["y"]), int("noop_with_empty_axes", 1));
    assert_forms(&["2", "3"], &x, &[2, 3], &x, vec![(&[13, 18][..], nothing, vec![axes("a", &[])])]);
    let everything = node("ReduceSum", &["x"], &["y"]);
    assert_forms(&["2", "3"], &x, &[1, 1], &[21.0], vec![(&[1, 11, 13, 21][..], everything, vec![])]);
}

#[test]
fn attributes_that_became_inputs() {
    let x = [-3.0, -1.0, 0.0, 1.0, 2.0, 9.0];
    assert_forms(
        &["6"],
        &x,
        &[6],
        &[-1.0, -1.0, 0.0, 1.0, 2.0, 2.0],
        vec![
            (
                &[6, 7, 10][..],
                with(with(node("Clip", &["x"], &["y"]), float("min", -1.0)), float("max", 2.0)),
                vec![],
            ),
            (
                &[11, 12, 13, 22],
                node("Clip", &["x", "l", "h"], &["y"]),
                vec![f32s("l", &[], &[-1.0]), f32s("h", &[], &[2.0])],
            ),
        ],
    );
    assert_forms(
        &["6"],
        &x,
        &[6],
        &[-3.0, -1.0, 0.0, 1.0, 2.0, 2.0],
        vec![
            (&[6, 10][..], with(node("Clip", &["x"], &["y"]), float("max", 2.0)), vec![]),
            (&[11, 13], node("Clip", &["x", "", "h"], &["y"]), vec![f32s("h", &[], &[2.0])]),
        ],
    );
    assert_refused(
        13,
        model(&["6"], vec![with(node("Clip", &["x"], &["y"]), float("min", 0.0))], vec![]),
        "'min'",
    );
    let padded = [0.5, -3.0, -1.0, 0.0, 1.0, 2.0, 9.0, 0.5, 0.5];
    let pad = with(node("Pad", &["x"], &["y"]), ints("pads", &[1, 2]));
    let old = with(with(node("Pad", &["x"], &["y"]), ints("paddings", &[1, 2])), float("value", 0.5));
    let p = || vec![i64s("p", &[2], &[1, 2]), f32s("v", &[], &[0.5]), i64s("a", &[1], &[-1])];
    assert_forms(
        &["6"],
        &x,
        &[9],
        &padded,
        vec![
            (&[1][..], old, vec![]),
            (&[2, 10], with(pad, float("value", 0.5)), vec![]),
            (&[11, 13, 18, 21], node("Pad", &["x", "p", "v"], &["y"]), p()),
            (&[18, 21], node("Pad", &["x", "p", "v", "a"], &["y"]), p()),
        ],
    );
    let slice = with(with(node("Slice", &["x"], &["y"]), ints("starts", &[-4])), ints("ends", &[100]));
    let s = || {
        vec![
            i64s("s", &[1], &[-4]),
            i64s("e", &[1], &[i64::MAX]),
            i64s("a", &[1], &[0]),
            i64s("t", &[1], &[1]),
        ]
    };
    assert_forms(
        &["6"],
        &x,
        &[4],
        &x[2..],
        vec![
            (&[1, 6, 9][..], with(slice.clone(), ints("axes", &[0])), vec![]),
            (&[1, 9], slice, vec![]),
            (&[10, 11, 13], node("Slice", &["x", "s", "e", "a", "t"], &["y"]), s()),
            (&[10, 13], node("Slice", &["x", "s", "e"], &["y"]), s()),
        ],
    );
    assert_forms(
        &["6"],
        &x,
        &[2],
        &[9.0, 2.0],
        vec![
            (&[1, 9][..], with(node("TopK", &["x"], &["y", "i"]), int("k", 2)), vec![]),
            (&[10, 11, 24], node("TopK", &["x", "k"], &["y", "i"]), vec![i64s("k", &[1], &[2])]),
        ],
    );
    let to = with(node("Reshape", &["x"], &["y"]), ints("shape", &[3, -1]));
    assert_forms(
        &["6"],
        &x,
        &[3, 2],
        &x,
        vec![
            (&[1, 4][..], to, vec![]),
            (&[5, 13, 19, 21], node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[3, -1])]),
        ],
    );
    let halves = |n: NodeProto| with(n, int("axis", 0));
    assert_forms(
        &["6"],
        &x,
        &[4],
        &x[..4],
        vec![
            (&[2, 11][..], with(halves(node("Split", &["x"], &["y", "z"])), ints("split", &[4, 2])), vec![]),
            (&[13, 18], halves(node("Split", &["x", "s"], &["y", "z"])), vec![i64s("s", &[2], &[4, 2])]),
        ],
    );
    assert_forms(
        &["6"],
        &x,
        &[2],
        &x[..2],
        vec![
            (&[18, 22][..], with(node("Split", &["x"], &["y", "z", "w"]), int("num_outputs", 3)), vec![]),
            (&[2, 13], node("Split", &["x"], &["y", "z", "w"]), vec![]),
        ],
    );
}

#[test]
fn broadcasting_before_it_was_general() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let b = || vec![f32s("b", &[2], &[10.0, 20.0])];
    let old =
        |axis: i64| with(with(node("Add", &["x", "b"], &["y"]), int("broadcast", 1)), int("axis", axis));
    let rows = [11.0, 12.0, 13.0, 24.0, 25.0, 26.0];
    let column = vec![f32s("b", &[2, 1], &[10.0, 20.0])];
    assert_forms(
        &["2", "3"],
        &x,
        &[2, 3],
        &rows,
        vec![(&[1, 6][..], old(0), b()), (&[7, 13, 14], node("Add", &["x", "b"], &["y"]), column)],
    );
    let last = with(node("Add", &["x", "b"], &["y"]), int("broadcast", 1));
    let b3 = vec![f32s("b", &[3], &[10.0, 20.0, 30.0])];
    let columns = [11.0, 22.0, 33.0, 14.0, 25.0, 36.0];
    assert_forms(&["2", "3"], &x, &[2, 3], &columns, vec![(&[1, 6][..], last, b3)]);
    assert_refused(7, model(&["2", "3"], vec![old(0)], b()), "cannot broadcast 'x' f32[2, 3] and 'b' f32[2]");
    let gemm = |c: bool| {
        let n = node("Gemm", &["x", "w", "c"], &["y"]);
        if c { with(n, int("broadcast", 1)) } else { n }
    };
    let weights = || vec![f32s("w", &[3, 1], &[1.0, 1.0, 1.0]), f32s("c", &[1], &[0.5])];
    assert_forms(
        &["2", "3"],
        &x,
        &[2, 1],
        &[6.5, 15.5],
        vec![(&[6][..], gemm(true), weights()), (&[7, 9, 11, 13], gemm(false), weights())],
    );
    assert_forms(
        &["2", "3"],
        &x,
        &[2, 1],
        &[6.0, 15.0],
        vec![(&[11, 13][..], node("Gemm", &["x", "w"], &["y"]), weights())],
    );
}

#[test]
fn operators_whose_meaning_changed() {
    // Up to version 12, Softmax flattens what is behind the axis.
    let x = [0.0, 0.0, 0.0, 0.0];
    let softmax = |a: Option<i64>| {
        let n = node("Softmax", &["x"], &["y"]);
        a.map_or(n.clone(), |a| with(n, int("axis", a)))
    };
    assert_forms(
        &["1", "2", "2"],
        &x,
        &[1, 2, 2],
        &[0.25; 4],
        vec![(&[1, 11, 12][..], softmax(None), vec![]), (&[1, 11, 12], softmax(Some(1)), vec![])],
    );
    assert_forms(
        &["1", "2", "2"],
        &x,
        &[1, 2, 2],
        &[0.5; 4],
        vec![
            (&[13, 22][..], softmax(None), vec![]),
            (&[13, 22], softmax(Some(1)), vec![]),
            (&[11, 12], softmax(Some(2)), vec![]),
        ],
    );
    let x = [1.0, -2.0, 3.0, -4.0];
    let norm = |names: &[&str]| with(node("BatchNormalization", names, &["y"]), float("epsilon", 0.0));
    let five = ["x", "s", "b", "m", "v"];
    let weights = || {
        let s = |name: &str, v: [f32; 2]| f32s(name, &[2], &v);
        vec![s("s", [2.0, 1.0]), s("b", [0.0, 1.0]), s("m", [1.0, 0.0]), s("v", [4.0, 1.0])]
    };
    let y = [0.0, -3.0, 4.0, -3.0];
    assert_forms(
        &["1", "2", "2"],
        &x,
        &[1, 2, 2],
        &y,
        vec![
            (&[1, 6][..], with(with(norm(&five), int("is_test", 1)), int("spatial", 1)), weights()),
            (&[7, 8], with(norm(&five), int("spatial", 1)), weights()),
            (&[9, 14, 15], norm(&five), weights()),
            (&[14, 15], with(norm(&five), int("training_mode", 0)), weights()),
        ],
    );
    // In training mode the mean and the variance are those of the input.
    let training = with(norm(&five), int("training_mode", 1));
    assert_forms(
        &["1", "2", "2"],
        &x,
        &[1, 2, 2],
        &[2.0, -2.0, 2.0, 0.0],
        vec![(&[14, 15][..], training, weights())],
    );
    let drop = |inputs: &[&str]| node("Dropout", inputs, &["y"]);
    assert_forms(
        &["4"],
        &x,
        &[4],
        &x,
        vec![
            (&[1, 6][..], with(with(drop(&["x"]), int("is_test", 1)), float("ratio", 0.9)), vec![]),
            (&[7, 10, 11], with(drop(&["x"]), float("ratio", 0.9)), vec![]),
            (&[12, 13, 22], drop(&["x", "r"]), vec![f32s("r", &[], &[0.9])]),
            (&[12, 22], drop(&["x", "r", "t"]), vec![f32s("r", &[], &[0.9]), bools("t", &[], &[false])]),
            (&[12, 22], drop(&["x"]), vec![]),
        ],
    );
    let up = |n: NodeProto| with(n, string("mode", "nearest"));
    let scales = || vec![f32s("s", &[1], &[2.0])];
    assert_forms(
        &["4"],
        &x,
        &[8],
        &[1.0, 1.0, -2.0, -2.0, 3.0, 3.0, -4.0, -4.0],
        vec![
            (&[7, 8][..], with(up(node("Upsample", &["x"], &["y"])), floats("scales", &[2.0])), vec![]),
            (&[9], up(node("Upsample", &["x", "s"], &["y"])), scales()),
            (&[10], up(node("Resize", &["x", "s"], &["y"])), scales()),
            (&[11, 13, 18, 19], up(node("Resize", &["x", "", "s"], &["y"])), scales()),
        ],
    );
    // Of dimensions that are 0, and of those counted from the end.
    let flat = with(node("Flatten", &["x"], &["y"]), int("axis", -1));
    assert_forms(&["2", "2"], &x, &[2, 2], &x, vec![(&[11, 13, 21][..], flat, vec![])]);
    let cast = |version: i64, to| {
        let m = model(&["4"], vec![with(node("Cast", &["x"], &["y"]), to)], vec![]);
        run(version, m, &x).1
    };
    assert_eq!(cast(6, int("to", 1)), x);
    assert_refused(
        17,
        model(&["4"], vec![with(node("Cast", &["x"], &["y"]), string("to", "FLOAT"))], vec![]),
        "'to'",
    );
    // Pooling that counts the padding, and ceil_mode.
    let pool =
        with(with(node("AveragePool", &["x"], &["y"]), ints("kernel_shape", &[2])), ints("pads", &[1, 1]));
    let counted = with(pool.clone(), int("count_include_pad", 1));
    let x = [2.0, 4.0, 6.0];
    assert_forms(
        &["1", "1", "3"],
        &x,
        &[1, 1, 4],
        &[2.0, 3.0, 5.0, 6.0],
        vec![(&[1, 7, 10, 22][..], pool, vec![])],
    );
    assert_forms(
        &["1", "1", "3"],
        &x,
        &[1, 1, 4],
        &[1.0, 3.0, 5.0, 3.0],
        vec![(&[7, 11, 22][..], counted, vec![])],
    );
}
