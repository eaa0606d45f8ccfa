//! Graphs whose nodes, names, versions and functions do not fit together.

use nestjit::ErrorKind;
use nestjit::graph::{Precision, evaluate};
use nestjit::onnx::proto::tensor_proto::DataType::{Bool, Float};
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use nestjit::onnx::{OnnxModel, Specialization};
use prost::Message;

use super::common::onnx::*;

/// The message about a model that is refused, which must be of this kind.
#[track_caller]
fn assert_refused(model: ModelProto, kind: ErrorKind, message: &str) {
    assert_eq!(refusal(model), (kind, message.to_owned()));
}

fn relu() -> ModelProto {
    model(&["2"], vec![node("Relu", &["x"], &["y"])], vec![])
}

/// `relu` with another graph.
fn changed(f: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut m = relu();
    f(m.graph.as_mut().unwrap());
    m
}

const UNDEFINED: &str = "is not defined before this node: nothing makes it, or the nodes form a cycle";

#[test]
fn nodes_that_do_not_form_a_sequence() {
    let of = |nodes: Vec<NodeProto>| model(&["2"], nodes, vec![]);
    let cycle =
        of(vec![node("Add", &["x", "b"], &["a"]), node("Neg", &["a"], &["b"]), node("Neg", &["b"], &["y"])]);
    assert_refused(cycle, ErrorKind::Invalid, &format!("node 'a' (Add, opset 17): 'b' {UNDEFINED}"));
    let itself = of(vec![node("Add", &["x", "y"], &["y"])]);
    assert_refused(itself, ErrorKind::Invalid, &format!("node 'y' (Add, opset 17): 'y' {UNDEFINED}"));
    let cycle_first =
        of(vec![node("Neg", &["y"], &["y"]), node("Neg", &["t"], &["u"]), node("Relu", &["x"], &["t"])]);
    assert_refused(cycle_first, ErrorKind::Invalid, &format!("node 'y' (Neg, opset 17): 'y' {UNDEFINED}"));
    let no_weight = of(vec![node("MatMul", &["x", "w"], &["y"])]);
    assert_refused(no_weight, ErrorKind::Invalid, &format!("node 'y' (MatMul, opset 17): 'w' {UNDEFINED}"));
    let no_inputs = of(vec![node("Add", &[], &["y"])]);
    assert_refused(no_inputs, ErrorKind::Invalid, "node 'y' (Add, opset 17): input 0 is missing");
    let surplus = of(vec![node("Relu", &["x"], &["y", "mask"])]);
    let message = "node 'y' (Relu, opset 17): the output 'mask' is not supported";
    assert_refused(surplus, ErrorKind::Unsupported, message);
}

#[test]
fn names_that_are_taken() {
    let twice = model(&["2"], vec![node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["y"])], vec![]);
    assert_refused(twice, ErrorKind::Invalid, "node 'y' (Neg, opset 17): 'y' is defined already");
    let in_one = model(&["2"], vec![node("Split", &["x"], &["y", "y"])], vec![]);
    assert_refused(in_one, ErrorKind::Invalid, "node 'y' (Split, opset 17): 'y' is defined already");
    let input = model(&["2"], vec![node("Relu", &["x"], &["x"]), node("Neg", &["x"], &["y"])], vec![]);
    assert_refused(input, ErrorKind::Invalid, "node 'x' (Relu, opset 17): 'x' is defined already");
    let weight = model(
        &["1"],
        vec![node("Relu", &["x"], &["w"]), node("Neg", &["w"], &["y"])],
        vec![f32s("w", &[1], &[1.0])],
    );
    assert_refused(weight, ErrorKind::Invalid, "node 'w' (Relu, opset 17): 'w' is defined already");
    let inputs = changed(|g| g.input.push(declared("x", Float, &["2"])));
    assert_refused(inputs, ErrorKind::Invalid, "two inputs are named 'x'");
    let outputs = changed(|g| g.output.push(named("y")));
    assert_refused(outputs, ErrorKind::Invalid, "two outputs are named 'y'");
    let weights = changed(|g| g.initializer = vec![f32s("w", &[1], &[1.0]), f32s("w", &[1], &[1.0])]);
    assert_refused(weights, ErrorKind::Invalid, "two initializers are named 'w'");
}

#[test]
fn ends_that_are_missing() {
    assert_refused(changed(|g| g.output.clear()), ErrorKind::Invalid, "the graph has no output");
    assert_refused(changed(|g| g.node.clear()), ErrorKind::Invalid, "nothing makes the output 'y'");
    assert_refused(model_of(GraphProto::default()), ErrorKind::Invalid, "the graph has no output");
    assert_refused(ModelProto::default(), ErrorKind::Invalid, "this is not an ONNX model: it has no graph");
    let error = OnnxModel::from_bytes(&[]).unwrap_err();
    assert_eq!(error.to_string(), "this is not an ONNX model: it has no graph");
    let unnamed = changed(|g| g.input.push(declared("", Float, &["2"])));
    assert_refused(unnamed, ErrorKind::Invalid, "input '': the name is empty");
    let untyped = changed(|g| g.input.push(named("z")));
    assert_refused(untyped, ErrorKind::Invalid, "input 'z': the type is missing");
    let negative = changed(|g| g.input.push(declared("z", Float, &["-3"])));
    assert_refused(negative, ErrorKind::Invalid, "input 'z': a dimension is -3");
}

#[test]
fn outputs_that_nothing_computes() {
    let m = model_of(GraphProto {
        initializer: vec![f32s("w", &[2], &[3.0, 4.0])],
        ..graph_of(vec![declared("x", Float, &["2"])], vec![], &["x", "w"])
    });
    let graph = import(m).unwrap();
    let x = nestjit::Tensor::new(&[2], &[1.0f32, 2.0]).unwrap();
    let outputs = evaluate(&graph, std::slice::from_ref(&x), Precision::F32).unwrap();
    assert_eq!(outputs[0], x);
    assert_eq!(outputs[1].values::<f32>().unwrap(), [3.0, 4.0]);
    let ran = nestjit::Compiler::new().compile(&graph.into()).unwrap().run(&[x]).unwrap();
    assert_eq!(ran, outputs);
}

#[test]
fn versions_that_do_not_exist() {
    let version = |ir| ModelProto { ir_version: ir, ..relu() };
    for (ir, shown) in [(Some(0), 0), (Some(2), 2), (None, 0), (Some(-1), -1), (Some(i64::MIN), i64::MIN)] {
        let message = format!("the IR version {shown} is not supported; 3 is the first that is");
        assert_refused(version(ir), ErrorKind::Invalid, &message);
    }
    // A newer format is read as far as it is understood: what it adds must be used to matter.
    assert!(import(version(Some(999))).is_ok());
    let sets = |sets| ModelProto { opset_import: sets, ..relu() };
    let message = "node 'y' (Relu): no operator set is imported for the domain ''";
    assert_refused(sets(vec![]), ErrorKind::Invalid, message);
    // So is a newer operator set: what is not known of it is refused where it is used.
    assert!(import(sets(vec![opset("", 999)])).is_ok());
    let newer = |n| ModelProto { opset_import: vec![opset("", 999)], ..model(&["2"], vec![n], vec![]) };
    let message = "node 'y' (Relu, opset 999): the attribute 'slope' is not supported";
    assert_refused(
        newer(with(node("Relu", &["x"], &["y"]), float("slope", 0.1))),
        ErrorKind::Unsupported,
        message,
    );
    let message = "node 'y' (Softsign, opset 999): 2 inputs are given, but there are at most 1";
    assert_refused(newer(node("Softsign", &["x", "x"], &["y"])), ErrorKind::Invalid, message);
    let message = "node 'y' (ArgMax, opset 999): the input 1 is not supported";
    assert_refused(newer(node("ArgMax", &["x", "x"], &["y"])), ErrorKind::Unsupported, message);
    let message = "node 'y' (Attention, opset 999): version 28 is the newest known operator set, and the operator may \
                   mean something else in newer ones";
    assert_refused(newer(node("Attention", &["x", "x", "x"], &["y"])), ErrorKind::Unsupported, message);
    assert_refused(
        sets(vec![opset("", 0)]),
        ErrorKind::Invalid,
        "the operator set version 0 is not supported",
    );
    assert_refused(
        sets(vec![opset("", i64::MIN)]),
        ErrorKind::Invalid,
        &format!("the operator set version {} is not supported", i64::MIN),
    );
    let message = "the operator set '' is imported in two versions";
    assert_refused(sets(vec![opset("", 17), opset("ai.onnx", 18)]), ErrorKind::Invalid, message);
    assert!(import(sets(vec![opset("ai.onnx", 17)])).is_ok(), "another name of the default domain");
    assert!(import(sets(vec![opset("", 17), opset("not.used", 3)])).is_ok());
    let mut foreign = relu();
    foreign.graph.as_mut().unwrap().node[0].domain = Some("not.imported".into());
    let message = "node 'y' (not.imported.Relu): no operator set is imported for the domain 'not.imported'";
    assert_refused(foreign.clone(), ErrorKind::Invalid, message);
    foreign.opset_import.push(opset("not.imported", 1));
    let message = "node 'y' (not.imported.Relu, opset 1): the operator is not supported";
    assert_refused(foreign, ErrorKind::Unsupported, message);
}

#[test]
fn one_message_lists_everything() {
    let nodes = vec![
        NodeProto { name: Some("first".into()), ..node("NoSuchOp", &["x"], &["a"]) },
        with(node("Relu", &["x"], &["b"]), int("speed", 3)),
        node("Add", &["a", "b"], &["c"]),
        with(node("Transpose", &["x"], &["d"]), ints("perm", &[0, 5])),
        with(node("Cast", &["x"], &["e"]), int("to", 14)),
        node("Sqrt", &["nowhere"], &["f"]),
        with(node("Conv", &["x", "w"], &["y"]), ints("strides", &[0])),
    ];
    let m = model(&["2", "3"], nodes, vec![f32s("w", &[1, 1, 1], &[1.0])]);
    let (kind, text) = refusal(m);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((kind, lines[0]), (ErrorKind::Invalid, "6 problems:"), "{text}");
    let expected = [
        "node 'first' (NoSuchOp, opset 17): the operator is not supported",
        "node 'b' (Relu, opset 17): the attribute 'speed' is not supported",
        "node 'd' (Transpose, opset 17): ",
        "node 'e' (Cast, opset 17): the element type complex64 is not supported",
        "node 'f' (Sqrt, opset 17): 'nowhere' is not defined before this node",
        "node 'y' (Conv, opset 17): ",
    ];
    assert_eq!(lines.len(), 7, "{text}");
    for (line, expected) in lines[1..].iter().zip(expected) {
        assert!(line.trim_start().starts_with(expected), "{line}");
    }
    // Nor does the list grow without bound.
    let many = (0..5000).map(|i| node("NoSuchOp", &["x"], &[&format!("v{i}")])).collect();
    let (kind, text) = refusal(model(&["2"], many, vec![]));
    assert_eq!((kind, text.lines().count()), (ErrorKind::Invalid, 102));
    assert!(text.starts_with("5001 problems:") && text.ends_with("and 4901 more"), "{text}");
}

#[test]
fn attributes_of_the_wrong_type() {
    let conv = |attribute| {
        model(
            &["1", "1", "4"],
            vec![with(node("Conv", &["x", "w"], &["y"]), attribute)],
            vec![f32s("w", &[1, 1, 1], &[1.0])],
        )
    };
    let of = |name: &str, found: &str, wanted: &str| {
        format!("node 'y' (Conv, opset 17): the attribute '{name}' is of type {found}, not {wanted}")
    };
    assert_refused(conv(int("strides", 1)), ErrorKind::Invalid, &of("strides", "INT", "INTS"));
    assert_refused(conv(string("group", "1")), ErrorKind::Invalid, &of("group", "STRING", "INT"));
    assert_refused(conv(floats("pads", &[0.0, 0.0])), ErrorKind::Invalid, &of("pads", "FLOATS", "INTS"));
    assert_refused(conv(ints("auto_pad", &[1])), ErrorKind::Invalid, &of("auto_pad", "INTS", "STRING"));
    let mut not_text = string("auto_pad", "");
    not_text.s = Some(vec![0xff, 0xfe].into());
    let message = "node 'y' (Conv, opset 17): the attribute 'auto_pad' is not UTF-8";
    assert_refused(conv(not_text), ErrorKind::Invalid, message);
    let twice = model(
        &["2"],
        vec![with(with(node("Softmax", &["x"], &["y"]), int("axis", 0)), int("axis", 0))],
        vec![],
    );
    assert_refused(
        twice,
        ErrorKind::Invalid,
        "node 'y' (Softmax, opset 17): the attribute 'axis' is given twice",
    );
}

#[test]
fn functions_that_do_not_end() {
    let recursive = |bodies: &[(&str, &str)]| {
        let of = |(name, calls): &(&str, &str)| {
            function(name, &["a"], &["r"], &[], vec![call(calls, &["a"], &["r"])])
        };
        let m = model(&["2"], vec![call(bodies[0].0, &["x"], &["y"])], vec![]);
        with_functions(m, bodies.iter().map(of).collect())
    };
    let message = "node 'y/r' (mine.F, opset 1): the function calls itself";
    assert_refused(recursive(&[("F", "F")]), ErrorKind::Invalid, message);
    let message = "node 'y/r/r/r' (mine.F, opset 1): the function calls itself";
    assert_refused(recursive(&[("F", "G"), ("G", "H"), ("H", "F")]), ErrorKind::Invalid, message);
    // Not recursive, but exponential: each function calls the one before twice.
    let doubling: Vec<_> = (0..60)
        .map(|i| {
            let inner = |input: &str, output: &str| match i {
                0 => node("Neg", &[input], &[output]),
                _ => call(&format!("F{}", i - 1), &[input], &[output]),
            };
            function(&format!("F{i}"), &["a"], &["r"], &[], vec![inner("a", "t"), inner("t", "r")])
        })
        .collect();
    let m = with_functions(model(&["2"], vec![call("F59", &["x"], &["y"])], vec![]), doubling);
    let (kind, text) = refusal(m);
    assert_eq!(kind, ErrorKind::Limit, "{text}");
    assert!(text.len() < 100_000, "{} bytes", text.len());
    // Longer than functions may be nested.
    let chain: Vec<(String, String)> = (0..80).map(|i| (format!("F{i}"), format!("F{}", i + 1))).collect();
    let chain: Vec<(&str, &str)> = chain.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let (kind, text) = refusal(recursive(&chain));
    assert_eq!(kind, ErrorKind::Limit);
    assert!(text.contains("nested more than 64 deep"), "{text}");
}

#[test]
fn sixty_nested_branches() {
    let nested = |depth: usize| {
        let mut body = vec![node("Neg", &["x"], &["r"])];
        for _ in 0..depth {
            let branch = graph_of(vec![], body, &["r"]);
            let other = graph_of(vec![], vec![node("Abs", &["x"], &["r"])], &["r"]);
            let choice = with(node("If", &["c"], &["r"]), subgraph("then_branch", branch));
            body = vec![with(choice, subgraph("else_branch", other))];
        }
        body.push(node("Identity", &["r"], &["y"]));
        let mut m = model(&["2"], body, vec![]);
        m.graph.as_mut().unwrap().input.push(declared("c", Bool, &[]));
        m
    };
    // Built in memory, they go through, up to the limit.
    let graph = import(nested(60)).unwrap();
    let inputs = |c| [nestjit::Tensor::new(&[2], &[-1.0f32, 2.0]).unwrap(), nestjit::Tensor::scalar(c)];
    let executable = nestjit::Compiler::new().compile(&graph.into()).unwrap();
    for (c, expected) in [(true, [1.0, -2.0]), (false, [1.0, 2.0])] {
        assert_eq!(executable.run(&inputs(c)).unwrap()[0].values::<f32>().unwrap(), expected);
    }
    // Deeper, the branch is chosen when the model is imported, and what is not chosen is not looked at.
    let chosen = |c| {
        let mut specialization = Specialization::default();
        specialization.values.insert("c".into(), nestjit::Tensor::scalar(c));
        OnnxModel::from_proto(nested(70)).unwrap().graph(&specialization)
    };
    assert_eq!(chosen(false).unwrap().nodes.len(), 2);
    let error = chosen(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("nested more than 64 deep"), "{error}");
    // In a file, protobuf's own limit comes first.
    let error = OnnxModel::from_bytes(&nested(60).encode_to_vec()).unwrap_err();
    assert!(error.to_string().starts_with("this is not an ONNX model: "), "{error}");
    assert!(error.to_string().contains("recursion limit"), "{error}");
    let small = OnnxModel::from_bytes(&nested(20).encode_to_vec()).unwrap();
    assert!(small.graph(&Specialization::default()).is_ok());
}

#[test]
fn types_that_are_not_supported_are_named() {
    for (number, name) in
        [(8, "string"), (14, "complex64"), (15, "complex128"), (17, "float8e4m3fn"), (19, "float8e5m2")]
    {
        let weight = TensorProto { data_type: Some(number), ..f32s("w", &[1], &[1.0]) };
        let used = model(&["1"], vec![node("Add", &["x", "w"], &["y"])], vec![weight.clone()]);
        let (kind, text) = refusal(used);
        assert_eq!(kind, ErrorKind::Unsupported, "{text}");
        assert!(text.contains("initializer 'w'") && text.contains(&format!("element type {name}")), "{text}");
        // What nothing reads does no harm.
        assert!(import(model(&["1"], vec![node("Neg", &["x"], &["y"])], vec![weight])).is_ok());
    }
    let absurd = TensorProto { data_type: Some(-5), ..f32s("w", &[1], &[1.0]) };
    let m = model(&["1"], vec![node("Add", &["x", "w"], &["y"])], vec![absurd]);
    assert_refused(m, ErrorKind::Invalid, "initializer 'w': there is no element type number -5");
}
