//! Graph passes: what they leave, and that it computes the same.

use nestjit::graph::builder::{Conv2d, Gemm, Padding};
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Format, Graph, Op, PadMode, ValueId};
use nestjit::machine::MachineModel;
use nestjit::options::Options;
use nestjit::passes::{PIPELINE, PassManager};
use nestjit::remark::Remark;
use nestjit::{DType, GraphBuilder, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(rng: &mut ChaCha8Rng, shape: &[usize], low: f32, high: f32) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f32> =
        (0..n).map(|_| low + (high - low) * (rng.next_u32() as f32 / u32::MAX as f32)).collect();
    Tensor::new(shape, &values).unwrap()
}

/// The graph after these passes, verified and computing what it computed; and what the passes said.
fn after(passes: &[&str], graph: &Graph) -> (Graph, Vec<Remark>) {
    let disabled_passes =
        PIPELINE.iter().map(|p| p.name.to_owned()).filter(|n| !passes.contains(&n.as_str())).collect();
    let options = Options { disabled_passes, verify_passes: true, ..Options::default() };
    let target = MachineModel::host(None).unwrap();
    let mut manager = PassManager::new(&options, &target, 1).unwrap();
    let mut rewritten = graph.clone();
    manager.run_graph_passes(&mut rewritten, &mut nestjit::laps::Laps::start()).unwrap();
    rewritten.validate().unwrap();

    let names = |graph: &Graph, ids: &[ValueId]| -> Vec<String> {
        ids.iter().map(|id| graph.value(*id).name.clone()).collect()
    };
    assert_eq!(names(graph, &graph.inputs), names(&rewritten, &rewritten.inputs));
    assert_eq!(names(graph, &graph.outputs), names(&rewritten, &rewritten.outputs));

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let inputs: Vec<Tensor> =
        graph.inputs.iter().map(|id| random(&mut rng, &graph.value(*id).shape, -1.0, 1.0)).collect();
    let expected = evaluate(graph, &inputs, Precision::F64).unwrap();
    let found = evaluate(&rewritten, &inputs, Precision::F64).unwrap();
    for (e, f) in expected.iter().zip(&found) {
        assert_eq!((e.dtype(), e.shape()), (f.dtype(), f.shape()));
        if e.dtype() != DType::F64 {
            assert_eq!(e, f);
            continue;
        }
        for (e, f) in e.values::<f64>().unwrap().iter().zip(f.values::<f64>().unwrap()) {
            // Folded weights are rounded to f32.
            assert!((e - f).abs() <= 1e-5 * (1.0 + e.abs()), "{f} instead of {e}");
        }
    }
    (rewritten, manager.finish().remarks)
}

fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

/// Parameters of a BatchNorm over `channels`.
fn parameters(b: &mut GraphBuilder, rng: &mut ChaCha8Rng, channels: usize) -> [ValueId; 4] {
    ["scale", "bias", "mean"]
        .map(|name| b.constant(name, random(rng, &[channels], -1.0, 1.0)))
        .into_iter()
        .chain([b.constant("variance", random(rng, &[channels], 0.1, 2.0))])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Between {
    Nothing,
    OwnBias,
    BiasAdd,
    Both,
}

fn conv_bn(format: Format, groups: usize, between: Between, extra_output: bool) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut b = GraphBuilder::new("g");
    let shape = if format == Format::ChannelsFirst { [2, 4, 5, 6] } else { [2, 5, 6, 4] };
    let x = b.input("x", DType::F32, &shape);
    let w = b.constant("w", random(&mut rng, &[8, 4 / groups, 3, 3], -1.0, 1.0));
    let own = matches!(between, Between::OwnBias | Between::Both)
        .then(|| b.constant("b", random(&mut rng, &[8], -1.0, 1.0)));
    let options = Conv2d { padding: Padding::Same, groups, format, ..Conv2d::default() };
    let mut y = b.conv2d(x, w, own, options);
    if matches!(between, Between::BiasAdd | Between::Both) {
        let bias = b.constant("b2", random(&mut rng, &[8], -1.0, 1.0));
        y = b.bias_add(y, bias, format.channel_axis(4));
    }
    if extra_output {
        b.output("before", y);
    }
    let p = parameters(&mut b, &mut rng, 8);
    let y = b.batch_norm(y, p, 1e-3, format);
    let y = b.relu(y);
    b.output("y", y);
    b.build().unwrap()
}

#[test]
fn batch_norm_goes_into_convolutions() {
    for format in [Format::ChannelsFirst, Format::ChannelsLast] {
        for groups in [1, 2, 4] {
            for between in [Between::Nothing, Between::OwnBias, Between::BiasAdd, Between::Both] {
                let (graph, remarks) = after(&["FoldBatchNorm"], &conv_bn(format, groups, between, false));
                let separate = matches!(between, Between::BiasAdd | Between::Both);
                let expected: &[&str] =
                    if separate { &["Conv", "BiasAdd", "Relu"] } else { &["Conv", "Relu"] };
                assert_eq!(ops(&graph), expected, "{between:?}");
                assert!(remarks[0].applied() && remarks[0].code() == "fold-batch-norm");
            }
        }
    }
}

#[test]
fn batch_norm_of_a_requested_output_becomes_scale_and_shift() {
    let (graph, remarks) =
        after(&["FoldBatchNorm"], &conv_bn(Format::ChannelsFirst, 1, Between::Nothing, true));
    assert_eq!(ops(&graph), ["Conv", "Mul", "BiasAdd", "Relu"]);
    assert_eq!((remarks[0].applied(), remarks[0].code()), (false, "shared-producer"));
}

#[test]
fn batch_norm_goes_into_matrix_products() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for trans_b in [false, true] {
        for c in [None, Some(vec![6]), Some(vec![1, 6]), Some(vec![]), Some(vec![3, 6])] {
            let mut b = GraphBuilder::new("g");
            let x = b.input("x", DType::F32, &[3, 5]);
            let w = b.constant("w", random(&mut rng, if trans_b { &[6, 5] } else { &[5, 6] }, -1.0, 1.0));
            let addend = c.as_ref().map(|shape| b.constant("c", random(&mut rng, shape, -1.0, 1.0)));
            let y = b.gemm(x, w, addend, Gemm { alpha: 0.5, beta: 2.0, trans_b, ..Gemm::default() });
            let p = parameters(&mut b, &mut rng, 6);
            let y = b.batch_norm(y, p, 1e-5, Format::ChannelsFirst);
            b.output("y", y);
            let (graph, remarks) = after(&["FoldBatchNorm"], &b.build().unwrap());
            if c == Some(vec![3, 6]) {
                assert_eq!(
                    (ops(&graph), remarks[0].code()),
                    (vec!["Gemm", "Mul", "BiasAdd"], "dynamic-weights")
                );
            } else {
                assert_eq!(ops(&graph), ["Gemm"], "{c:?}");
            }
        }
    }
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3, 5]);
    let w = b.constant("w", random(&mut rng, &[5, 6], -1.0, 1.0));
    let y = b.matmul(x, w);
    let p = parameters(&mut b, &mut rng, 6);
    let y = b.batch_norm(y, p, 1e-5, Format::ChannelsLast);
    b.output("y", y);
    assert_eq!(ops(&after(&["FoldBatchNorm"], &b.build().unwrap()).0), ["MatMul", "BiasAdd"]);
}

#[test]
fn batch_norm_alone_has_no_root_left_and_several_fold_in_a_row() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3, 4]);
    let p = parameters(&mut b, &mut rng, 3);
    let y = b.batch_norm(x, p, 1e-5, Format::ChannelsFirst);
    b.output("y", y);
    assert_eq!(ops(&after(&["FoldBatchNorm"], &b.build().unwrap()).0), ["Mul", "BiasAdd"]);

    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[1, 2, 4, 4]);
    let w = b.constant("w", random(&mut rng, &[2, 2, 1, 1], -1.0, 1.0));
    let mut y = b.conv2d(x, w, None, Conv2d::default());
    for _ in 0..2 {
        let p = parameters(&mut b, &mut rng, 2);
        y = b.batch_norm(y, p, 1e-5, Format::ChannelsFirst);
    }
    let other = b.conv2d(y, w, None, Conv2d::default());
    b.output("y", other);
    let (graph, _) = after(&["FoldBatchNorm"], &b.build().unwrap());
    assert_eq!(ops(&graph), ["Conv", "Conv"]);
    // The weights that both convolutions read are scaled for the first one only.
    assert_ne!(graph.nodes[0].inputs[1], graph.nodes[1].inputs[1]);
}

#[test]
fn constants_are_computed_unless_they_grow() {
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3]);
    let w = b.constant("w", Tensor::new(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap());
    let transposed = b.transpose(w, &[1, 0]);
    let root = b.sqrt(transposed);
    let y = b.add(x, root);
    b.output("y", y);
    b.output("root", root);
    let (graph, _) = after(&["FoldConstant"], &b.build().unwrap());
    assert_eq!(ops(&graph), ["Add"]);
    assert!(graph.constant(graph.outputs[1]).is_some());

    let mut b = GraphBuilder::new("g");
    let one = b.scalar(DType::F32, 1.0);
    let large = b.expand(one, &[1 << 20]);
    b.output("y", large);
    let (graph, remarks) = after(&["FoldConstant"], &b.build().unwrap());
    assert_eq!((ops(&graph), remarks[0].code()), (vec!["Expand"], "larger"));
}

#[test]
fn a_constant_that_cannot_be_computed_stays_for_the_run() {
    let mut b = GraphBuilder::new("g");
    let data = b.constant("data", Tensor::new(&[2], &[1.0f32, 2.0]).unwrap());
    let index = b.constant("index", Tensor::new(&[1], &[7i64]).unwrap());
    let y = b.gather(data, index, 0);
    b.output("y", y);
    let graph = b.build().unwrap();
    let executable = nestjit::Compiler::with_options(Options::default()).compile(&graph.into()).unwrap();
    assert!(executable.remarks().iter().any(|r| r.code() == "fails"));
    assert_eq!(executable.run::<Tensor>(&[]).unwrap_err().kind(), nestjit::ErrorKind::Index);
}

#[test]
fn what_does_nothing_goes() {
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3, 4]);
    let mut y = b.dropout(x);
    y = b.cast(y, DType::F32);
    y = b.pad(y, &[0; 3], &[0; 3], PadMode::Constant(0.0));
    y = b.slice(y, &[0; 3], &[2, 3, 4], &[1; 3]);
    y = b.transpose(y, &[0, 1, 2]);
    y = b.reshape(y, &[2, 3, 4]);
    y = b.expand(y, &[2, 3, 4]);
    y = b.concat(&[y], 1);
    y = b.clip(y, None, None);
    y = b.reduce_sum(y, &[], true);
    let parts = b.split(y, 0, &[2]);
    let y = b.relu(parts[0]);
    b.output("y", y);
    let (graph, _) = after(&["Simplify"], &b.build().unwrap());
    assert_eq!(ops(&graph), ["Relu"]);
}

#[test]
fn what_does_something_stays() {
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3]);
    let mut y = b.slice(x, &[1, 2], &[2, 3], &[-1, -1]);
    y = b.pad(y, &[1, 0], &[-1, 0], PadMode::Constant(0.0));
    y = b.transpose(y, &[1, 0]);
    y = b.reshape(y, &[2, 3]);
    y = b.reduce_max(y, &[], true);
    y = b.clip(y, None, Some(0.25));
    b.output("y", y);
    let (graph, _) = after(&["Simplify"], &b.build().unwrap());
    assert_eq!(ops(&graph), ["Slice", "Pad", "Transpose", "Reshape", "Clip"]);
}

#[test]
fn chains_of_movements_become_one() {
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3, 4]);
    let mut y = b.transpose(x, &[1, 2, 0]);
    y = b.transpose(y, &[1, 2, 0]);
    let mut z = b.transpose(y, &[1, 2, 0]);
    y = b.reshape(y, &[24]);
    y = b.reshape(y, &[6, 4]);
    z = b.relu(z);
    b.output("y", y);
    b.output("z", z);
    let (graph, _) = after(&["Simplify"], &b.build().unwrap());
    assert_eq!(ops(&graph), ["Transpose", "Reshape", "Relu"]);
}

#[test]
fn transposes_become_one_in_their_order() {
    // Neither is the other's inverse, and they do not commute.
    let mut b = GraphBuilder::new("transposes");
    let x = b.input("x", DType::F32, &[2, 3, 4]);
    let first = b.transpose(x, &[1, 2, 0]);
    let y = b.transpose(first, &[1, 0, 2]);
    b.output("y", y);
    let (graph, _) = after(&["Simplify"], &b.build().unwrap());
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(graph.nodes[0].op, Op::Transpose { perm: vec![2, 1, 0] });
}

#[test]
fn outputs_keep_their_names_and_values() {
    let mut b = GraphBuilder::new("g");
    let x = b.input("x", DType::F32, &[2, 3]);
    let y = b.relu(x);
    let same = b.dropout(y);
    let again = b.relu(x);
    let twin = b.relu(x);
    let sum = b.add(twin, same);
    let copy = b.dropout(x);
    b.output("y", same);
    b.output("again", again);
    b.output("sum", sum);
    b.output("copy", copy);
    let (graph, _) = after(&["Simplify"], &b.build().unwrap());
    // One Relu computes `y`, one `again`; a copy of an input must be made by somebody.
    assert_eq!(ops(&graph), ["Relu", "Relu", "Add", "Dropout"]);
}

#[test]
fn the_graph_displays_as_text() {
    let text = conv_bn(Format::ChannelsFirst, 1, Between::Nothing, false).to_string();
    assert!(text.starts_with("graph @g(%x: f32[2, 4, 5, 6]) {\n"), "{text}");
    assert!(text.contains("const %w: f32[8, 4, 3, 3]") && text.ends_with("  return %y\n}\n"), "{text}");
    assert!(matches!(
        conv_bn(Format::ChannelsFirst, 1, Between::Nothing, false).nodes[0].op,
        Op::Conv { .. }
    ));
}

/// Three products of one operand, with biases, cut into heads; `own` is what follows the last one.
fn siblings(own: fn(&mut GraphBuilder, ValueId) -> ValueId) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut b = GraphBuilder::new("siblings");
    let x = b.input("x", DType::F32, &[2, 5, 6]);
    for (name, columns) in [("q", 8), ("k", 8), ("v", 4)] {
        let w = b.constant(&format!("{name}.w"), random(&mut rng, &[6, columns], -1.0, 1.0));
        let bias = b.constant(&format!("{name}.b"), random(&mut rng, &[columns], -1.0, 1.0));
        let y = b.named(name).dense(x, w, bias);
        let y = if name == "v" { own(&mut b, y) } else { b.reshape(y, &[2, 5, columns / 4, 4]) };
        b.output(name, y);
    }
    b.build().unwrap()
}

#[test]
fn products_of_one_operand_become_one_if_their_results_are_only_rearranged() {
    let graph = siblings(|b, y| b.transpose(y, &[0, 2, 1]));
    let (merged, remarks) = after(&["MergeSiblings"], &graph);
    assert_eq!(ops(&merged), ["MatMul", "BiasAdd", "Split", "Reshape", "Reshape", "Transpose"]);
    assert_eq!(remarks.iter().map(Remark::code).collect::<Vec<_>>(), ["sibling"]);
    assert_eq!(merged.value(merged.nodes[0].outputs[0]).shape, [2, 5, 20]);
    let traced = nestjit::graph::ModelOps::trace(&graph, &merged);
    let product = &merged.nodes[0].name;
    let products: Vec<_> = traced.ops.iter().filter(|op| op.kind == "MatMul").collect();
    assert_eq!(products.len(), 3);
    assert!(products.iter().all(|op| op.nodes.contains(product)), "{products:?}");

    let graph = siblings(|b, y| b.relu(y));
    let (merged, _) = after(&["MergeSiblings"], &graph);
    assert_eq!(ops(&merged).iter().filter(|op| **op == "MatMul").count(), 2);
}

/// The same with weights of four bits, each with its own scales and zero points.
#[test]
fn products_with_packed_weights_become_one() {
    let build = |blocks: [usize; 3], zeros: bool| {
        let mut b = GraphBuilder::new("siblings");
        let x = b.input("x", DType::F32, &[5, 64]);
        for ((name, columns), block) in [("q", 8), ("k", 8), ("v", 20)].into_iter().zip(blocks) {
            let seed = columns as u64 + u64::from(name.as_bytes()[0]);
            let mut constant = |dtype, shape: &[usize], what: &str| {
                b.constant(&format!("{name}.{what}"), Tensor::random(dtype, shape, seed).unwrap())
            };
            let q = constant(DType::U8, &[columns, 64 / block, block / 2], "q");
            let mut inputs = vec![x, q, constant(DType::F32, &[64 / block, columns], "s")];
            inputs.extend(zeros.then(|| constant(DType::U8, &[64 / block, columns], "z")));
            let y = b.node(name, Op::PackedMatMul { bits: 4, block }, &inputs)[0];
            let y = b.reshape(y, &[5, columns / 4, 4]);
            b.output(name, y);
        }
        b.build().unwrap()
    };
    for zeros in [false, true] {
        let graph = build([16; 3], zeros);
        let (merged, remarks) = after(&["MergeSiblings"], &graph);
        assert_eq!(ops(&merged), ["PackedMatMul", "Split", "Reshape", "Reshape", "Reshape"]);
        assert_eq!(remarks.iter().map(Remark::code).collect::<Vec<_>>(), ["sibling"]);
        // Blocks of other sizes are another product.
        let (merged, _) = after(&["MergeSiblings"], &build([16, 32, 16], zeros));
        assert_eq!(ops(&merged).iter().filter(|op| **op == "PackedMatMul").count(), 2);
    }
}

#[test]
fn a_folded_norm_is_named_with_the_convolution() {
    let graph = conv_bn(Format::ChannelsFirst, 1, Between::Nothing, false);
    let (folded, _) = after(&["FoldBatchNorm"], &graph);
    let operations = folded.operations(&folded.nodes[0]);
    let kinds: Vec<&str> = operations.iter().filter_map(|op| op.split(' ').next()).collect();
    assert_eq!(kinds, ["Conv", "BatchNorm"]);
}

/// Tables of halves and of bytes with a scale for all, for each row and for each column, gathered along both axes by indices of
/// every rank.
#[test]
fn tables_are_computed_where_they_are_gathered() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let shape = [40usize, 24];
    for (axis, places) in
        [(0, vec![]), (0, vec![3]), (0, vec![2, 3]), (1, vec![]), (1, vec![2]), (1, vec![2, 2])]
    {
        for scale in [&[][..], &[24], &[1, 24], &[40, 1]] {
            let mut g = GraphBuilder::new("g");
            let codes: Vec<i8> = (0..shape[0] * shape[1]).map(|_| rng.next_u32() as i8).collect();
            let codes = g.constant("codes", Tensor::new(&shape, &codes).unwrap());
            let scale = g.constant("scale", random(&mut rng, scale, 0.1, 1.0));
            let wide = g.cast(codes, DType::F32);
            let table = g.mul(wide, scale);
            let count = places.iter().product::<usize>();
            let x = g.input("x", DType::F32, &[count.max(1), shape[axis]]);
            let largest = g.arg_max(x, 1, false);
            let index = g.reshape(largest, &places);
            let y = g.gather(table, index, axis);
            g.output("y", y);
            let graph = g.build().unwrap();
            let (rewritten, remarks) = after(&["GatherOperands"], &graph);
            // Codes and a scale that differs along the axis are gathered; nothing is as large as the table.
            let large = rewritten
                .nodes
                .iter()
                .flat_map(|n| &n.outputs)
                .any(|id| rewritten.value(*id).shape.iter().product::<usize>() == shape[0] * shape[1]);
            assert!(!large && remarks.len() == 2, "axis {axis}, {places:?}: {rewritten}");
        }
    }
}

/// Values are numbered anew when nodes go: what follows from a run is no table after that either.
#[test]
fn what_a_run_computes_is_gathered_when_it_is_there() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DType::F32, &[2, 30]);
    let index = g.arg_max(x, 1, false);
    let mut halves = Vec::new();
    for seed in 0..3 {
        let table = g.constant("table", Tensor::random(DType::F16, &[30, 4], seed).unwrap());
        let wide = g.cast(table, DType::F32);
        halves.push(g.gather(wide, index, 0));
    }
    let computed = g.input("z", DType::F32, &[30, 4]);
    let computed = g.relu(computed);
    let mut y = g.gather(computed, index, 0);
    for half in halves {
        y = g.add(y, half);
    }
    g.output("y", y);
    let graph = g.build().unwrap();
    let (rewritten, remarks) = after(&["GatherOperands"], &graph);
    let relu = rewritten.nodes.iter().find(|n| n.op.name() == "Relu").unwrap();
    assert_eq!(rewritten.value(relu.outputs[0]).shape, [30, 4], "{rewritten}");
    assert_eq!(remarks.len(), 3, "{rewritten}");
}

#[test]
fn tables_that_are_wanted_as_a_whole_are_left_alone() {
    let mut g = GraphBuilder::new("g");
    let table = g.constant("table", Tensor::random(DType::F32, &[8, 4], 1).unwrap());
    let table = g.cast(table, DType::F64);
    let x = g.input("x", DType::F32, &[9, 8]);
    let index = g.arg_max(x, 1, false);
    let y = g.gather(table, index, 0);
    g.output("y", y);
    let graph = g.build().unwrap();
    let (rewritten, remarks) = after(&["GatherOperands"], &graph);
    assert!(rewritten.nodes.len() == graph.nodes.len() && remarks.is_empty(), "{rewritten}");
}
