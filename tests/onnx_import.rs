//! ONNX import, on small models that are built from the schema's messages.

mod common;

use std::fs;

use common::onnx::*;
use nestjit::graph::{Graph, Op, Precision, evaluate};
use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::{DataLocation, DataType};
use nestjit::onnx::proto::{AttributeProto, GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use nestjit::onnx::{Imported, OnnxModel, Specialization};
use nestjit::{Compiler, DType, Error, ErrorKind, Session, Tensor};
use prost::Message;

fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let shape = &graph.value(graph.inputs[0]).shape;
    let outputs = evaluate(graph, &[Tensor::new(shape, x).unwrap()], Precision::F32).unwrap();
    outputs[0].values::<f32>().unwrap().to_vec()
}

fn message(result: Result<Graph, Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn a_small_network() {
    let m = model(
        &["1", "2"],
        vec![with(node("Gemm", &["x", "w", "b"], &["h"]), int("transB", 1)), node("Relu", &["h"], &["y"])],
        vec![f32s("w", &[3, 2], &[1.0, 2.0, -1.0, 0.5, 0.0, -3.0]), f32s("b", &[3], &[0.5, 0.0, 1.0])],
    );
    let bytes = m.encode_to_vec();
    let graph = OnnxModel::from_bytes(&bytes).unwrap().graph(&Specialization::default()).unwrap();
    assert_eq!(run(&graph, &[1.0, 2.0]), [5.5, 0.0, 0.0]);
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["h", "y"], "nodes without a name are named after their results");
    assert_eq!(graph.value(graph.outputs[0]).name, "y");
}

#[test]
fn every_encoding_of_a_tensor() {
    let typed = f32s("w", &[2], &[1.5, -2.0]);
    let raw = TensorProto {
        float_data: vec![],
        raw_data: Some([1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..typed.clone()
    };
    for tensor in [typed, raw] {
        let graph = import(model(&["2"], vec![node("Mul", &["x", "w"], &["y"])], vec![tensor])).unwrap();
        assert_eq!(run(&graph, &[2.0, 3.0]), [3.0, -6.0]);
    }
    let bytes = TensorProto {
        data_type: Some(DataType::Uint8.into()),
        float_data: vec![],
        int32_data: vec![3, 256],
        ..f32s("w", &[2], &[])
    };
    let (kind, text) = refusal(model(&["2"], vec![node("Identity", &["x"], &["y"])], vec![bytes]));
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.contains("initializer 'w': an element is outside the range of u8"), "{text}");
}

#[test]
fn shapes_that_are_computed_fold() {
    // The way PyTorch exports `x.view(x.shape[0], -1)`.
    let m = model(
        &["2", "3", "4"],
        vec![
            node("Shape", &["x"], &["s"]),
            with(node("Gather", &["s", "zero"], &["n"]), int("axis", 0)),
            node("Unsqueeze", &["n", "axes"], &["n1"]),
            with(node("Concat", &["n1", "rest"], &["shape"]), int("axis", 0)),
            node("Reshape", &["x", "shape"], &["y"]),
        ],
        vec![i64s("zero", &[], &[0]), i64s("axes", &[1], &[0]), i64s("rest", &[1], &[-1])],
    );
    let graph = import(m).unwrap();
    assert_eq!(graph.nodes.len(), 1, "{graph:?}");
    assert_eq!(graph.nodes[0].op, Op::Reshape { shape: vec![2, 12] });
}

#[test]
fn symbolic_dimensions_are_bound() {
    let m =
        OnnxModel::from_proto(model(&["batch", "3"], vec![node("Relu", &["x"], &["y"])], vec![])).unwrap();
    let error = m.graph(&Specialization::default()).unwrap_err();
    assert_eq!(error.to_string(), "dimension 0 ('batch') of input 'x' is not known: a shape must be given");
    let mut s = Specialization::default();
    s.dims.insert("batch".into(), 5);
    assert_eq!(m.graph(&s).unwrap().value(nestjit::graph::ValueId(0)).shape, [5, 3]);
    s.shapes.insert("x".into(), vec![4, 3]);
    let error = m.graph(&s).unwrap_err();
    assert_eq!(error.to_string(), "dimension 0 ('batch') of input 'x' is 5, but 4 was given");
}

#[test]
fn inputs_that_carry_shapes_are_asked_for() {
    let mut m = model(&["2", "6"], vec![node("Reshape", &["x", "s"], &["y"])], vec![]);
    m.graph.as_mut().unwrap().input.push(declared("s", DataType::Int64, &["2"]));
    let m = OnnxModel::from_proto(m).unwrap();
    let mut s = Specialization::default();
    match m.import(&s).unwrap() {
        Imported::NeedsValues(names) => assert_eq!(names, ["s"]),
        Imported::Graph(graph) => panic!("{graph:?}"),
    }
    s.values.insert("s".into(), Tensor::new(&[2], &[3i64, 4]).unwrap());
    let graph = m.graph(&s).unwrap();
    assert_eq!(graph.value(graph.outputs[0]).shape, [3, 4]);
    assert_eq!(graph.inputs.len(), 2, "it is an input all the same");
}

#[test]
fn all_problems_are_listed() {
    let m = model(
        &["2"],
        vec![
            node("Frobnicate", &["x"], &["a"]),
            with(node("Relu", &["x"], &["b"]), int("speed", 3)),
            node("Add", &["a", "b"], &["y"]),
            node("Unheard", &["y"], &["z"]),
            node("Sqrt", &["nowhere"], &["q"]),
        ],
        vec![],
    );
    let (kind, text) = refusal(m);
    assert_eq!(kind, ErrorKind::Invalid);
    let expected = "4 problems:
  node 'a' (Frobnicate, opset 17): the operator is not supported
  node 'b' (Relu, opset 17): the attribute 'speed' is not supported
  node 'z' (Unheard, opset 17): the operator is not supported
  node 'q' (Sqrt, opset 17): 'nowhere' is not defined before this node: nothing makes it, or the nodes form \
                    a cycle";
    assert_eq!(text, expected);
}

#[test]
fn names_are_defined_once_and_before_they_are_read() {
    let twice = vec![node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["y"])];
    assert!(refusal(model(&["2"], twice, vec![])).1.contains("'y' is defined already"));
    let cycle = vec![node("Relu", &["b"], &["y"]), node("Neg", &["y"], &["b"])];
    assert!(refusal(model(&["2"], cycle, vec![])).1.contains("'b' is not defined before"));
    let missing = vec![node("Relu", &["x"], &["z"])];
    assert!(refusal(model(&["2"], missing, vec![])).1.contains("nothing makes the output 'y'"));
}

#[test]
fn functions_are_inlined() {
    let alpha = reference("alpha", "alpha", AttributeType::Float);
    let body = vec![with(node("LeakyRelu", &["a"], &["t"]), alpha), node("Neg", &["t"], &["r"])];
    let given = float("alpha", 0.5);
    let m = model(&["2"], vec![with(call("F", &["x"], &["h"]), given), call("F", &["h"], &["y"])], vec![]);
    let m = with_functions(m, vec![function("F", &["a"], &["r"], &["alpha"], body)]);
    let graph = import(m).unwrap();
    // 0.5 in the first call, the operator's default, 0.01, in the second.
    assert_eq!(run(&graph, &[-4.0, 1.0]), [-2.0, 0.01]);
    assert!(graph.nodes.iter().any(|n| n.name == "h/t"), "names tell where nodes come from");
}

#[test]
fn functions_that_call_themselves_are_refused() {
    let m = model(&["2"], vec![call("F", &["x"], &["y"])], vec![]);
    let calls = |name, other| function(name, &["a"], &["r"], &["alpha"], vec![call(other, &["a"], &["r"])]);
    let m = with_functions(m, vec![calls("F", "G"), calls("G", "F")]);
    assert!(refusal(m).1.contains("the function calls itself"));
}

#[test]
fn long_chains_are_no_problem() {
    let mut nodes = vec![node("Neg", &["x"], &["v0"])];
    nodes.extend((1..100_000).map(|i| node("Neg", &[&format!("v{}", i - 1)], &[&format!("v{i}")])));
    nodes.push(node("Neg", &["v99999"], &["y"]));
    let graph = import(model(&["1"], nodes, vec![])).unwrap();
    assert_eq!(graph.nodes.len(), 100_001);
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    let nodes = vec![node("Expand", &["x", "s"], &["y"])];
    let (kind, text) = refusal(model(&["1"], nodes, vec![i64s("s", &[2], &[1 << 40, 1 << 20])]));
    assert_eq!(kind, ErrorKind::Limit, "{text}");
    let huge = TensorProto { dims: vec![1 << 31, 1 << 31, 4], ..f32s("w", &[], &[]) };
    let (kind, _) = refusal(model(&["1"], vec![node("Add", &["x", "w"], &["y"])], vec![huge]));
    assert_eq!(kind, ErrorKind::Limit);
    let short = f32s("w", &[3], &[1.0]);
    let (kind, text) = refusal(model(&["1"], vec![node("Add", &["x", "w"], &["y"])], vec![short]));
    assert_eq!((kind, text.contains("takes 12 bytes, but 4 were given")), (ErrorKind::Shape, true), "{text}");
}

fn external(location: &str, offset: &str) -> ModelProto {
    let entry =
        |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    let tensor = TensorProto {
        data_location: Some(DataLocation::External.into()),
        external_data: vec![entry("location", location), entry("offset", offset), entry("length", "8")],
        ..f32s("w", &[2], &[])
    };
    model(&["2"], vec![node("Add", &["x", "w"], &["y"])], vec![tensor])
}

#[test]
fn external_data_stays_in_the_models_folder() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("models");
    fs::create_dir(&folder).unwrap();
    let data: Vec<u8> = [0.0f32, 1.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(outside.path().join("secret"), &data).unwrap();
    fs::write(folder.join("weights"), &data).unwrap();
    let load = |location: &str, offset: &str| {
        let path = folder.join("m.onnx");
        fs::write(&path, external(location, offset).encode_to_vec()).unwrap();
        OnnxModel::from_path(&path)?.graph(&Specialization::default())
    };
    assert_eq!(run(&load("weights", "4").unwrap(), &[10.0, 20.0]), [11.0, 22.0]);
    assert!(message(load("weights", "8")).1.contains("8 bytes at offset 8 of 'weights', which has 12"));
    assert!(message(load("../secret", "0")).1.contains("leaves the model's folder by '..'"));
    let absolute = outside.path().join("secret");
    assert!(message(load(absolute.to_str().unwrap(), "0")).1.contains("the path is absolute"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&absolute, folder.join("soft")).unwrap();
        assert!(message(load("soft", "0")).1.contains("symbolic link"));
        std::os::unix::fs::symlink(outside.path(), folder.join("up")).unwrap();
        assert!(message(load("up/secret", "0")).1.contains("symbolic link"));
        fs::hard_link(&absolute, folder.join("hard")).unwrap();
        assert!(message(load("hard", "0")).1.contains("hard link"));
    }
    let from_bytes = OnnxModel::from_bytes(&external("weights", "0").encode_to_vec()).unwrap();
    assert!(message(from_bytes.graph(&Specialization::default())).1.contains("not read from a file"));
}

#[test]
fn what_is_no_model_is_an_error() {
    let bytes = model(&["2"], vec![node("Relu", &["x"], &["y"])], vec![]).encode_to_vec();
    for length in 0..bytes.len() {
        // A prefix may be a model again, but never more than an error otherwise.
        if let Ok(model) = OnnxModel::from_bytes(&bytes[..length]) {
            let _ = model.graph(&Specialization::default());
        }
    }
    assert!(OnnxModel::from_bytes(b"GIF89a").unwrap_err().to_string().contains("not an ONNX model"));
}

#[test]
fn branches_and_loops_become_plain_operations() {
    let branch = |op: &str| GraphProto {
        node: vec![node(op, &["x"], &["r"])],
        output: vec![declared("r", DataType::Float, &["2"])],
        ..GraphProto::default()
    };
    let choice = with(
        with(node("If", &["c"], &["y"]), subgraph("then_branch", branch("Neg"))),
        subgraph("else_branch", branch("Abs")),
    );
    let condition =
        TensorProto { data_type: Some(DataType::Bool.into()), int32_data: vec![1], ..f32s("c", &[], &[]) };
    let known = import(model(&["2"], vec![choice.clone()], vec![condition])).unwrap();
    assert_eq!(run(&known, &[-1.0, 2.0]), [1.0, -2.0]);
    assert_eq!(known.nodes.len(), 1);
    let mut open = model(&["2"], vec![choice], vec![]);
    open.graph.as_mut().unwrap().input.push(declared("c", DataType::Bool, &[]));
    let open = import(open).unwrap();
    let inputs = [Tensor::new(&[2], &[-1.0f32, 2.0]).unwrap(), Tensor::scalar(false)];
    let y = evaluate(&open, &inputs, Precision::F32).unwrap();
    assert_eq!(y[0].values::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(open.value(open.inputs[1]).dtype, DType::Bool);
}

#[test]
fn sessions_compile_once_per_shape_and_value() {
    let mut m = model(&["n", "6"], vec![node("Reshape", &["x", "s"], &["y"])], vec![]);
    m.graph.as_mut().unwrap().input.push(declared("s", DataType::Int64, &["2"]));
    let session = Session::new(OnnxModel::from_proto(m).unwrap(), Compiler::new().threads(1)).cache_limit(2);
    let call = |rows: usize, shape: [i64; 2]| {
        let x: Vec<f32> = (0..rows * 6).map(|i| i as f32).collect();
        let inputs = [Tensor::new(&[rows, 6], &x).unwrap(), Tensor::new(&[2], &shape).unwrap()];
        let call = session.call(&inputs).unwrap();
        assert_eq!(call.outputs[0].values::<f32>().unwrap(), x);
        let compiled = call.compiled.is_some();
        (compiled, call.outputs[0].shape().to_vec())
    };
    assert_eq!(call(2, [3, 4]), (true, vec![3, 4]));
    assert_eq!(call(2, [3, 4]), (false, vec![3, 4]));
    assert_eq!(call(2, [-1, 1]), (true, vec![12, 1]), "another value is another graph");
    assert_eq!(call(3, [9, 2]), (true, vec![9, 2]), "so is another shape");
    assert_eq!(session.cached(), 2);
    assert_eq!(call(2, [-1, 1]), (false, vec![12, 1]));
    assert_eq!(call(2, [3, 4]), (true, vec![3, 4]), "the oldest was dropped");
    let wrong = session.run(&[Tensor::scalar(1i64), Tensor::scalar(1i64)]).unwrap_err();
    assert_eq!(wrong.to_string(), "input 'x' is f32, but i64 was given");
}

#[test]
fn attributes_that_make_no_sense_are_errors() {
    let image = ["1", "4", "5", "5"];
    let conv = |attribute| with(node("Conv", &["x", "w"], &["y"]), attribute);
    let pool =
        |attributes: Vec<AttributeProto>| attributes.into_iter().fold(node("MaxPool", &["x"], &["y"]), with);
    let w = || vec![f32s("w", &[4, 4, 1, 1], &[0.5; 16])];
    let cases = [
        ("'strides' is -1", conv(ints("strides", &[1, -1])), "must not be negative"),
        ("stride 0", conv(ints("strides", &[0, 1])), "must be at least 1"),
        ("group 0", conv(int("group", 0)), "number of groups must be at least 1"),
        ("group 3", conv(int("group", 3)), "3 groups do not divide 4"),
        ("pads", conv(ints("pads", &[1 << 62, 0, 0, 0])), "'pads' is"),
        ("kernel", pool(vec![ints("kernel_shape", &[9, 9])]), "larger than the padded input"),
        (
            "perm",
            with(node("Transpose", &["x"], &["y"]), ints("perm", &[0, 1, 2, 9])),
            "axis 9 does not exist",
        ),
        ("perm", with(node("Transpose", &["x"], &["y"]), ints("perm", &[0, 0, 1, 2])), "permutation"),
        ("axis", with(node("Softmax", &["x"], &["y"]), int("axis", -5)), "axis -5 does not exist"),
        ("type", with(node("Cast", &["x"], &["y"]), int("to", 14)), "element type complex64"),
        ("type", with(node("Cast", &["x"], &["y"]), int("to", 99)), "no element type number 99"),
        ("split", with(node("Split", &["x"], &["y", "z"]), int("axis", 7)), "axis 7 does not exist"),
        ("missing", node("Transpose", &[], &["y"]), "input 0 is missing"),
        ("block", with(node("DepthToSpace", &["x"], &["y"]), int("blocksize", 1 << 40)), "no multiple"),
    ];
    for (what, node, expected) in cases {
        let (_, text) = refusal(model(&image, vec![node], w()));
        assert!(text.contains(expected), "{what}: {text}");
    }
}

#[test]
fn values_that_make_no_sense_are_errors() {
    let huge = i64s("s", &[1], &[1 << 60]);
    let tile = vec![node("Tile", &["x", "s"], &["y"])];
    let (kind, text) = refusal(model(&["2"], tile, vec![huge]));
    assert_eq!(kind, ErrorKind::Limit, "{text}");
    let nothing = vec![i64s("a", &[], &[0]), i64s("b", &[], &[9]), i64s("c", &[], &[0])];
    let range = vec![node("Range", &["a", "b", "c"], &["r"]), node("Neg", &["x"], &["y"])];
    assert!(refusal(model(&["2"], range, nothing)).1.contains("delta is 0"));
    let step = vec![i64s("a", &[1], &[0]), i64s("b", &[1], &[1]), i64s("c", &[1], &[0])];
    let slice = vec![node("Slice", &["x", "a", "b", "a", "c"], &["y"])];
    assert!(refusal(model(&["2"], slice, step)).1.contains("a step is 0"));
}

#[test]
fn deeply_nested_branches_are_an_error() {
    let mut body = vec![node("Neg", &["x"], &["r"])];
    for _ in 0..60 {
        let branch = GraphProto {
            node: body,
            output: vec![declared("r", DataType::Float, &["2"])],
            ..GraphProto::default()
        };
        body = vec![with(with(node("If", &["c"], &["r"]), subgraph("then_branch", branch)), int("spare", 0))];
    }
    let nested = model(&["2"], body, vec![]);
    let error = OnnxModel::from_bytes(&nested.encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("recursion limit"), "{error}");
}

#[test]
fn recurrent_layers_of_unequal_sequences() {
    // Hidden size 1, weights 1, no bias: h = tanh(x + h), frozen when the sequence ends.
    let mut m = model(
        &["3", "2", "1"],
        vec![with(node("RNN", &["x", "w", "w", "", "n"], &["all", "y"]), int("hidden_size", 1))],
        vec![f32s("w", &[1, 1, 1], &[1.0])],
    );
    m.graph.as_mut().unwrap().input.push(declared("n", DataType::Int32, &["2"]));
    let graph = import(m).unwrap();
    let x = Tensor::new(&[3, 2, 1], &[0.5f32, -1.0, 0.25, 2.0, 1.0, 3.0]).unwrap();
    let n = Tensor::new(&[2], &[3i32, 1]).unwrap();
    let y = evaluate(&graph, &[x, n], Precision::F64).unwrap();
    let first = (1.0 + (0.25 + 0.5f64.tanh()).tanh()).tanh();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let y = y[0].values::<f64>().unwrap();
    assert!(close(y[0], first) && close(y[1], (-1.0f64).tanh()), "{y:?}");
}
