//! What changed from one version of ONNX to the next: attributes that became inputs, defaults, broadcasting, the
//! format's own versions; and the encodings of tensors and constants.

mod common;

use common::onnx::*;
use nestjit::graph::{Graph, Precision, evaluate};
use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType::{self, Bool, Double, Float, Int8, Int32, Int64, Uint8};
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use nestjit::onnx::{OnnxModel, Specialization};
use nestjit::{ErrorKind, Tensor};

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

#[test]
fn every_encoding_of_an_initializer() {
    /// The values 1, 0, 1 (or 1.5, -2.0, 3.0) as they are typed, and as raw bytes.
    fn forms(dtype: DataType, typed: TensorProto, raw: Vec<u8>) -> Vec<TensorProto> {
        let base =
            TensorProto { dims: vec![3], data_type: Some(dtype.into()), name: Some("w".into()), ..typed };
        let plain = empty("w", dtype, &[3]);
        vec![base, TensorProto { raw_data: Some(raw.into()), ..plain }]
    }
    let t = TensorProto::default;
    let cases: Vec<(DataType, Vec<TensorProto>, [f32; 3])> = vec![
        (
            Float,
            forms(
                Float,
                TensorProto { float_data: vec![1.5, -2.0, 3.0], ..t() },
                [1.5f32, -2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
            [1.5, -2.0, 3.0],
        ),
        (
            Double,
            forms(
                Double,
                TensorProto { double_data: vec![1.5, -2.0, 3.0], ..t() },
                [1.5f64, -2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
            [1.5, -2.0, 3.0],
        ),
        (
            Int64,
            forms(
                Int64,
                TensorProto { int64_data: vec![1, -2, 3], ..t() },
                [1i64, -2, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
            [1.0, -2.0, 3.0],
        ),
        (
            Int32,
            forms(
                Int32,
                TensorProto { int32_data: vec![1, -2, 3], ..t() },
                [1i32, -2, 3].iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
            [1.0, -2.0, 3.0],
        ),
        (
            Int8,
            forms(Int8, TensorProto { int32_data: vec![1, -2, 3], ..t() }, vec![1, 0xfe, 3]),
            [1.0, -2.0, 3.0],
        ),
        (
            Uint8,
            forms(Uint8, TensorProto { int32_data: vec![1, 255, 3], ..t() }, vec![1, 255, 3]),
            [1.0, 255.0, 3.0],
        ),
        (Bool, forms(Bool, TensorProto { int32_data: vec![1, 0, 1], ..t() }, vec![1, 0, 1]), [1.0, 0.0, 1.0]),
    ];
    for (dtype, tensors, expected) in cases {
        for tensor in tensors {
            let nodes =
                vec![with(node("Cast", &["w"], &["f"]), int("to", 1)), node("Add", &["x", "f"], &["y"])];
            // As an initializer, as the value of a constant, and in a subgraph.
            let initializer = model(&["3"], nodes.clone(), vec![tensor.clone()]);
            let constant = with(node("Constant", &[], &["w"]), self::tensor("value", tensor.clone()));
            let constant = model(&["3"], [vec![constant], nodes.clone()].concat(), vec![]);
            let inner = GraphProto { initializer: vec![tensor.clone()], ..graph_of(vec![], nodes, &["y"]) };
            let choice = with(node("If", &["c"], &["y"]), subgraph("then_branch", inner.clone()));
            let choice = with(choice, subgraph("else_branch", inner));
            let within = model(&["3"], vec![choice], vec![bools("c", &[], &[true])]);
            for m in [initializer, constant, within] {
                assert_eq!(run(17, m, &[0.0; 3]).1, expected, "{dtype:?}: {tensor:?}");
            }
        }
    }
    // Sparse, by flat positions and by coordinates.
    for (indices, dims) in [(i64s("", &[2], &[1, 2]), vec![3]), (i64s("", &[2, 1], &[1, 2]), vec![3])] {
        let sparse =
            SparseTensorProto { values: Some(f32s("w", &[2], &[5.0, 7.0])), indices: Some(indices), dims };
        let mut m = model(&["3"], vec![node("Add", &["x", "w"], &["y"])], vec![]);
        m.graph.as_mut().unwrap().sparse_initializer.push(sparse);
        assert_eq!(run(17, m, &[0.0; 3]).1, [0.0, 5.0, 7.0]);
    }
    for dtype in [DataType::Float16, DataType::Bfloat16] {
        let tensor = TensorProto { int32_data: vec![0x3c00; 3], ..empty("w", dtype, &[3]) };
        let m = model(&["3"], vec![node("Add", &["x", "w"], &["y"])], vec![tensor]);
        let (kind, text) = refusal(m);
        let name = dtype.as_str_name().to_ascii_lowercase();
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains(&format!("initializer 'w': element type {name}")), "{text}");
    }
}

#[test]
fn every_form_of_a_constant() {
    let of = |attribute| with(node("Constant", &[], &["c"]), attribute);
    let add = |constant: NodeProto, back: bool| {
        let mut nodes = vec![constant];
        if back {
            nodes.push(with(node("Cast", &["c"], &["f"]), int("to", 1)));
        }
        nodes.push(node("Add", &["x", if back { "f" } else { "c" }], &["y"]));
        run(13, model(&["2"], nodes, vec![]), &[0.0; 2])
    };
    assert_eq!(add(of(float("value_float", 1.5)), false).1, [1.5; 2]);
    assert_eq!(add(of(floats("value_floats", &[1.5, 2.0])), false).1, [1.5, 2.0]);
    assert_eq!(add(of(int("value_int", -3)), true).1, [-3.0; 2]);
    assert_eq!(add(of(ints("value_ints", &[4, 5])), true).1, [4.0, 5.0]);
    assert_eq!(add(of(tensor("value", f32s("", &[2], &[1.0, 2.0]))), false).1, [1.0, 2.0]);
    let sparse = SparseTensorProto {
        values: Some(f32s("", &[1], &[9.0])),
        indices: Some(i64s("", &[1], &[1])),
        dims: vec![2],
    };
    let mut attribute = tensor("sparse_value", TensorProto::default());
    (attribute.t, attribute.sparse_tensor) = (None, Some(sparse));
    attribute.r#type = Some(AttributeType::SparseTensor.into());
    assert_eq!(add(of(attribute), false).1, [0.0, 9.0]);
    let refused = |constant| refusal(model(&["2"], vec![constant, node("Neg", &["x"], &["y"])], vec![])).1;
    assert!(refused(of(string("value_string", "text"))).contains("'c' (Constant, opset 17)"));
    assert!(refused(of(strings("value_strings", &["text"]))).contains("'c' (Constant, opset 17)"));
    assert!(refused(node("Constant", &[], &["c"])).contains("'c' (Constant, opset 17)"));
    let both = with(of(float("value_float", 1.0)), int("value_int", 1));
    assert!(refused(both).contains("'c' (Constant, opset 17)"));
}

/// Up to version 3 of the format every initializer is listed as an input, too, and is its default.
#[test]
fn initializers_that_are_inputs() {
    let of = |ir: i64| {
        let mut m = model(&["2"], vec![node("Add", &["x", "w"], &["y"])], vec![f32s("w", &[2], &[1.0, 2.0])]);
        m.graph.as_mut().unwrap().input.push(declared("w", Float, &["2"]));
        m.ir_version = Some(ir);
        OnnxModel::from_proto(m).unwrap()
    };
    for ir in [3, 4, 8, 10] {
        let m = of(ir);
        let names: Vec<&str> = m.inputs().iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["x"], "IR version {ir}");
        let graph = m.graph(&Specialization::default()).unwrap();
        assert_eq!(outputs(&graph, &[0.0, 0.0])[0].values::<f32>().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn subgraphs_see_and_hide_names() {
    // `t` of the branch hides nothing outside that comes later; `k` is an initializer of both graphs.
    let inner = GraphProto {
        initializer: vec![f32s("k", &[], &[100.0])],
        ..graph_of(vec![], vec![node("Add", &["x", "k"], &["t"]), node("Neg", &["t"], &["r"])], &["r"])
    };
    let other = graph_of(vec![], vec![node("Add", &["x", "k"], &["r"])], &["r"]);
    let choice = |c: bool| {
        let n = with(node("If", &["c"], &["i"]), subgraph("then_branch", inner.clone()));
        let n = with(n, subgraph("else_branch", other.clone()));
        let nodes = vec![n, node("Add", &["i", "k"], &["t"]), node("Identity", &["t"], &["y"])];
        let weights = vec![bools("c", &[], &[c]), f32s("k", &[], &[1.0])];
        run(17, model(&["1"], nodes, weights), &[5.0]).1
    };
    assert_eq!(choice(true), [-104.0]);
    assert_eq!(choice(false), [7.0]);
    // What a branch makes is not seen outside.
    let n = with(node("If", &["c"], &["i"]), subgraph("then_branch", other.clone()));
    let n = with(n, subgraph("else_branch", other));
    let leak = vec![n, node("Add", &["i", "r"], &["y"])];
    let m = model(&["1"], leak, vec![bools("c", &[], &[true]), f32s("k", &[], &[1.0])]);
    assert!(refusal(m).1.contains("'r' is not defined before this node"));
}

#[test]
fn functions_pass_attributes_and_leave_inputs_out() {
    use AttributeType::{Float as OfFloat, Ints as OfInts};
    // Scale(a, b?) with slope (no default) and axes; calls Inner, which has a default of its own.
    let mut inner = function(
        "Inner",
        &["a"],
        &["r"],
        &[],
        vec![with(node("LeakyRelu", &["a"], &["r"]), reference("alpha", "alpha", OfFloat))],
    );
    inner.attribute_proto = vec![float("alpha", 0.25)];
    let outer = function(
        "Outer",
        &["a", "low"],
        &["r", "spare"],
        &["slope", "axes"],
        vec![
            with(call("Inner", &["a"], &["p"]), reference("alpha", "slope", OfFloat)),
            node("Clip", &["p", "low"], &["q"]),
            with(
                with(node("ReduceSum", &["q", ""], &["s"]), int("keepdims", 0)),
                int("noop_with_empty_axes", 0),
            ),
            with(node("ReduceMax", &["q"], &["spare"]), reference("axes", "axes", OfInts)),
            node("Add", &["q", "s"], &["r"]),
        ],
    );
    let of = |n: NodeProto| {
        let m = model(&["2"], vec![n], vec![f32s("l", &[], &[-1.0])]);
        run_functions(with_functions(m, vec![inner.clone(), outer.clone()]), &[-8.0, 4.0])
    };
    // With a slope of 0.5, and without: then LeakyRelu of Inner has Inner's default.
    assert_eq!(of(with(call("Outer", &["x"], &["y"]), float("slope", 0.5))), [-4.0, 4.0]);
    assert_eq!(of(call("Outer", &["x"], &["y"])), [0.0, 6.0]);
    assert_eq!(of(with(call("Outer", &["x", "l"], &["y"]), float("slope", 0.5))), [2.0, 7.0]);
    assert_eq!(of(with(call("Outer", &["x", ""], &["", "y"]), ints("axes", &[0]))), [4.0]);
    let m = |n| with_functions(model(&["2"], vec![n], vec![]), vec![inner.clone(), outer.clone()]);
    let message = refusal(m(with(call("Outer", &["x"], &["y"]), int("colour", 1)))).1;
    assert_eq!(message, "node 'y' (mine.Outer, opset 1): the function has no attribute 'colour'");
    let message = refusal(m(call("Outer", &["x", "x", "x"], &["y"]))).1;
    assert!(
        message.contains("the function has 2 inputs and 2 outputs, but is called with 3 and 1"),
        "{message}"
    );
    let message = refusal(m(call("Absent", &["x"], &["y"]))).1;
    assert_eq!(message, "node 'y' (mine.Absent, opset 1): the operator is not supported");
}

fn run_functions(m: ModelProto, x: &[f32]) -> Vec<f32> {
    outputs(&import(m).unwrap(), x)[0].values::<f32>().unwrap().to_vec()
}
