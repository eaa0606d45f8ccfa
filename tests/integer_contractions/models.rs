//! ONNX models as quantisers write them, and what is wrong with others.

#[path = "../common/onnx.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod onnx;

use nestjit::graph::{Binary, Op, Unary};
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use nestjit::{DType, Tensor};

use self::onnx::{
    declared, empty, f32s, graph_of, import, in_opset, int, ints, model, model_of, node, opset, with,
};
use crate::{Allowed, check, contractions, rewritten};

fn integers(name: &str, dtype: DataType, dims: &[i64], values: &[i32]) -> TensorProto {
    TensorProto { int32_data: values.to_vec(), ..empty(name, dtype, dims) }
}

fn ramp(name: &str, dtype: DataType, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as i32;
    let values: Vec<i32> = (0..count).map(|i| (i * 37) % 100 - 30).collect();
    let values: Vec<i32> =
        values.iter().map(|v| if dtype == DataType::Uint8 { v + 60 } else { *v }).collect();
    integers(name, dtype, dims, &values)
}

fn image(shape: &[usize]) -> Tensor {
    Tensor::random(DType::F32, shape, 11).unwrap()
}

/// A convolution, a residual and a product between QuantizeLinear and DequantizeLinear, weights per channel.
#[test]
fn qdq() {
    let pair = |x: &str, y: &str, scale: &str, zero: &str| {
        let q = format!("{y}_q");
        vec![
            node("QuantizeLinear", &[x, scale, zero], &[&q]),
            node("DequantizeLinear", &[&q, scale, zero], &[y]),
        ]
    };
    let mut nodes = pair("x", "xd", "xs", "xz");
    nodes.push(with(node("DequantizeLinear", &["w", "ws", "wz"], &["wd"]), int("axis", 0)));
    nodes.push(with(node("DequantizeLinear", &["b", "bs"], &["bd"]), int("axis", 0)));
    nodes.push(with(node("Conv", &["xd", "wd", "bd"], &["c"]), ints("pads", &[1, 1, 1, 1])));
    nodes.push(node("Relu", &["c"], &["r"]));
    nodes.extend(pair("r", "rd", "rs", "rz"));
    nodes.push(node("Add", &["rd", "xd"], &["a"]));
    nodes.extend(pair("a", "ad", "rs", "rz"));
    nodes.push(node("GlobalAveragePool", &["ad"], &["g"]));
    nodes.push(node("Flatten", &["g"], &["f"]));
    nodes.extend(pair("f", "fd", "rs", "rz"));
    nodes.push(node("DequantizeLinear", &["v", "vs", "vz"], &["vd"]));
    nodes.push(node("MatMul", &["fd", "vd"], &["y"]));
    let ws = [0.01f32, 0.02, 0.015];
    let xs = 0.0078f32;
    let bias_scales = ws.map(|s| s * xs);
    let u8 = DataType::Uint8;
    let tensors = vec![
        f32s("xs", &[], &[xs]),
        integers("xz", u8, &[], &[121]),
        ramp("w", DataType::Int8, &[3, 3, 3, 3]),
        f32s("ws", &[3], &ws),
        integers("wz", DataType::Int8, &[3], &[0, 0, 0]),
        integers("b", DataType::Int32, &[3], &[100, -2000, 7]),
        f32s("bs", &[3], &bias_scales),
        f32s("rs", &[], &[0.02]),
        integers("rz", u8, &[], &[9]),
        ramp("v", DataType::Int8, &[3, 4]),
        f32s("vs", &[4], &[0.01, 0.02, 0.03, 0.04]),
        integers("vz", DataType::Int8, &[4], &[1, 2, 3, 4]),
    ];
    let graph = import(model(&["2", "3", "6", "6"], nodes, tensors)).unwrap();
    check("qdq", &graph, &[image(&[2, 3, 6, 6])], 2, Allowed::Behind);
    // The bias is part of the sums, padding the zero point, and the activation is quantised by a multiplication.
    let (after, _) = rewritten(&graph);
    let pads: Vec<i16> = after
        .nodes
        .iter()
        .filter_map(|n| match n.op {
            Op::Conv { pad_value, .. } => Some(pad_value),
            _ => None,
        })
        .collect();
    assert_eq!(pads, [121]);
    let relu = after.nodes.iter().find(|n| n.op == Op::Unary(Unary::Relu)).unwrap();
    let producer = after.nodes.iter().find(|n| n.outputs[0] == relu.inputs[0]).unwrap();
    assert_eq!(producer.op, Op::Binary(Binary::Mul), "the bias is not added in f32\n{after}");
}

/// As quantisers write products whose operands are quantised when the model runs.
#[test]
fn dynamic() {
    let nodes = vec![
        node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]),
        node("MatMulInteger", &["q", "w", "z", "wz"], &["sums"]),
        with(node("Cast", &["sums"], &["f"]), int("to", 1)),
        node("Mul", &["s", "ws"], &["scale"]),
        node("Mul", &["f", "scale"], &["scaled"]),
        node("Add", &["scaled", "b"], &["y"]),
    ];
    let tensors = |dtype, zeros: &[i32]| {
        vec![
            ramp("w", dtype, &[13, 5]),
            integers("wz", dtype, &[zeros.len() as i64], zeros),
            f32s("ws", &[5], &[0.1, 0.2, 0.3, 0.4, 0.5]),
            f32s("b", &[5], &[1.0, 2.0, 3.0, 4.0, 5.0]),
        ]
    };
    for (dtype, zeros) in
        [(DataType::Int8, &[0][..]), (DataType::Uint8, &[128]), (DataType::Uint8, &[100, 110, 120, 130, 140])]
    {
        let graph = import(model(&["7", "13"], nodes.clone(), tensors(dtype, zeros))).unwrap();
        check("dynamic", &graph, &[image(&[7, 13])], 1, Allowed::Behind);
    }
    // Convolutions pad with a zero point that comes with the run.
    let nodes = vec![
        node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]),
        with(node("ConvInteger", &["q", "w", "z"], &["y"]), ints("pads", &[1, 2, 0, 1])),
    ];
    let weight = ramp("w", DataType::Int8, &[4, 2, 3, 3]);
    let graph = import(model(&["2", "2", "5", "6"], nodes, vec![weight])).unwrap();
    assert_eq!(contractions(&rewritten(&graph).0), [[DType::U8, DType::I8]]);
    check("dynamic convolution", &graph, &[image(&[2, 2, 5, 6])], 1, Allowed::Rounding);
}

/// Scales that divide by nothing, or are none: whatever the quotient is, every way to compute it gives the same.
#[test]
fn scales_of_nothing() {
    for scale in [0.0, -0.5, f32::NAN, f32::INFINITY, 1e-45] {
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"]),
            node("DequantizeLinear", &["q", "t", "z"], &["d"]),
            node("QuantizeLinear", &["d", "t", "z"], &["y"]),
        ];
        let tensors = vec![
            f32s("s", &[], &[scale]),
            f32s("t", &[], &[if scale.is_nan() { 1.0 } else { scale }]),
            integers("z", DataType::Uint8, &[], &[3]),
        ];
        let graph = import(model(&["4"], nodes, tensors)).unwrap();
        let x = Tensor::new(&[4], &[0.0f32, 1.0, -2.0, f32::NAN]).unwrap();
        check(&format!("scale {scale}"), &graph, &[x], 0, Allowed::Rounding);
    }
}

/// A model of one node of bytes, and of constants.
fn bytes(op: NodeProto, tensors: Vec<TensorProto>) -> ModelProto {
    let x = declared("x", DataType::Uint8, &["2", "3", "4", "4"]);
    let graph = graph_of(vec![x, declared("m", DataType::Uint8, &["2", "3"])], vec![op], &["y"]);
    let mut model = in_opset(model_of(GraphProto { initializer: tensors, ..graph }), 21);
    model.opset_import.push(opset("com.microsoft", 1));
    model
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    let scale = |shape: &[i64]| f32s("s", shape, &vec![0.5; shape.iter().product::<i64>() as usize]);
    let zero = |dtype| integers("z", dtype, &[], &[1]);
    let (u8, i8) = (DataType::Uint8, DataType::Int8);
    let weights = || ramp("w", i8, &[5, 3, 1, 1]);
    let qlinear = |ws: &'static str, wz: &'static str| {
        let inputs = ["x", "s", "z", "w", ws, wz, "s", "z"];
        node("QLinearConv", &inputs, &["y"])
    };
    let contrib = |op: &str, inputs: &[&str]| NodeProto {
        domain: Some("com.microsoft".into()),
        ..node(op, inputs, &["y"])
    };
    let wz = || integers("wz", i8, &[], &[0]);
    let cases: Vec<(NodeProto, Vec<TensorProto>, &str)> = vec![
        (
            node("DequantizeLinear", &["m", "s", "z"], &["y"]),
            vec![scale(&[]), zero(i8)],
            "'z' is i8, but u8 is needed",
        ),
        (
            with(node("DequantizeLinear", &["m", "s"], &["y"]), int("axis", 2)),
            vec![scale(&[3])],
            "axis 2 does not exist in a tensor of rank 2",
        ),
        (
            node("DequantizeLinear", &["m", "s"], &["y"]),
            vec![scale(&[4])],
            "scales or zero points of shape [4] do not fit a tensor of shape [2, 3] along axis 1",
        ),
        (
            with(node("DequantizeLinear", &["m", "s"], &["y"]), int("block_size", 2)),
            vec![scale(&[2, 3])],
            "scales or zero points of shape [2, 3] do not fit a tensor of shape [2, 3] along axis 1",
        ),
        (
            node("DequantizeLinear", &["m", "s", "z"], &["y"]),
            vec![scale(&[3]), zero(u8)],
            "zero points of shape [] do not fit scales of shape [3]",
        ),
        (
            with(node("QuantizeLinear", &["f", "s", "z"], &["y"]), int("output_dtype", 3)),
            vec![f32s("f", &[2], &[1.0, 2.0]), scale(&[]), zero(u8)],
            "output_dtype is another element type than that of the zero point",
        ),
        (
            node("MatMulInteger", &["m", "v", "z"], &["y"]),
            vec![ramp("v", i8, &[3, 2]), zero(i8)],
            "'z' is i8, but u8 is needed",
        ),
        (
            qlinear("t", "wz"),
            vec![scale(&[]), zero(u8), weights(), wz(), f32s("t", &[4], &[0.5; 4])],
            "'t' has 4 elements, but there are 5 filters",
        ),
        (qlinear("s", "z"), vec![scale(&[]), zero(u8), weights()], "'z' is u8, but i8 is needed"),
        (
            qlinear("wz", "wz"),
            vec![scale(&[]), zero(u8), weights(), wz()],
            "'wz' is i8, but a floating-point type is needed",
        ),
        (
            contrib("QLinearSigmoid", &["m", "s", "z", "s", "z"]),
            vec![scale(&[3]), zero(u8)],
            "'s' must be one number, but has the shape [3]",
        ),
        (
            contrib("QLinearConcat", &["s", "z", "m", "s"]),
            vec![scale(&[]), zero(u8)],
            "each tensor must come with a scale and a zero point",
        ),
    ];
    for (op, tensors, message) in cases {
        let name = op.op_type.clone().unwrap();
        let error = import(bytes(op, tensors)).expect_err(message).to_string();
        assert!(error.contains(message) && error.contains(&name), "{name}: {error}");
    }
}
