//! What lies between contractions: 8-bit integers are what is stored and moved.

use nestjit::graph::{Format, Graph, Op, PoolKind, ValueId, Window};
use nestjit::{Compiler, DType, Options, Tensor};

use crate::maker::Maker;
use crate::{Allowed, check, rewritten};

const SCALE: f32 = 0.37;
const ZERO: i32 = 3;

/// An input of `u8` and the numbers that it stands for.
fn numbers(m: &mut Maker, shape: &[usize]) -> (ValueId, ValueId) {
    let q = m.bytes(DType::U8, shape);
    let q = m.given(q);
    (q, dequantised(m, q))
}

fn dequantised(m: &mut Maker, q: ValueId) -> ValueId {
    let wide = m.g.cast(q, DType::I32);
    let zero = m.g.constant("zero", Tensor::scalar(ZERO));
    let shifted = m.g.sub(wide, zero);
    let float = m.g.cast(shifted, DType::F32);
    let scale = m.g.constant("scale", Tensor::scalar(SCALE));
    m.g.mul(float, scale)
}

fn names(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

#[test]
fn what_is_quantised_as_before_only_moves() {
    let window = Window {
        kernel: vec![2, 2],
        strides: vec![2, 2],
        dilations: vec![1, 1],
        pads_begin: vec![1, 1],
        pads_end: vec![0, 0],
    };
    let pool = Op::Pool { kind: PoolKind::Max, window, ceil_mode: false, format: Format::ChannelsFirst };
    let ops = [
        ("Transpose", Op::Transpose { perm: vec![0, 2, 1, 3] }),
        ("Reshape", Op::Reshape { shape: vec![2, 60] }),
        ("MaxPool", pool),
        ("Slice", Op::Slice { starts: vec![0, 1, 0, 0], extents: vec![2, 1, 5, 6], steps: vec![1; 4] }),
    ];
    for (name, op) in ops {
        let mut m = Maker::new(name);
        let (_, x) = numbers(&mut m, &[2, 2, 5, 6]);
        let y = m.one(op, &[x]);
        let y = m.requantised(y, SCALE, ZERO as f32, DType::U8);
        let (graph, inputs) = m.finish(&[y]);
        let after = names(&rewritten(&graph).0);
        assert_eq!(after.len(), 1, "{name}: {after:?}");
        check(name, &graph, &inputs, 0, Allowed::Rounding);
    }
    // Parts that are quantised alike, and a scale that is another.
    for (scale, joined) in [(SCALE, true), (SCALE * 2.0, false)] {
        let mut m = Maker::new("joined");
        let ((_, x), (_, y)) = (numbers(&mut m, &[2, 3]), numbers(&mut m, &[2, 4]));
        let both = m.one(Op::Concat { axis: 1 }, &[x, y]);
        let both = m.requantised(both, scale, ZERO as f32, DType::U8);
        let (graph, inputs) = m.finish(&[both]);
        let after = names(&rewritten(&graph).0);
        assert_eq!(after == ["Concat"], joined, "{after:?}");
        check("joined", &graph, &inputs, 0, Allowed::Rounding);
    }
    // Nothing between them.
    let mut m = Maker::new("again");
    let (_, x) = numbers(&mut m, &[7]);
    let y = m.requantised(x, SCALE, ZERO as f32, DType::U8);
    let (graph, inputs) = m.finish(&[y]);
    assert_eq!(names(&rewritten(&graph).0), ["Identity"]);
    check("again", &graph, &inputs, 0, Allowed::Rounding);
}

/// The sums of products of the compiled program load bytes as they are stored, and no floats lie between its nests.
fn reads_bytes(graph: Graph, count: usize) {
    let compiler = Compiler::with_options(Options::default()).threads(1);
    let program = compiler.program_after(&graph.into(), "ContractTemps").unwrap();
    let sums: Vec<&str> = program.lines().filter(|l| l.contains("+= i32(") && l.contains(" * ")).collect();
    assert_eq!(sums.len(), count, "{program}");
    for sum in sums {
        assert!(!sum.contains("i32(i8(") && !sum.contains("i32(u8("), "{sum}\n{program}");
    }
    for head in program.lines().filter(|line| line.starts_with("nest ")) {
        let mut types = head.split("temp ").skip(1).map(|temp| temp.split(": ").nth(1).unwrap_or_default());
        assert!(types.all(|t| !t.starts_with("f32")), "{head}\n{program}");
    }
}

/// Both operands of the second product are results of others, one of them transposed.
#[test]
fn products_of_activations_read_bytes() {
    let mut m = Maker::new("activations");
    let (_, x) = numbers(&mut m, &[16, 24]);
    let projection = |m: &mut Maker| {
        let q = m.bytes(DType::I8, &[24, 16]);
        let q = m.g.constant("w", q);
        let wide = m.g.cast(q, DType::F32);
        let scale = m.g.constant("scale", Tensor::scalar(0.01f32));
        let w = m.g.mul(wide, scale);
        let y = m.g.matmul(x, w);
        let q = m.requantised(y, SCALE, ZERO as f32, DType::U8);
        dequantised(m, q)
    };
    let (a, b) = (projection(&mut m), projection(&mut m));
    let b = m.one(Op::Transpose { perm: vec![1, 0] }, &[b]);
    let y = m.g.matmul(a, b);
    let (graph, inputs) = m.finish(&[y]);
    check("activations", &graph, &inputs, 3, Allowed::Behind);
    reads_bytes(graph, 3);
}

/// Two products with a residual addition behind the second.
#[test]
fn products_behind_each_other_read_bytes() {
    let mut m = Maker::new("residual");
    let x = m.given(Tensor::random(DType::F32, &[24, 32], 5).unwrap());
    let weight = |m: &mut Maker| {
        let q = m.bytes(DType::I8, &[32, 32]);
        let q = m.g.constant("w", q);
        let wide = m.g.cast(q, DType::F32);
        let scale = m.g.constant("scale", Tensor::scalar(0.01f32));
        m.g.mul(wide, scale)
    };
    let quantised = |m: &mut Maker, x: ValueId| {
        let q = m.requantised(x, SCALE, ZERO as f32, DType::U8);
        dequantised(m, q)
    };
    let x = quantised(&mut m, x);
    let w = weight(&mut m);
    let y = m.g.matmul(x, w);
    let y = m.g.relu(y);
    let y = quantised(&mut m, y);
    let w = weight(&mut m);
    let z = m.g.matmul(y, w);
    let z = quantised(&mut m, z);
    let sum = m.g.add(z, x);
    let sum = m.requantised(sum, SCALE, ZERO as f32, DType::U8);
    let (graph, inputs) = m.finish(&[sum]);
    check("residual", &graph, &inputs, 2, Allowed::OneStep);
    reads_bytes(graph, 2);
}
