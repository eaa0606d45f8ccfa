//! What a file may look like: encodings of tensors and constants, initializers as inputs, the names in subgraphs,
//! functions.

use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType::{self, Bool, Double, Float, Int8, Int32, Int64, Uint8};
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use nestjit::onnx::proto::type_proto::Value as TypeValue;
use nestjit::onnx::proto::{
    GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, TensorShapeProto,
};
use nestjit::onnx::{OnnxModel, Specialization};
use nestjit::{Compiler, ErrorKind, Tensor};

use super::common::onnx::*;
use super::{outputs, run};

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
    for dtype in [DataType::Complex64, DataType::Float8e4m3fn] {
        let tensor = TensorProto { int32_data: vec![0x3c00; 3], ..empty("w", dtype, &[3]) };
        let m = model(&["3"], vec![node("Add", &["x", "w"], &["y"])], vec![tensor]);
        let (kind, text) = refusal(m);
        let name = dtype.as_str_name().to_ascii_lowercase();
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains(&format!("initializer 'w': the element type {name}")), "{text}");
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

#[test]
fn nodes_in_any_order() {
    let nodes =
        vec![node("Add", &["b", "x"], &["y"]), node("Neg", &["a"], &["b"]), node("Exp", &["x"], &["a"])];
    let m = model(&["1"], nodes, vec![]);
    assert_eq!(run(17, m, &[0.0]).1, [-1.0]);
    // What a branch reads from around comes before the node with the branch, and the branch is sorted too.
    let inner = graph_of(vec![], vec![node("Neg", &["s"], &["r"]), node("Add", &["a", "x"], &["s"])], &["r"]);
    let n = with(node("If", &["c"], &["y"]), subgraph("then_branch", inner.clone()));
    let n = with(n, subgraph("else_branch", inner));
    let nodes = vec![n, node("Exp", &["x"], &["a"])];
    assert_eq!(run(17, model(&["1"], nodes, vec![bools("c", &[], &[true])]), &[0.0]).1, [-1.0]);
    // So is a function.
    let body = vec![node("Exp", &["t"], &["q"]), node("Neg", &["p"], &["t"])];
    let m = model(&["1"], vec![call("f", &["x"], &["y"])], vec![]);
    let m = with_functions(m, vec![function("f", &["p"], &["q"], &[], body)]);
    assert_eq!(run(17, m, &[0.0]).1, [1.0]);
}

#[test]
fn dimensions_that_are_anything() {
    use nestjit::onnx::Dim::{Fixed, Symbol, Unknown};
    let dims = ["-1", "?", "", " ", "n", "n + 1", "batch-size.0", "3"];
    let input = declared("x", Float, &["1"]);
    let mut m = model_of(graph_of(vec![input], vec![node("Relu", &["x"], &["y"])], &["y"]));
    let of_text = |text: &&str| Dimension {
        value: Some(text.parse().map_or_else(|_| Dim::DimParam((*text).into()), Dim::DimValue)),
        denotation: None,
    };
    let shape = TensorShapeProto { dim: dims.iter().map(of_text).collect() };
    let input = &mut m.graph.as_mut().unwrap().input[0];
    let Some(TypeValue::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value else { panic!() };
    tensor.shape = Some(shape);
    let m = OnnxModel::from_proto(m).unwrap();
    let symbol = |name: &str| Symbol(name.to_owned());
    let read = [Unknown, Unknown, Unknown, Unknown, symbol("n"), Unknown, symbol("batch-size.0"), Fixed(3)];
    assert_eq!(m.inputs()[0].dims.as_deref(), Some(&read[..]));
}

#[test]
fn an_output_that_is_an_input_keeps_its_name() {
    let graph = graph_of(
        vec![declared("a:0", Float, &["2"])],
        vec![node("Neg", &["a:0"], &["y/z"])],
        &["y/z", "a:0"],
    );
    let graph = import(model_of(graph)).unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|id| graph.value(*id).name.as_str()).collect();
    assert_eq!(names, ["y/z", "a:0"]);
    graph.validate().unwrap();
    let x = Tensor::new(&[2], &[1.0f32, -2.0]).unwrap();
    assert_eq!(outputs(&graph, &[1.0, -2.0])[1], x);
    for compiler in [Compiler::new(), Compiler::new().disable_pass("OpFusion")] {
        let executable = compiler.threads(1).compile(&graph.clone().into()).unwrap();
        let names: Vec<&str> = executable.outputs().iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["y/z", "a:0"]);
        let y = executable.run(std::slice::from_ref(&x)).unwrap();
        assert_eq!((y[0].values::<f32>().unwrap(), &y[1]), (&[-1.0f32, 2.0][..], &x));
    }
}
