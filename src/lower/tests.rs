//! The form of lowered nests: what passes rely on. Values are compared with the oracle in `tests/lowering.rs`.

use nestjit_ir::{DType, Expr, LoopKind, Nest, Program, ReduceOp, Role, Stmt, visit};

use super::lower;
use crate::graph::{Binary, Format, Graph, GraphBuilder, Op, Unary, ValueId, Window};
use crate::tensor::Tensor;
use crate::unit::Unit;

/// A graph of one node over inputs of these shapes, lowered.
fn lowered(op: Op, shapes: &[&[usize]]) -> Unit {
    let mut g = GraphBuilder::new("test");
    let inputs: Vec<ValueId> =
        shapes.iter().enumerate().map(|(i, s)| g.input(&format!("x{i}"), DType::F32, s)).collect();
    let y = g.node("node", op, &inputs)[0];
    g.output("y", y);
    lower(&g.build().unwrap()).unwrap()
}

/// The names and extents of all loops, outer before inner.
fn loop_list(program: &Program, nest: &Nest) -> Vec<(String, usize)> {
    let mut list = Vec::new();
    visit::walk_loops(&nest.body, &mut |l| {
        assert_eq!(l.kind, LoopKind::Serial);
        list.push((program.var_name(l.var).to_owned(), l.extent));
    });
    list
}

fn loop_names(program: &Program, nest: &Nest) -> String {
    loop_list(program, nest).into_iter().map(|l| l.0).collect::<Vec<_>>().join(" ")
}

/// Which operation each nest says it comes from.
fn ops(unit: &Unit) -> Vec<(&str, &[String])> {
    unit.program.nests.iter().map(|n| (n.name.as_str(), n.ops.as_slice())).collect()
}

#[test]
fn a_product_accumulates_and_stores() {
    let op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let unit = lowered(op, &[&[2, 3], &[3, 4], &[4]]);
    let (program, nest) = (&unit.program, &unit.program.nests[0]);
    assert_eq!(ops(&unit), [("node", &["Gemm node".to_owned()][..])]);
    assert_eq!(loop_list(program, nest), [("n".into(), 2), ("m".into(), 4), ("k".into(), 3)]);
    let Stmt::For(n) = &nest.body[0] else { panic!("a loop") };
    let Stmt::For(m) = &n.body[0] else { panic!("a loop") };
    let [Stmt::Temp(acc), Stmt::Store(init), Stmt::For(k), Stmt::Store(last)] = &m.body[..] else {
        panic!("declaration, initial value, reduction, store: {:?}", m.body)
    };
    assert_eq!(
        (program.buf(*acc).role, init.buf, program.buf(last.buf).role),
        (Role::Local, *acc, Role::Out)
    );
    let [Stmt::Reduce(update)] = &k.body[..] else { panic!("one reduction") };
    assert_eq!((update.op, update.buf), (ReduceOp::Add, *acc));
    let Expr::Binary(nestjit_ir::BinOp::Mul, a, b) = &update.value else { panic!("a product") };
    assert!(matches!((&**a, &**b), (Expr::Load(_), Expr::Load(_))));
}

#[test]
fn convolutions_show_their_grouping_in_their_loops() {
    let window = Window {
        kernel: vec![3, 3],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![1, 1],
        pads_end: vec![1, 1],
    };
    let loops = |groups, format, x: &[usize], w: &[usize]| {
        let unit = lowered(Op::Conv { window: window.clone(), groups, format, pad_value: 0 }, &[x, w]);
        loop_names(&unit.program, &unit.program.nests[0])
    };
    let (first, last) = (Format::ChannelsFirst, Format::ChannelsLast);
    assert_eq!(loops(1, first, &[1, 4, 5, 5], &[8, 4, 3, 3]), "n co oh ow ci kh kw");
    assert_eq!(loops(1, last, &[1, 5, 5, 4], &[8, 4, 3, 3]), "n oh ow co ci kh kw");
    assert_eq!(loops(4, first, &[1, 4, 5, 5], &[4, 1, 3, 3]), "n c oh ow kh kw");
    assert_eq!(loops(4, last, &[1, 5, 5, 4], &[8, 1, 3, 3]), "n oh ow c m kh kw");
    assert_eq!(loops(2, first, &[1, 4, 5, 5], &[8, 2, 3, 3]), "n g co oh ow ci kh kw");
    assert_eq!(loops(1, first, &[1, 1, 5, 5], &[8, 1, 3, 3]), "n co oh ow ci kh kw");
}

#[test]
fn padding_is_an_otherwise_only_where_a_window_leaves_the_tensor() {
    let padded = |pads: usize| {
        let window = Window {
            kernel: vec![3],
            strides: vec![1],
            dilations: vec![1],
            pads_begin: vec![pads],
            pads_end: vec![0],
        };
        let op = Op::Conv { window, groups: 1, format: Format::ChannelsFirst, pad_value: 0 };
        let unit = lowered(op, &[&[1, 2, 8], &[2, 2, 3]]);
        let mut otherwise = false;
        visit::walk_exprs(&unit.program.nests[0].body, &mut |e| {
            otherwise |= matches!(e, Expr::Load(l) if l.otherwise.is_some());
        });
        otherwise
    };
    assert!(padded(1));
    assert!(!padded(0));
}

#[test]
fn softmax_is_four_plain_nests() {
    let unit = lowered(Op::Softmax { axis: 1 }, &[&[2, 5, 3]]);
    let names: Vec<&str> = unit.program.nests.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["node.max", "node.exp", "node.sum", "node"]);
    assert!(unit.program.nests.iter().all(|n| n.ops == ["Softmax node"]));
    let loops: Vec<String> = unit.program.nests.iter().map(|n| loop_names(&unit.program, n)).collect();
    assert_eq!(loops, ["i0 i1 k", "i0 i1 i2", "i0 i1 k", "i0 i1 i2"]);
}

#[test]
fn one_element_constants_are_literals_and_unused_ones_are_nothing() {
    let mut g = GraphBuilder::new("test");
    let x = g.input("x", DType::F32, &[3]);
    let two = g.constant("two", Tensor::new(&[1], &[2.0f32]).unwrap());
    g.constant("unused", Tensor::new(&[3], &[1.0f32; 3]).unwrap());
    let y = g.node("scale", Op::Binary(Binary::Mul), &[x, two])[0];
    g.node("dead", Op::Unary(Unary::Exp), &[x]);
    g.output("y", y);
    let unit = lower(&g.build().unwrap()).unwrap();
    assert!(unit.consts.is_empty());
    assert_eq!(unit.program.nests.len(), 1);
    let mut literals = Vec::new();
    visit::walk_exprs(&unit.program.nests[0].body, &mut |e| literals.extend(e.as_const()));
    assert_eq!(literals, [nestjit_ir::Scalar::F32(2.0)]);
}

#[test]
fn outputs_may_be_inputs_constants_intermediate_values_and_repeated() {
    let mut g = GraphBuilder::new("test");
    let x = g.input("x", DType::F32, &[3]);
    let c = g.constant("c", Tensor::new(&[3], &[1.0f32; 3]).unwrap());
    let a = g.node("a", Op::Unary(Unary::Exp), &[x])[0];
    let b = g.node("b", Op::Unary(Unary::Neg), &[a])[0];
    g.output("y", b);
    let mut graph: Graph = g.build().unwrap();
    graph.outputs = vec![x, c, a, b, x];
    let unit = lower(&graph).unwrap();
    let out = |i: usize| unit.program.buf(unit.outputs[i]);
    assert!((0..5).all(|i| out(i).role == Role::Out));
    assert_eq!(unit.outputs[0], unit.outputs[4]);
    assert_eq!(unit.program.nests.len(), 4);
    assert_eq!((unit.inputs.len(), unit.consts.len()), (1, 1));
}

#[test]
fn what_is_shared_gets_a_temporary_unless_it_is_a_load() {
    let temps = |op| {
        let unit = lowered(Op::Unary(op), &[&[4]]);
        unit.program.buffers.iter().filter(|b| b.role == Role::Local).count()
    };
    assert_eq!(temps(Unary::Silu), 0);
    assert_eq!(temps(Unary::GeluTanh), 0);
    assert_eq!(temps(Unary::Mish), 1);
}
