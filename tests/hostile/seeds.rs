//! Small models that are right, to be damaged: of each kind of layer and of each construct of the format.

use nestjit::onnx::proto::tensor_proto::DataType::{Bool, Float, Int32, Int64, Uint8};
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::common::onnx::*;

/// All of them, with names.
pub fn all() -> Vec<(&'static str, ModelProto)> {
    vec![
        ("convolution", convolution()),
        ("attention", attention()),
        ("recurrent", recurrent()),
        ("branches and loops", control()),
        ("functions", functions()),
        ("shapes", shapes()),
        ("indices", indices()),
        ("integers", integers()),
    ]
}

fn series(name: &str, dims: &[i64]) -> TensorProto {
    let n: i64 = dims.iter().product();
    f32s(name, dims, &(0..n).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect::<Vec<_>>())
}

fn chain(nodes: Vec<NodeProto>, x: &[&str], initializer: Vec<TensorProto>) -> ModelProto {
    model(x, nodes, initializer)
}

fn convolution() -> ModelProto {
    let conv = with(node("Conv", &["x", "w", "b"], &["c"]), ints("pads", &[1, 1, 1, 1]));
    let conv = with(with(with(conv, ints("strides", &[1, 1])), int("group", 1)), ints("dilations", &[1, 1]));
    let pool = with(node("MaxPool", &["r"], &["p"]), ints("kernel_shape", &[2, 2]));
    let pool = with(with(pool, ints("strides", &[2, 2])), int("ceil_mode", 1));
    let average = with(node("AveragePool", &["p"], &["a"]), ints("kernel_shape", &[2, 2]));
    let nodes = vec![
        conv,
        with(node("BatchNormalization", &["c", "s", "s", "s", "v"], &["n"]), float("epsilon", 1e-3)),
        node("Relu", &["n"], &["r"]),
        pool,
        with(average, string("auto_pad", "SAME_UPPER")),
        with(node("ConvTranspose", &["a", "t"], &["u"]), ints("strides", &[2, 2])),
        node("GlobalAveragePool", &["u"], &["g"]),
        with(node("Flatten", &["g"], &["f"]), int("axis", 1)),
        with(with(node("Gemm", &["f", "m", "k"], &["d"]), int("transB", 1)), float("alpha", 0.5)),
        with(node("Softmax", &["d"], &["y"]), int("axis", -1)),
    ];
    let weights = vec![
        series("w", &[4, 2, 3, 3]),
        series("b", &[4]),
        series("s", &[4]),
        f32s("v", &[4], &[1.0, 2.0, 0.5, 1.5]),
        series("t", &[4, 3, 2, 2]),
        series("m", &[5, 3]),
        series("k", &[5]),
    ];
    chain(nodes, &["1", "2", "6", "6"], weights)
}

fn attention() -> ModelProto {
    let norm = with(node("LayerNormalization", &["x", "g", "b"], &["n"]), float("epsilon", 1e-5));
    let nodes = vec![
        with(norm, int("axis", -1)),
        node("MatMul", &["n", "wq"], &["q"]),
        node("MatMul", &["n", "wk"], &["k"]),
        node("Reshape", &["q", "heads"], &["q4"]),
        node("Reshape", &["k", "heads"], &["k4"]),
        with(node("Transpose", &["q4"], &["qt"]), ints("perm", &[0, 2, 1, 3])),
        with(node("Transpose", &["k4"], &["kt"]), ints("perm", &[0, 2, 3, 1])),
        node("MatMul", &["qt", "kt"], &["s"]),
        node("Div", &["s", "scale"], &["d"]),
        with(node("Softmax", &["d"], &["p"]), int("axis", -1)),
        with(node("Split", &["n"], &["l", "r"]), int("axis", 2)),
        with(node("Concat", &["r", "l"], &["v"]), int("axis", 2)),
        node("Reshape", &["v", "heads"], &["v4"]),
        with(node("Transpose", &["v4"], &["vt"]), ints("perm", &[0, 2, 1, 3])),
        node("MatMul", &["p", "vt"], &["o"]),
        with(node("Einsum", &["o", "vt"], &["e"]), string("equation", "bhqd,bhkd->bhqk")),
        with(with(node("ReduceMean", &["e"], &["y"]), ints("axes", &[1, -1])), int("keepdims", 0)),
    ];
    let weights = vec![
        series("g", &[8]),
        series("b", &[8]),
        series("wq", &[8, 8]),
        series("wk", &[8, 8]),
        i64s("heads", &[4], &[1, 0, 2, -1]),
        f32s("scale", &[], &[2.0]),
    ];
    chain(nodes, &["1", "3", "8"], weights)
}

fn recurrent() -> ModelProto {
    let cell = |op: &str, inputs: &[&str], outputs: &[&str]| {
        let cell = with(node(op, inputs, outputs), int("hidden_size", 3));
        with(cell, string("direction", "bidirectional"))
    };
    let nodes = vec![
        cell("LSTM", &["x", "w4", "r4", "b4", "n"], &["h", "", "c"]),
        with(node("Transpose", &["h"], &["t"]), ints("perm", &[0, 2, 1, 3])),
        node("Reshape", &["t", "flat"], &["z"]),
        with(cell("GRU", &["z", "w3", "r3"], &["g", "last"]), int("linear_before_reset", 1)),
        cell("RNN", &["z", "w1", "r1"], &["", "y"]),
    ];
    let weights = vec![
        series("w4", &[2, 12, 4]),
        series("r4", &[2, 12, 3]),
        series("b4", &[2, 24]),
        TensorProto { int32_data: vec![3, 2], ..empty("n", Int32, &[2]) },
        i64s("flat", &[3], &[3, 2, 6]),
        series("w3", &[2, 9, 6]),
        series("r3", &[2, 9, 3]),
        series("w1", &[2, 3, 6]),
        series("r1", &[2, 3, 3]),
    ];
    chain(nodes, &["3", "2", "4"], weights)
}

fn control() -> ModelProto {
    let branch = |op: &str| graph_of(vec![], vec![node(op, &["x"], &["r"])], &["r"]);
    let choice = with(node("If", &["c"], &["i"]), subgraph("then_branch", branch("Neg")));
    let choice = with(choice, subgraph("else_branch", branch("Abs")));
    let body = graph_of(
        vec![declared("k", Int64, &[]), declared("go", Bool, &[]), declared("s", Float, &["2", "3"])],
        vec![node("Add", &["s", "x"], &["next"]), node("Identity", &["go"], &["on"])],
        &["on", "next", "next"],
    );
    let body = GraphProto { initializer: vec![f32s("unused", &[1], &[0.0])], ..body };
    let repeat = with(node("Loop", &["times", "", "i"], &["l", "all"]), subgraph("body", body));
    let step = graph_of(
        vec![declared("a", Float, &["2", "3"]), declared("e", Float, &["2", "3"])],
        vec![node("Max", &["a", "e"], &["m"]), node("Mul", &["e", "e"], &["q"])],
        &["m", "q"],
    );
    let scan = with(node("Scan", &["l", "all"], &["f", "y"]), subgraph("body", step));
    let nodes =
        vec![choice, repeat, with(with(scan, int("num_scan_inputs", 1)), ints("scan_input_axes", &[0]))];
    let mut m = chain(nodes, &["2", "3"], vec![i64s("times", &[], &[3])]);
    if let Some(graph) = &mut m.graph {
        graph.input.push(declared("c", Bool, &[]));
    }
    m
}

fn functions() -> ModelProto {
    use nestjit::onnx::proto::attribute_proto::AttributeType::Float as OfFloat;
    let leaky = with(node("LeakyRelu", &["a"], &["t"]), reference("alpha", "alpha", OfFloat));
    let inner = function("Inner", &["a"], &["r"], &["alpha"], vec![leaky, node("Neg", &["t"], &["r"])]);
    let forward = with(call("Inner", &["a"], &["t"]), reference("alpha", "slope", OfFloat));
    let outer =
        function("Outer", &["a", "b"], &["r"], &["slope"], vec![forward, node("Add", &["t", "b"], &["r"])]);
    let nodes = vec![
        with(call("Outer", &["x", "x"], &["h"]), float("slope", 0.25)),
        with(node("Constant", &[], &["k"]), tensor("value", f32s("", &[2], &[1.0, -1.0]))),
        node("Where", &["d", "h", "k"], &["y"]),
    ];
    let m = chain(nodes, &["2"], vec![bools("d", &[2], &[true, false])]);
    with_functions(m, vec![inner, outer])
}

fn shapes() -> ModelProto {
    let nodes = vec![
        node("Shape", &["x"], &["s"]),
        with(node("Gather", &["s", "last"], &["n"]), int("axis", 0)),
        node("Range", &["zero", "n", "one"], &["r"]),
        node("Unsqueeze", &["n", "first"], &["n1"]),
        with(node("Concat", &["n1", "minus"], &["to"]), int("axis", 0)),
        node("Reshape", &["x", "to"], &["t"]),
        with(node("Pad", &["t", "pads", "fill"], &["p"]), string("mode", "constant")),
        node("Slice", &["p", "starts", "ends", "first", "steps"], &["c"]),
        node("Tile", &["c", "twice"], &["w"]),
        node("Expand", &["w", "wide"], &["e"]),
        with(
            with(node("Resize", &["e", "", "", "sizes"], &["z"]), string("mode", "linear")),
            int("antialias", 1),
        ),
        with(node("ConstantOfShape", &["to2"], &["f"]), tensor("value", f32s("", &[1], &[2.0]))),
        node("Add", &["z", "f"], &["y"]),
    ];
    let weights = vec![
        i64s("last", &[], &[1]),
        i64s("zero", &[], &[0]),
        i64s("one", &[], &[1]),
        i64s("first", &[1], &[0]),
        i64s("minus", &[1], &[-1]),
        i64s("pads", &[4], &[1, 0, 0, 2]),
        f32s("fill", &[], &[0.5]),
        i64s("starts", &[1], &[1]),
        i64s("ends", &[1], &[100]),
        i64s("steps", &[1], &[2]),
        i64s("twice", &[2], &[1, 2]),
        i64s("wide", &[3], &[2, 1, 1]),
        i64s("sizes", &[3], &[2, 3, 5]),
        i64s("to2", &[3], &[1, 3, 1]),
    ];
    chain(nodes, &["2", "3"], weights)
}

fn indices() -> ModelProto {
    let nodes = vec![
        with(node("Gather", &["x", "i"], &["g"]), int("axis", 1)),
        with(node("GatherElements", &["x", "e"], &["ge"]), int("axis", 0)),
        node("GatherND", &["x", "nd"], &["gn"]),
        with(node("ScatterElements", &["x", "e", "ge"], &["se"]), string("reduction", "add")),
        node("ScatterND", &["se", "nd", "gn"], &["sn"]),
        with(with(node("TopK", &["sn", "k"], &["v", "at"]), int("axis", -1)), int("largest", 0)),
        with(node("ArgMax", &["v"], &["am"]), int("keepdims", 0)),
        with(node("OneHot", &["am", "depth", "values"], &["oh"]), int("axis", -1)),
        with(node("CumSum", &["oh", "axis"], &["cs"]), int("reverse", 1)),
        node("Trilu", &["cs"], &["y"]),
    ];
    let weights = vec![
        i64s("i", &[2], &[0, -1]),
        i64s("e", &[2, 2], &[0, 1, -1, 0]),
        i64s("nd", &[1, 2], &[0, 1]),
        i64s("k", &[1], &[2]),
        i64s("depth", &[], &[4]),
        f32s("values", &[2], &[0.0, 1.0]),
        i64s("axis", &[], &[0]),
    ];
    chain(nodes, &["3", "4"], weights)
}

fn integers() -> ModelProto {
    let nodes = vec![
        with(node("Cast", &["x"], &["i"]), int("to", 7)),
        node("Div", &["i", "a"], &["d"]),
        with(node("Mod", &["d", "b"], &["m"]), int("fmod", 0)),
        node("Mul", &["m", "b"], &["p"]),
        node("Pow", &["p", "two"], &["w"]),
        node("Clip", &["w", "low", "high"], &["c"]),
        with(node("Cast", &["c"], &["f"]), int("to", 1)),
        node("QuantizeLinear", &["f", "scale", "zero"], &["q"]),
        node("DequantizeLinear", &["q", "scale", "zero"], &["y"]),
    ];
    let zero = TensorProto { int32_data: vec![3], ..empty("zero", Uint8, &[]) };
    let weights = vec![
        i64s("a", &[4], &[1, -1, 2, 3]),
        i64s("b", &[4], &[2, 5, -3, 7]),
        i64s("two", &[], &[2]),
        i64s("low", &[], &[-100]),
        i64s("high", &[], &[100]),
        f32s("scale", &[], &[0.5]),
        zero,
    ];
    chain(nodes, &["4"], weights)
}
