//! Models of a few bytes that ask for everything: sizes are checked before memory is taken.

use nestjit::ErrorKind;
use nestjit::onnx::proto::tensor_proto::DataType::Float;
use nestjit::onnx::proto::{ModelProto, NodeProto, TensorProto};

use super::allocator;
use super::common::onnx::*;
use super::harness::{MEMORY, without_panic};

const HUGE: i64 = 1 << 60;

/// Refused with a message that names the node and contains `cause`.
#[track_caller]
fn assert_refused(what: &str, m: ModelProto, kinds: &[ErrorKind], cause: &str) {
    let (refused, bytes) = allocator::peak_of(|| without_panic(|| refusal(m)));
    let (kind, text) = refused.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(kinds.contains(&kind), "{what}: {kind:?}: {text}");
    assert!(text.contains(cause), "{what}: {text}");
    assert!(bytes < MEMORY, "{what}: {bytes} bytes were taken");
}

#[test]
fn results_of_any_size() {
    let i = |name: &str, values: &[i64]| i64s(name, &[values.len() as i64], values);
    let scalar = |name: &str, value: i64| i64s(name, &[], &[value]);
    let linear = |n: NodeProto| with(n, string("mode", "linear"));
    let cases: Vec<(&str, NodeProto, Vec<TensorProto>)> = vec![
        ("Expand", node("Expand", &["x", "s"], &["y"]), vec![i("s", &[HUGE, 2, 2])]),
        ("Expand, overflow", node("Expand", &["x", "s"], &["y"]), vec![i("s", &[HUGE, HUGE, 2, 2])]),
        ("Tile", node("Tile", &["x", "s"], &["y"]), vec![i("s", &[HUGE, 1])]),
        ("Tile, overflow", node("Tile", &["x", "s"], &["y"]), vec![i("s", &[i64::MAX, i64::MAX])]),
        ("Pad", node("Pad", &["x", "s"], &["y"]), vec![i("s", &[HUGE, 0, 0, 0])]),
        ("Pad, both ends", node("Pad", &["x", "s"], &["y"]), vec![i("s", &[i64::MAX, 0, i64::MAX, 0])]),
        ("ConstantOfShape", node("ConstantOfShape", &["s"], &["y"]), vec![i("s", &[HUGE])]),
        (
            "ConstantOfShape, overflow",
            node("ConstantOfShape", &["s"], &["y"]),
            vec![i("s", &[HUGE, HUGE, HUGE])],
        ),
        (
            "Range",
            node("Range", &["a", "b", "c"], &["y"]),
            vec![scalar("a", 0), scalar("b", HUGE), scalar("c", 1)],
        ),
        (
            "Range, extremes",
            node("Range", &["a", "b", "c"], &["y"]),
            vec![scalar("a", i64::MIN), scalar("b", i64::MAX), scalar("c", 1)],
        ),
        ("Resize, sizes", linear(node("Resize", &["x", "", "", "s"], &["y"])), vec![i("s", &[HUGE, 2])]),
        (
            "Resize, scales",
            linear(node("Resize", &["x", "", "f"], &["y"])),
            vec![f32s("f", &[2], &[1e18, 1.0])],
        ),
        (
            "Resize, infinite",
            linear(node("Resize", &["x", "", "f"], &["y"])),
            vec![f32s("f", &[2], &[f32::INFINITY, 1.0])],
        ),
        (
            "OneHot",
            node("OneHot", &["i", "d", "v"], &["y"]),
            vec![i("i", &[0, 1]), scalar("d", HUGE), f32s("v", &[2], &[0.0, 1.0])],
        ),
        ("EyeLike of much", node("EyeLike", &["e"], &["y"]), vec![]),
        ("Upsample", node("Upsample", &["x", "f"], &["y"]), vec![f32s("f", &[2], &[1e15, 1.0])]),
        ("TopK", node("TopK", &["x", "k"], &["y", "z"]), vec![i("k", &[HUGE])]),
        ("Split", node("Split", &["x", "s"], &["y", "z"]), vec![i("s", &[HUGE, 2 - HUGE])]),
        (
            "Slice",
            node("Slice", &["x", "s", "e", "a", "t"], &["y"]),
            vec![i("s", &[i64::MIN]), i("e", &[i64::MAX]), i("a", &[i64::MAX]), i("t", &[i64::MIN])],
        ),
        ("Reshape", node("Reshape", &["x", "s"], &["y"]), vec![i("s", &[HUGE, HUGE, HUGE, 16])]),
        ("Reshape, rank", node("Reshape", &["x", "s"], &["y"]), vec![i("s", &[1; 100])]),
        ("CumSum", node("CumSum", &["x", "a"], &["y"]), vec![scalar("a", i64::MAX)]),
        ("Unsqueeze", node("Unsqueeze", &["x", "a"], &["y"]), vec![i("a", &[i64::MIN])]),
        ("Squeeze", node("Squeeze", &["x", "a"], &["y"]), vec![i("a", &[i64::MAX])]),
        ("GatherND", node("GatherND", &["x", "s"], &["y"]), vec![i64s("s", &[1, 3], &[0, 0, 0])]),
        ("HannWindow", node("HannWindow", &["n"], &["y"]), vec![scalar("n", HUGE)]),
        ("BlackmanWindow", node("BlackmanWindow", &["n"], &["y"]), vec![scalar("n", 1 << 40)]),
        (
            "MelWeightMatrix",
            node("MelWeightMatrix", &["n", "n", "n", "l", "h"], &["y"]),
            vec![scalar("n", 1 << 30), f32s("l", &[], &[0.0]), f32s("h", &[], &[8000.0])],
        ),
        (
            "AffineGrid",
            node("AffineGrid", &["t", "s"], &["y"]),
            vec![f32s("t", &[1, 2, 3], &[0.0; 6]), i("s", &[1, 1, 1 << 30, 1 << 30])],
        ),
        ("Col2Im", node("Col2Im", &["x", "s", "b"], &["y"]), vec![i("s", &[HUGE, HUGE]), i("b", &[1, 1])]),
        (
            "MaxUnpool",
            with(node("MaxUnpool", &["u", "j", "s"], &["y"]), ints("kernel_shape", &[1])),
            vec![f32s("u", &[1, 1, 1], &[1.0]), i64s("j", &[1, 1, 1], &[0]), i("s", &[1, 1, HUGE])],
        ),
    ];
    let kinds = [ErrorKind::Limit, ErrorKind::Invalid, ErrorKind::Shape, ErrorKind::Unsupported];
    for (what, n, initializers) in cases {
        let op = n.op_type().to_owned();
        let version = if op == "Upsample" { 9 } else { 20 };
        let mut m = in_opset(model(&["2", "2"], vec![n], initializers), version);
        if what == "EyeLike of much" {
            m.graph.as_mut().unwrap().input.push(declared("e", Float, &["4000000000", "4000000000"]));
        }
        assert_refused(what, m, &kinds, if what.starts_with("EyeLike") { "address space" } else { &op });
    }
}

#[test]
fn inputs_and_weights_of_any_size() {
    let of = |dims: &[&str]| model(dims, vec![node("Relu", &["x"], &["y"])], vec![]);
    let huge = HUGE.to_string();
    assert_refused("overflow", of(&[&huge, &huge]), &[ErrorKind::Limit], "");
    assert_refused("too much", of(&[&huge]), &[ErrorKind::Limit], "larger than the address space");
    assert_refused("much", of(&["1099511627776"]), &[ErrorKind::Limit], "at most");
    assert_refused("rank", of(&["1"; 70]), &[ErrorKind::Limit], "rank 70");
    assert_refused("negative", of(&["-2"]), &[ErrorKind::Invalid], "input 'x': a dimension is -2");
    let weight = |w| model(&["2"], vec![node("Add", &["x", "w"], &["y"])], vec![w]);
    let dims = |dims: &[i64]| TensorProto { dims: dims.to_vec(), ..f32s("w", &[], &[1.0]) };
    assert_refused("overflow", weight(dims(&[1 << 31, 1 << 31, 4])), &[ErrorKind::Limit], "initializer 'w'");
    assert_refused("lies about its size", weight(dims(&[1 << 34])), &[ErrorKind::Shape], "initializer 'w'");
    assert_refused(
        "negative",
        weight(dims(&[-2])),
        &[ErrorKind::Invalid],
        "initializer 'w': the dimensions [-2]",
    );
    assert_refused("both negative", weight(dims(&[-1, -1])), &[ErrorKind::Invalid], "negative");
    let raw = |bytes: usize| TensorProto { raw_data: Some(vec![0; bytes].into()), ..empty("w", Float, &[2]) };
    assert!(import(weight(raw(8))).is_ok());
    for bytes in [1, 4, 7, 9, 12] {
        let cause = format!("takes 8 bytes, but {bytes} were given");
        assert_refused("raw data", weight(raw(bytes)), &[ErrorKind::Shape], &cause);
    }
    assert_refused(
        "no data",
        weight(empty("w", Float, &[2])),
        &[ErrorKind::Shape],
        "takes 8 bytes, but 0 were",
    );
    // Values in the field of another type.
    let misplaced = TensorProto { int64_data: vec![1, 2], ..empty("w", Float, &[2]) };
    assert_refused("misplaced data", weight(misplaced), &[ErrorKind::Shape], "takes 8 bytes, but 0 were");
    let sparse = |positions: &[i64], count: i64| {
        use nestjit::onnx::proto::SparseTensorProto;
        let mut m = model(&["2"], vec![node("Add", &["x", "w"], &["y"])], vec![]);
        m.graph.as_mut().unwrap().sparse_initializer.push(SparseTensorProto {
            values: Some(f32s("w", &[positions.len() as i64], &vec![1.0; positions.len()])),
            indices: Some(i64s("", &[positions.len() as i64], positions)),
            dims: vec![count],
        });
        m
    };
    assert!(import(sparse(&[1], 2)).is_ok());
    let kinds = [ErrorKind::Invalid, ErrorKind::Limit];
    for (what, m) in
        [("outside", sparse(&[2], 2)), ("negative", sparse(&[-1], 2)), ("huge", sparse(&[0], HUGE))]
    {
        assert_refused(what, m, &kinds, "initializer 'w'");
    }
}

/// Many results, each of which is allowed, are refused when there is no memory for them: when the model is compiled or
/// run, and with an error.
#[test]
fn many_large_temporaries() {
    let (mut nodes, mut weights, mut sums) = (vec![], vec![], vec![]);
    for i in 0..24 {
        let [shifted, wide, sum] = ["a", "e", "r"].map(|name| format!("{name}{i}"));
        weights.push(f32s(&format!("c{i}"), &[], &[i as f32]));
        nodes.push(node("Add", &["x", &format!("c{i}")], &[&shifted]));
        nodes.push(node("Expand", &[&shifted, "s"], &[&wide]));
        nodes.push(node("CumSum", &[&wide, "zero"], &[&sum]));
        sums.push(sum);
    }
    // All of them are needed at the end.
    nodes.push(node("Sum", &sums.iter().map(String::as_str).collect::<Vec<_>>(), &["all"]));
    nodes.push(node("ReduceSum", &["all"], &["y"]));
    weights.extend([i64s("s", &[2], &[1 << 15, 1 << 16]), i64s("zero", &[], &[0])]);
    let m = model(&["1", "1"], nodes, weights);
    let graph = import(m).unwrap();
    let compiled = without_panic(|| nestjit::Compiler::new().disable_pass("OpFusion").compile(&graph.into()));
    let error = match compiled.unwrap() {
        Err(error) => error,
        // Whether there is as much memory is the system's decision, which it may also make when it is needed.
        Ok(executable) => match executable.allocate_outputs() {
            Ok(_) => return,
            Err(error) => error,
        },
    };
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}
