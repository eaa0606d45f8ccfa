//! `nestjit check` where rounding decides: right results pass, and results that are off by a step, or are not what
//! leaves the range of a type, do not.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::onnx::*;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use prost::Message;

fn command(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    command.args(args);
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    command.output().unwrap()
}

/// A model of one input, and values for it.
struct Case {
    what: &'static str,
    model: ModelProto,
    x: Vec<f32>,
}

fn bytes(name: &str, dtype: DataType, value: i32) -> TensorProto {
    TensorProto { int32_data: vec![value], ..empty(name, dtype, &[]) }
}

/// Values of no pattern between -1 and 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn cases() -> Vec<Case> {
    let case = |what, nodes: Vec<NodeProto>, mut tensors: Vec<TensorProto>, x: Vec<f32>, rows: usize| {
        let columns = x.len() / rows;
        tensors.push(f32s("w", &[columns as i64, columns as i64], &noise(columns * columns, 9)));
        let dims = [rows.to_string(), columns.to_string()];
        let model = in_opset(model(&[&dims[0], &dims[1]], nodes, tensors), 21);
        Case { what, model, x }
    };
    let scalar = |name, value| f32s(name, &[], &[value]);
    let product = || node("MatMul", &["x", "w"], &["t"]);
    // Multiples of 0.1: many are at, or a rounding beside, the middle of a step.
    let grid: Vec<f32> = (-400..400).map(|i| i as f32 / 10.0).collect();
    let random = || noise(64 * 32, 1);
    let cast = |to: DataType| with(node("Cast", &["u"], &["y"]), int("to", i64::from(to as i32)));
    let quantised = |name, scale, at: &str, out: &str| {
        (node("QuantizeLinear", &[at, name, "zero"], &[out]), scalar(name, scale))
    };
    let (first, s) = quantised("s", 0.2, "x", "y");
    let mut list = vec![
        case("a grid, quantised", vec![first], vec![s, bytes("zero", DataType::Uint8, 100)], grid.clone(), 8),
        case(
            "exp out of range",
            vec![node("Exp", &["x"], &["y"])],
            vec![],
            vec![100.0, 88.7, -120.0, 1.0],
            1,
        ),
        case(
            "squares out of range",
            vec![
                node("Mul", &["x", "x"], &["s"]),
                with(node("ReduceSum", &["s"], &["y"]), int("keepdims", 0)),
            ],
            vec![],
            vec![3e19, 1e19, 2.0, 1.0],
            1,
        ),
        case(
            "a comparison",
            vec![product(), node("Mul", &["t", "s"], &["u"]), node("Greater", &["u", "c"], &["y"])],
            vec![scalar("s", 0.3), scalar("c", 0.1)],
            random(),
            64,
        ),
        case(
            "a conversion",
            vec![product(), node("Mul", &["t", "s"], &["u"]), cast(DataType::Int32)],
            vec![scalar("s", 100.0)],
            random(),
            64,
        ),
        case(
            "the largest",
            vec![product(), with(node("ArgMax", &["t"], &["y"]), int("axis", 1))],
            vec![],
            random(),
            64,
        ),
        case(
            "cancellation",
            vec![
                node("Mul", &["x", "a"], &["p"]),
                node("Add", &["p", "b"], &["q"]),
                node("Sub", &["q", "b"], &["y"]),
            ],
            vec![scalar("a", 1.1), scalar("b", 1e4)],
            random(),
            64,
        ),
        case(
            "as many as there are",
            vec![product(), node("Greater", &["t", "c"], &["m"]), node("NonZero", &["m"], &["y"])],
            vec![scalar("c", 0.5)],
            random(),
            64,
        ),
    ];
    // Passes may keep `f32` between operations on halves: in an activation that is spelled out, before a BatchNorm.
    for half in [DataType::Float16, DataType::Bfloat16] {
        let to = |from: &str, name: &str, to: DataType| {
            with(node("Cast", &[from], &[name]), int("to", i64::from(to as i32)))
        };
        let nodes = vec![
            to("x", "h", half),
            node("Sigmoid", &["h"], &["s"]),
            node("Mul", &["h", "s"], &["m"]),
            to("m", "y", DataType::Float),
        ];
        list.push(case("an activation of halves", nodes, vec![], random(), 64));
        let nodes = vec![
            to("x", "h", half),
            to("w", "wh", half),
            node("MatMul", &["h", "wh"], &["t"]),
            node("Softplus", &["t"], &["p"]),
            node("Tanh", &["p"], &["q"]),
            node("Mul", &["t", "q"], &["m"]),
            to("m", "y", DataType::Float),
        ];
        list.push(case("a product and mish of halves", nodes, vec![], random(), 64));
    }
    // Three layers, each quantised: one step that goes the other way moves many behind it.
    let (mut nodes, mut tensors) = (Vec::new(), vec![bytes("zero", DataType::Int8, 0), scalar("step", 0.05)]);
    let mut at = "x".to_owned();
    for layer in 0..3 {
        let name = |what: &str| format!("{what}{layer}");
        nodes.extend([
            node("QuantizeLinear", &[&at, "step", "zero"], &[&name("q")]),
            node("DequantizeLinear", &[&name("q"), "step", "zero"], &[&name("d")]),
            node("MatMul", &[&name("d"), "w"], &[&name("m")]),
            node("Mul", &[&name("m"), "scale"], &[&name("r")]),
        ]);
        at = name("r");
    }
    tensors.push(scalar("scale", 0.31));
    nodes.push(node("QuantizeLinear", &[&at, "step", "zero"], &["y"]));
    list.push(case("quantised layers", nodes, tensors, random(), 64));
    for op in ["Round", "Floor", "Ceil", "Sign"] {
        let nodes = vec![node("Div", &["x", "s"], &["u"]), node(op, &["u"], &["y"])];
        list.push(case(op, nodes, vec![scalar("s", 0.1)], grid.clone(), 8));
    }
    list
}

/// Sums, means and products of `f64`, whose roundings are as many as those of `f32`.
#[test]
fn right_results_of_doubles_pass() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.onnx");
    let x = declared("x", DataType::Double, &["1", "6", "12", "12"]);
    let w: Vec<f64> = noise(4 * 6 * 9, 5).into_iter().map(f64::from).collect();
    let w = TensorProto { double_data: w, ..empty("w", DataType::Double, &[4, 6, 3, 3]) };
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"]),
        node("Tanh", &["c"], &["t"]),
        node("GlobalAveragePool", &["t"], &["m"]),
        node("MatMul", &["t", "t"], &["p"]),
        node("Softmax", &["p"], &["y"]),
    ];
    let graph = GraphProto { initializer: vec![w], ..graph_of(vec![x], nodes, &["y", "m", "p"]) };
    fs::write(&file, in_opset(model_of(graph), 18).encode_to_vec()).unwrap();
    let output = command(&["check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Changes every element by a step, or a little where there are no steps.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[..data]).into_owned();
    if header.contains("<f4") {
        for element in bytes[data..].chunks_exact_mut(4) {
            let value = f32::from_le_bytes(element.try_into().unwrap());
            let wrong = if value.is_finite() { value * 1.02 + 0.5 } else { 1.0 };
            element.copy_from_slice(&wrong.to_le_bytes());
        }
    } else {
        let size = ["|", "<i4", "<i8"].iter().position(|kind| header.contains(kind)).unwrap();
        for element in bytes[data..].chunks_exact_mut([1, 4, 8][size]) {
            element[0] ^= 1;
        }
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn right_results_pass_and_wrong_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, x, y) = (path("m.onnx"), path("x.npy"), path("y.npy"));
    for case in cases() {
        let Case { what, model, x: values } = case;
        let rows = match &model.graph.as_ref().unwrap().initializer.last().unwrap().dims[..] {
            [columns, _] => values.len() / *columns as usize,
            dims => panic!("{dims:?}"),
        };
        fs::write(&file, model.encode_to_vec()).unwrap();
        let shape = (rows, values.len() / rows);
        ndarray_npy::write_npy(&x, &ndarray::Array2::from_shape_vec(shape, values).unwrap()).unwrap();
        let input = format!("x={x}");
        let check = |more: &[&str]| command(&[&["check", &file, "--input", &input], more].concat());

        let output = check(&[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{what}: {text}{}", String::from_utf8_lossy(&output.stderr));

        let run = command(&["run", &file, "--input", &input, "--output-dir", dir.path().to_str().unwrap()]);
        assert!(run.status.success(), "{what}: {}", String::from_utf8_lossy(&run.stderr));
        let expect = format!("y={y}");
        assert!(check(&["--expect", &expect]).status.success(), "{what}: as it was");
        damage(Path::new(&y));
        let output = check(&["--expect", &expect]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}: wrong results pass\n{text}");
        assert!(text.contains(" FAILED"), "{what}: {text}");
    }
}
