//! What lies between contractions: 8-bit integers are what is stored and moved.

use nestjit::graph::{Format, Graph, Node, Op, PadMode, PoolKind, Reduction, Unary, ValueId, Window};
use nestjit::{Compiler, DType, Options, Tensor};

use crate::maker::Maker;
use crate::{Allowed, check, contractions, rewritten};

const SCALE: f32 = 0.37;
const ZERO: i32 = 3;

/// An input of `u8` and the numbers that it stands for.
fn numbers(m: &mut Maker, shape: &[usize]) -> (ValueId, ValueId) {
    let q = m.bytes(DType::U8, shape);
    let q = m.given(q);
    (q, dequantised(m, q))
}

fn dequantised(m: &mut Maker, q: ValueId) -> ValueId {
    dequantised_by(m, q, ZERO, SCALE)
}

fn dequantised_by(m: &mut Maker, q: ValueId, zero: i32, scale: f32) -> ValueId {
    let wide = m.g.cast(q, DType::I32);
    let zero = m.g.constant("zero", Tensor::scalar(zero));
    let shifted = m.g.sub(wide, zero);
    let float = m.g.cast(shifted, DType::F32);
    let scale = m.g.constant("scale", Tensor::scalar(scale));
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

fn window(kernel: usize, stride: usize, pad: usize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}

/// A convolution with filters of 8 bits, one column wide in each dimension, of `x`, whose second dimension has the channels.
fn convolved(m: &mut Maker, x: ValueId, channels: usize) -> ValueId {
    let q = m.bytes(DType::I8, &[8, channels, 1, 1]);
    let q = m.g.constant("w", q);
    let wide = m.g.cast(q, DType::F32);
    let scale = m.g.constant("scale", Tensor::scalar(0.01f32));
    let w = m.g.mul(wide, scale);
    m.one(
        Op::Conv { window: window(1, 1, 1), groups: 1, format: Format::ChannelsFirst, pad_value: 0 },
        &[x, w],
    )
}

const SHAPE: [usize; 4] = [2, 4, 6, 6];

/// What moves or picks quantised numbers between them and a contraction.
fn moves() -> Vec<(&'static str, Op)> {
    let format = Format::ChannelsFirst;
    let pool = |window| Op::Pool { kind: PoolKind::Max, window, ceil_mode: false, format };
    let pad = |mode| Op::Pad { begin: vec![0, 0, 1, 2], end: vec![0, 0, 0, 1], mode };
    let reduce = |op| Op::Reduce { op, axes: vec![2], keep_dims: true };
    vec![
        ("MaxPool", pool(window(2, 2, 0))),
        ("MaxPool with padding", pool(window(3, 1, 1))),
        ("GlobalMaxPool", Op::GlobalPool { kind: PoolKind::Max, format }),
        ("ReduceMax", reduce(Reduction::Max)),
        ("ReduceMin", reduce(Reduction::Min)),
        ("Transpose", Op::Transpose { perm: vec![0, 1, 3, 2] }),
        ("Reshape", Op::Reshape { shape: vec![2, 4, 4, 9] }),
        (
            "Slice",
            Op::Slice { starts: vec![0, 0, 4, 1], extents: vec![2, 4, 3, 2], steps: vec![1, 1, -2, 3] },
        ),
        ("Pad", pad(PadMode::Constant(0.0))),
        ("Pad with the edge", pad(PadMode::Edge)),
        ("Relu", Op::Unary(Unary::Relu)),
        ("Clip", Op::Clip { min: Some(f64::from(SCALE) * -2.0), max: Some(1e6) }),
    ]
}

#[test]
fn moves_between_numbers_and_a_contraction_are_those_of_bytes() {
    for (name, op) in moves() {
        // A second reader of what is moved reads the same bytes.
        let mut m = Maker::new(name);
        let (_, x) = numbers(&mut m, &SHAPE);
        let moved = m.one(op, &[x]);
        let (y, z) = (convolved(&mut m, moved, 4), convolved(&mut m, moved, 4));
        let (graph, inputs) = m.finish(&[y, z]);
        let after = rewritten(&graph).0;
        let moves = |n: &&Node| n.name.contains(".moved") && after.value(n.outputs[0]).dtype == DType::U8;
        assert_eq!(after.nodes.iter().filter(moves).count(), 1, "{name}: {:?}", names(&after));
        check(name, &graph, &inputs, 2, Allowed::Rounding);
    }
    // Neighbours repeated, as enlarging images does it, and parts.
    let mut m = Maker::new("parts");
    let (_, x) = numbers(&mut m, &SHAPE);
    let places =
        m.g.constant("places", Tensor::new(&[12], &(0..12).map(|i| i / 2).collect::<Vec<i64>>()).unwrap());
    let large = m.one(Op::Gather { axis: 3 }, &[x, places]);
    let parts = m.g.node("", Op::Split { axis: 1, sizes: vec![1, 3] }, &[large]);
    let y = convolved(&mut m, parts[1], 3);
    let (graph, inputs) = m.finish(&[y]);
    check("parts", &graph, &inputs, 1, Allowed::Rounding);
}

#[test]
fn what_is_joined_of_bytes_quantised_alike_is_bytes() {
    for (zero, alike) in [(ZERO, true), (ZERO + 1, false)] {
        let mut m = Maker::new("joined");
        let (_, x) = numbers(&mut m, &SHAPE);
        let q = m.bytes(DType::U8, &SHAPE);
        let q = m.given(q);
        let y = dequantised_by(&mut m, q, zero, SCALE);
        let y = m.one(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[y]);
        let both = m.one(Op::Concat { axis: 1 }, &[x, y]);
        let (a, b) = (convolved(&mut m, both, 8), convolved(&mut m, both, 8));
        let (graph, inputs) = m.finish(&[a, b]);
        let after = names(&rewritten(&graph).0);
        assert_eq!(after.iter().filter(|name| **name == "Concat").count(), 1, "{after:?}");
        if alike {
            check("joined", &graph, &inputs, 2, Allowed::Rounding);
        } else {
            assert_eq!(contractions(&rewritten(&graph).0), [[DType::F32; 2]; 2]);
        }
    }
}

/// The order of numbers is that of the bytes only if scales are positive, and a bound need not be one of the numbers.
#[test]
fn what_bytes_cannot_do_stays_with_numbers() {
    let relu6 = || Op::Unary(Unary::Relu6);
    let pool = || Op::GlobalPool { kind: PoolKind::Max, format: Format::ChannelsFirst };
    for (name, op, scale) in [("negative", pool(), -SCALE), ("between", relu6(), SCALE)] {
        let mut m = Maker::new(name);
        let q = m.bytes(DType::U8, &SHAPE);
        let q = m.given(q);
        let x = dequantised_by(&mut m, q, ZERO, scale);
        let x = m.one(op, &[x]);
        let y = convolved(&mut m, x, 4);
        let (graph, _) = m.finish(&[y]);
        assert_eq!(contractions(&rewritten(&graph).0), [[DType::F32; 2]], "{name}");
    }
    // 6 is one of the numbers.
    let mut m = Maker::new("among them");
    let q = m.bytes(DType::U8, &SHAPE);
    let q = m.given(q);
    let x = dequantised_by(&mut m, q, ZERO, 0.125);
    let x = m.one(relu6(), &[x]);
    let y = convolved(&mut m, x, 4);
    let (graph, inputs) = m.finish(&[y]);
    check("among them", &graph, &inputs, 1, Allowed::Rounding);
}
