//! Attributes that make no sense: each is refused with the node and the cause.

use nestjit::ErrorKind;
use nestjit::onnx::proto::{NodeProto, TensorProto};

use super::common::onnx::*;

/// All cases must be refused, with messages that contain the causes.
fn assert_all_refused(x: &[&str], version: i64, cases: Vec<(NodeProto, Vec<TensorProto>, &str)>) {
    let mut wrong = Vec::new();
    for (node, weights, cause) in cases {
        let place = format!("node 'y' ({}, opset {version}): ", node.op_type());
        let what = format!("{node:?}");
        match import(in_opset(model(x, vec![node], weights), version)) {
            Ok(_) => wrong.push(format!("accepted: {what}")),
            Err(e) if e.kind() == ErrorKind::Internal => wrong.push(format!("{e}: {what}")),
            Err(e) if !e.to_string().contains(cause) || !e.to_string().starts_with(&place) => {
                wrong.push(format!("{e}\n    where '{cause}' was expected"));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn of_convolutions() {
    let conv = |a| with(node("Conv", &["x", "w"], &["y"]), a);
    let back = |a| with(node("ConvTranspose", &["x", "w"], &["y"]), a);
    let w = || vec![f32s("w", &[4, 4, 1, 1], &[0.5; 16])];
    let big = || vec![f32s("w", &[1, 4, 9, 9], &[0.5; 324])];
    let none = || vec![f32s("w", &[0, 4, 1, 1], &[])];
    let flat = || vec![f32s("w", &[4, 4], &[0.5; 16])];
    let wide = || vec![f32s("w", &[4, 3, 1, 1], &[0.5; 12])];
    assert_all_refused(
        &["1", "4", "5", "5"],
        17,
        vec![
            (conv(ints("strides", &[0, 1])), w(), "must be at least 1"),
            (conv(ints("strides", &[1, -1])), w(), "strides must not be negative, but is -1"),
            (conv(ints("strides", &[i64::MIN, 1])), w(), "strides must not be negative"),
            (conv(ints("strides", &[1])), w(), "strides"),
            (conv(ints("dilations", &[0, 1])), w(), "must be at least 1"),
            (conv(ints("dilations", &[1, -2])), w(), "dilations must not be negative, but is -2"),
            (conv(int("group", 0)), w(), "number of groups must be at least 1"),
            (conv(int("group", -1)), w(), "group"),
            (conv(int("group", 3)), w(), "3 groups do not divide 4"),
            (conv(int("group", i64::MAX)), w(), "group"),
            (conv(ints("pads", &[-1, 0, 0, 0])), w(), "pads must not be negative, but is -1"),
            (conv(ints("pads", &[1 << 62, 0, 0, 0])), w(), "'pads' is"),
            (conv(ints("pads", &[0, 0, 0])), w(), "pads"),
            (conv(ints("kernel_shape", &[2, 2])), w(), "kernel_shape"),
            (conv(string("auto_pad", "UPWARDS")), w(), "UPWARDS"),
            (node("Conv", &["x", "w"], &["y"]), big(), "larger than the padded input"),
            (node("Conv", &["x", "w"], &["y"]), flat(), ""),
            (node("Conv", &["x", "w"], &["y"]), wide(), ""),
            (back(ints("strides", &[0, 1])), w(), "at least 1"),
            (back(ints("output_padding", &[-1, 0])), w(), "output_padding must not be negative, but is -1"),
            (back(ints("output_shape", &[-5, 5])), w(), "output_shape contains -5"),
            (back(ints("output_shape", &[i64::MIN, i64::MAX])), w(), "output_shape contains"),
            (back(ints("pads", &[9, 9, 9, 9])), w(), ""),
            (back(int("group", 0)), w(), "group"),
            (back(int("group", 0)), none(), ""),
        ],
    );
}

#[test]
fn of_pooling() {
    let pool = |op: &str, attributes: Vec<_>| attributes.into_iter().fold(node(op, &["x"], &["y"]), with);
    let mut cases = Vec::new();
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        let k = || ints("kernel_shape", &[2, 2]);
        cases.extend([
            (pool(op, vec![]), vec![], "kernel_shape"),
            (pool(op, vec![k(), int("ceil_mode", 7)]), vec![], "ceil_mode is 7, but must be 0 or 1"),
            (pool(op, vec![ints("kernel_shape", &[9, 9])]), vec![], "larger than the padded input"),
            (pool(op, vec![ints("kernel_shape", &[0, 2])]), vec![], ""),
            (
                pool(op, vec![ints("kernel_shape", &[-2, 2])]),
                vec![],
                "kernel_shape must not be negative, but is -2",
            ),
            (
                pool(op, vec![ints("kernel_shape", &[1 << 20, 1 << 20]), ints("pads", &[1 << 20; 4])]),
                vec![],
                "",
            ),
            (pool(op, vec![k(), ints("strides", &[0, 0])]), vec![], "at least 1"),
            (
                pool(op, vec![k(), ints("pads", &[-1, 0, 0, 0])]),
                vec![],
                "pads must not be negative, but is -1",
            ),
            (pool(op, vec![k(), ints("dilations", &[1 << 31, 1 << 31])]), vec![], ""),
        ]);
    }
    cases.push((pool("LpPool", vec![ints("kernel_shape", &[2, 2]), int("p", 0)]), vec![], ""));
    assert_all_refused(&["1", "4", "5", "5"], 19, cases);
}

#[test]
fn of_axes_and_permutations() {
    let axis = |op: &str, a: i64| with(node(op, &["x"], &["y"]), int("axis", a));
    let perm = |p: &[i64]| with(node("Transpose", &["x"], &["y"]), ints("perm", p));
    let far = i64::MAX;
    assert_all_refused(
        &["2", "3"],
        17,
        vec![
            (perm(&[0, 2]), vec![], "axis 2 does not exist"),
            (perm(&[1, 1]), vec![], "permutation"),
            (perm(&[0]), vec![], ""),
            (perm(&[i64::MIN, i64::MAX]), vec![], "does not exist"),
            (axis("Softmax", 2), vec![], "axis 2 does not exist in a tensor of rank 2"),
            (axis("Softmax", -3), vec![], "axis -3 does not exist"),
            (axis("LogSoftmax", i64::MIN), vec![], "does not exist"),
            (axis("ArgMax", far), vec![], "does not exist"),
            (axis("Flatten", 3), vec![], ""),
            (axis("Concat", 2), vec![], "axis 2"),
            (node("Concat", &["x"], &["y"]), vec![], "'axis' is missing"),
            (axis("Hardmax", -9), vec![], "does not exist"),
            (with(node("ReduceMax", &["x"], &["y"]), ints("axes", &[0, 0])), vec![], "listed twice"),
            (with(node("ReduceMax", &["x"], &["y"]), ints("axes", &[-1, 1])), vec![], "listed twice"),
            (with(node("ReduceMax", &["x"], &["y"]), ints("axes", &[5])), vec![], "axis 5 does not exist"),
            (node("Unsqueeze", &["x", "a"], &["y"]), vec![i64s("a", &[2], &[0, 0])], "twice"),
            (node("Squeeze", &["x", "a"], &["y"]), vec![i64s("a", &[1], &[0])], ""),
            (with(node("DepthToSpace", &["x"], &["y"]), int("blocksize", 0)), vec![], ""),
            (with(node("SpaceToDepth", &["x"], &["y"]), int("blocksize", -2)), vec![], ""),
            (with(node("LayerNormalization", &["x", "x"], &["y"]), int("axis", 7)), vec![], "does not exist"),
            (with(node("Einsum", &["x", "x"], &["y"]), string("equation", "ij,jk->iq")), vec![], ""),
            (with(node("Einsum", &["x"], &["y"]), string("equation", "")), vec![], ""),
            (with(node("Einsum", &["x"], &["y"]), string("equation", "i->")), vec![], ""),
            (with(node("LRN", &["x"], &["y"]), int("size", 0)), vec![], ""),
            (with(node("LRN", &["x"], &["y"]), int("size", 1 << 40)), vec![], ""),
            (with(node("Split", &["x"], &["y", "z"]), int("axis", 9)), vec![], "axis 9 does not exist"),
            (node("Split", &["x", "s"], &["y", "z"]), vec![i64s("s", &[2], &[1, 5])], ""),
            (node("Split", &["x", "s"], &["y", "z"]), vec![i64s("s", &[2], &[-1, 3])], "negative"),
            (node("Trilu", &["x", "k"], &["y"]), vec![i64s("k", &[2], &[0, 0])], ""),
            (node("Pad", &["x", "p"], &["y"]), vec![i64s("p", &[3], &[0, 0, 0])], ""),
            (node("Pad", &["x", "p"], &["y"]), vec![i64s("p", &[4], &[-5, 0, 0, 0])], ""),
            (
                with(node("Pad", &["x", "p"], &["y"]), string("mode", "reflect")),
                vec![i64s("p", &[4], &[9, 0, -2, 0])],
                "",
            ),
            (
                with(node("Pad", &["x", "p"], &["y"]), string("mode", "sideways")),
                vec![i64s("p", &[4], &[0; 4])],
                "sideways",
            ),
            (node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[-1, -1])], ""),
            (node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[-2, 3])], ""),
            (node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[3], &[0, 0, 0])], ""),
            (node("Reshape", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[4, -1])], ""),
            (node("Expand", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[-1, 3])], ""),
            (node("Tile", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[-1, 3])], "negative"),
            (node("Tile", &["x", "s"], &["y"]), vec![i64s("s", &[3], &[1, 1, 1])], ""),
            (node("Slice", &["x", "s", "s", "s", "s"], &["y"]), vec![i64s("s", &[1], &[0])], "step is 0"),
            (
                node("Slice", &["x", "s", "e"], &["y"]),
                vec![i64s("s", &[1], &[0]), i64s("e", &[2], &[1, 1])],
                "",
            ),
            (node("TopK", &["x", "k"], &["y", "z"]), vec![i64s("k", &[1], &[-1])], ""),
            (
                node("Range", &["a", "b", "a"], &["y"]),
                vec![i64s("a", &[], &[0]), i64s("b", &[], &[5])],
                "delta is 0",
            ),
            (node("ConstantOfShape", &["s"], &["y"]), vec![i64s("s", &[2], &[-1, 2])], "negative"),
            (
                node("Dropout", &["x", "r", "t"], &["y"]),
                vec![f32s("r", &[], &[0.5]), bools("t", &[], &[true])],
                "",
            ),
        ],
    );
}

#[test]
fn of_recurrent_layers_and_attention() {
    let w = || vec![f32s("w", &[1, 4, 3], &[0.1; 12]), f32s("r", &[1, 4, 1], &[0.1; 4])];
    let lstm =
        |attributes: Vec<_>| attributes.into_iter().fold(node("LSTM", &["x", "w", "r"], &["", "y"]), with);
    let names = ["Relu", "NoSuchFunction", "Tanh"];
    let mut cases = vec![
        (lstm(vec![int("hidden_size", 7)]), w(), ""),
        (lstm(vec![int("hidden_size", 0)]), w(), ""),
        (lstm(vec![int("hidden_size", -1)]), w(), ""),
        (lstm(vec![int("hidden_size", 1), string("direction", "sideways")]), w(), "sideways"),
        (lstm(vec![int("hidden_size", 1), strings("activations", &names)]), w(), "NoSuchFunction"),
        (lstm(vec![int("hidden_size", 1), strings("activations", &names[..1])]), w(), "activations"),
        (lstm(vec![int("hidden_size", 1), string("direction", "bidirectional")]), w(), ""),
    ];
    for (case, ..) in &mut cases {
        case.name = Some("y".into());
    }
    assert_all_refused(&["2", "1", "3"], 17, cases);
    let attention =
        |attributes: Vec<_>| attributes.into_iter().fold(node("Attention", &["x", "x", "x"], &["y"]), with);
    assert_all_refused(
        &["1", "2", "6"],
        23,
        vec![
            (attention(vec![]), vec![], ""),
            (attention(vec![int("q_num_heads", 0), int("kv_num_heads", 0)]), vec![], ""),
            (attention(vec![int("q_num_heads", 4), int("kv_num_heads", 4)]), vec![], ""),
            (attention(vec![int("q_num_heads", -2), int("kv_num_heads", 2)]), vec![], ""),
        ],
    );
}

#[test]
fn of_parts_classes_and_rates() {
    let one_hot = || node("OneHot", &["i", "d", "v"], &["y"]);
    let depth = |d: f32| vec![i64s("i", &[2], &[0, 1]), f32s("d", &[], &[d]), f32s("v", &[2], &[0.0, 1.0])];
    let mel = || node("MelWeightMatrix", &["bins", "length", "rate", "low", "high"], &["y"]);
    let rate = |r: i64| {
        let numbers = [("bins", 4), ("length", 16), ("rate", r)].map(|(name, n)| i64s(name, &[], &[n]));
        let edges = [("low", 0.0), ("high", 8.0)].map(|(name, hertz)| f32s(name, &[], &[hertz]));
        numbers.into_iter().chain(edges).collect::<Vec<_>>()
    };
    assert_all_refused(
        &["6"],
        17,
        vec![
            (node("Split", &["x", "s"], &["y"]), vec![i64s("s", &[2], &[1, 5])], "there are 2 parts"),
            (one_hot(), depth(f32::NAN), "the depth is NaN"),
            (one_hot(), depth(-0.5), "the depth is -0.5"),
            (one_hot(), depth(0.0), "the depth is 0"),
            (mel(), rate(0), "sample_rate is 0"),
            (mel(), rate(-8), "sample_rate is -8"),
        ],
    );
}
