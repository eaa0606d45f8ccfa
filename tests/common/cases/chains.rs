//! Chains of operations, such as models are made of and passes merge.

use nestjit::DType;
use nestjit::graph::builder::{CellWeights, Conv2d, Gemm, Padding, Pool};
use nestjit::graph::{Binary, Format, Op, PadMode, PoolKind, Reduction, Unary, ValueId};

use super::{Cases, Maker, tensor};

pub fn add(cases: &mut Cases) {
    dense(cases);
    elementwise(cases);
    convolutional(cases);
    transformer(cases);
    cells(cases);
    indexed(cases);
    interface(cases);
}

fn same(m: &mut Maker, x: ValueId, filters: usize, groups: usize, stride: usize) -> ValueId {
    let channels = m.g.shape(x)[1];
    let (w, b) = (m.weight(&[filters, channels / groups, 3, 3]), m.weight(&[filters]));
    let padding = Padding::symmetric(&[1, 1]);
    m.g.conv2d(x, w, Some(b), Conv2d { stride: [stride, stride], groups, padding, ..Conv2d::default() })
}

fn pointwise(m: &mut Maker, x: ValueId, filters: usize) -> ValueId {
    let channels = m.g.shape(x)[1];
    let (w, b) = (m.weight(&[filters, channels, 1, 1]), m.weight(&[filters]));
    m.g.conv2d(x, w, Some(b), Conv2d::default())
}

fn batch_norm(m: &mut Maker, x: ValueId) -> ValueId {
    let c = [m.g.shape(x)[1]];
    let operands = [x, m.weight(&c), m.weight(&c), m.weight(&c), m.positive(&c)];
    m.one(Op::BatchNorm { epsilon: 1e-5, format: Format::ChannelsFirst }, &operands)
}

fn linear(m: &mut Maker, x: ValueId, width: usize) -> ValueId {
    let rank = m.g.shape(x).len();
    let inner = m.g.shape(x)[rank - 1];
    let (w, b) = (m.weight(&[inner, width]), m.weight(&[width]));
    let y = m.g.matmul(x, w);
    m.g.bias_add(y, b, rank - 1)
}

fn dense(cases: &mut Cases) {
    cases.add("chain/dense_relu", |m| {
        let x = m.x(&[9, 20]);
        let y = linear(m, x, 33);
        vec![m.g.relu(y)]
    });
    cases.add("chain/dense_by_gemm", |m| {
        let (x, w, b) = (m.x(&[9, 20]), m.weight(&[33, 20]), m.weight(&[33]));
        let y = m.g.gemm(x, w, Some(b), Gemm { trans_b: true, ..Gemm::default() });
        vec![m.g.gelu(y)]
    });
    cases.add_with("chain/mlp_softmax", 1e-4, |m| {
        let mut y = m.x(&[5, 16]);
        for width in [24, 24, 10] {
            y = linear(m, y, width);
            y = m.g.relu(y);
        }
        vec![m.g.softmax(y, 1)]
    });
    cases.add("chain/dense_residual", |m| {
        let x = m.x(&[7, 16]);
        let y = linear(m, x, 16);
        let y = m.g.relu(y);
        vec![m.g.add(y, x)]
    });
    cases.add("chain/two_consumers", |m| {
        let x = m.x(&[7, 16]);
        let y = linear(m, x, 12);
        let (a, b) = (m.g.relu(y), m.g.tanh(y));
        vec![a, b]
    });
    cases.add_with("chain/three_products", 1e-4, |m| {
        let x = m.x(&[6, 16]);
        let (q, k, v) = (linear(m, x, 16), linear(m, x, 16), linear(m, x, 16));
        let s = m.g.add(q, k);
        vec![m.g.mul(s, v)]
    });
    cases.add("chain/transposed_operand", |m| {
        let (x, y) = (m.x(&[6, 16]), m.x(&[9, 16]));
        let t = m.g.transpose(y, &[1, 0]);
        vec![m.g.matmul(x, t)]
    });
    cases.add("chain/scaled_product", |m| {
        let (x, w) = (m.x(&[6, 16]), m.weight(&[16, 18]));
        let y = m.g.matmul(x, w);
        let half = m.g.scalar(DType::F32, 0.5);
        vec![m.g.mul(y, half)]
    });
}

fn elementwise(cases: &mut Cases) {
    cases.add("chain/swish_by_hand", |m| {
        let x = m.x(&[4, 21]);
        let s = m.g.sigmoid(x);
        vec![m.g.mul(x, s)]
    });
    cases.add("chain/gelu_by_hand", |m| {
        let x = m.x(&[4, 21]);
        let root = m.g.scalar(DType::F32, std::f64::consts::FRAC_1_SQRT_2);
        let (one, half) = (m.g.scalar(DType::F32, 1.0), m.g.scalar(DType::F32, 0.5));
        let e = m.g.mul(x, root);
        let e = m.g.erf(e);
        let e = m.g.add(e, one);
        let y = m.g.mul(x, e);
        vec![m.g.mul(y, half)]
    });
    cases.add("chain/long", |m| {
        let x = m.x(&[3, 40]);
        let mut y = x;
        for _ in 0..12 {
            y = m.g.tanh(y);
            y = m.g.add(y, x);
        }
        vec![y]
    });
    cases.add("chain/diamond", |m| {
        let x = m.x(&[5, 9]);
        let e = m.g.exp(x);
        let (a, b) = (m.g.relu(e), m.g.neg(e));
        let c = m.g.mul(a, b);
        vec![m.g.sub(c, e)]
    });
    cases.add("chain/broadcast_consumer", |m| {
        let (x, y) = (m.x(&[6, 7]), m.x(&[7]));
        let e = m.g.exp(y);
        vec![m.g.mul(x, e)]
    });
    cases.add("chain/compare_and_choose", |m| {
        let (x, y) = (m.x(&[6, 7]), m.x(&[6, 7]));
        let c = m.one(Op::Binary(Binary::Lt), &[x, y]);
        let sum = m.g.add(x, y);
        vec![m.g.select(c, x, sum)]
    });
    cases.add("chain/types", |m| {
        let x = m.input(DType::I32, &[11]);
        let f = m.g.cast(x, DType::F32);
        let h = m.g.exp(f);
        let b = m.one(Op::Unary(Unary::IsInf), &[h]);
        vec![h, m.g.cast(b, DType::I64)]
    });
    cases.add("chain/move_and_compute", |m| {
        let x = m.x(&[4, 6, 5]);
        let t = m.g.transpose(x, &[2, 0, 1]);
        let r = m.g.relu(t);
        let s = m.g.slice(r, &[4, 0, 1], &[5, 2, 5], &[-1, 2, 1]);
        let p = m.g.pad(s, &[0, 1, 0], &[1, 0, 2], PadMode::Constant(0.5));
        vec![m.g.tanh(p)]
    });
    cases.add("chain/split_and_concat", |m| {
        let x = m.x(&[3, 12]);
        let parts = m.g.split(x, 1, &[4, 8]);
        let (a, b) = (m.g.sigmoid(parts[0]), m.g.tanh(parts[1]));
        vec![m.g.concat(&[b, a], 1)]
    });
    cases.add("chain/reshape_between", |m| {
        let x = m.x(&[4, 6]);
        let e = m.g.exp(x);
        let r = m.g.reshape(e, &[2, 12]);
        vec![m.g.relu(r)]
    });
    cases.add("chain/incompatible_reshape_between", |m| {
        let x = m.x(&[4, 6]);
        let e = m.g.exp(x);
        let r = m.g.reshape(e, &[3, 8]);
        vec![m.g.neg(r)]
    });
}

fn convolutional(cases: &mut Cases) {
    cases.add_with("chain/conv_bn_relu", 1e-4, |m| {
        let x = m.x(&[1, 6, 9, 9]);
        let y = same(m, x, 10, 1, 1);
        let y = batch_norm(m, y);
        vec![m.g.relu(y)]
    });
    cases.add_with("chain/depthwise_bn_relu", 1e-4, |m| {
        let x = m.x(&[1, 6, 9, 9]);
        let y = same(m, x, 6, 6, 1);
        let y = batch_norm(m, y);
        vec![m.g.relu(y)]
    });
    cases.add_with("chain/conv_swish_twice", 1e-3, |m| {
        let mut y = m.x(&[1, 3, 8, 8]);
        for _ in 0..2 {
            y = same(m, y, 8, 1, 1);
            let s = m.g.sigmoid(y);
            y = m.g.mul(y, s);
        }
        vec![y]
    });
    cases.add_with("chain/side_input_before_relu", 1e-4, |m| {
        let (x, side) = (m.x(&[1, 5, 7, 7]), m.x(&[1, 8, 7, 7]));
        let y = same(m, x, 8, 1, 1);
        let y = batch_norm(m, y);
        let y = m.g.add(y, side);
        vec![m.g.relu(y)]
    });
    cases.add_with("chain/residual_block", 1e-3, |m| {
        let x = m.x(&[1, 6, 8, 8]);
        let y = same(m, x, 6, 1, 1);
        let y = m.g.relu(y);
        let y = same(m, y, 6, 1, 1);
        let y = m.g.add(y, x);
        vec![m.g.relu(y)]
    });
    cases.add_with("chain/inverted_residual", 1e-3, |m| {
        let x = m.x(&[1, 4, 8, 8]);
        let y = pointwise(m, x, 12);
        let y = m.one(Op::Unary(Unary::Relu6), &[y]);
        let y = same(m, y, 12, 12, 1);
        let y = m.one(Op::Unary(Unary::Relu6), &[y]);
        let y = pointwise(m, y, 4);
        vec![m.g.add(y, x)]
    });
    cases.add_with("chain/squeeze_and_excite", 1e-3, |m| {
        let x = m.x(&[1, 8, 6, 6]);
        let s = m.g.global_average_pool(x, Format::ChannelsFirst);
        let s = pointwise(m, s, 3);
        let s = m.g.relu(s);
        let s = pointwise(m, s, 8);
        let s = m.one(Op::Unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }), &[s]);
        vec![m.g.mul(x, s)]
    });
    cases.add_with("chain/conv_pool", 1e-4, |m| {
        let x = m.x(&[1, 3, 10, 10]);
        let y = same(m, x, 6, 1, 1);
        let y = m.g.relu(y);
        vec![m.g.max_pool(y, &Pool::new(&[2, 2]))]
    });
    cases.add_with("chain/pad_conv", 1e-4, |m| {
        let x = m.x(&[1, 3, 7, 7]);
        let p = m.g.pad(x, &[0, 0, 1, 1], &[0, 0, 1, 1], PadMode::Constant(0.0));
        let w = m.weight(&[4, 3, 3, 3]);
        vec![m.g.conv2d(p, w, None, Conv2d::default())]
    });
    cases.add_with("chain/branches_concat", 1e-4, |m| {
        let x = m.x(&[1, 5, 6, 6]);
        let (a, b) = (pointwise(m, x, 4), same(m, x, 3, 1, 1));
        let (a, b) = (m.g.relu(a), m.g.relu(b));
        let op = Op::GlobalPool { kind: PoolKind::Max, format: Format::ChannelsFirst };
        let c = m.g.concat(&[a, b], 1);
        vec![c, m.one(op, &[c])]
    });
    cases.add_with("chain/classifier", 1e-3, |m| {
        let x = m.x(&[2, 3, 9, 9]);
        let y = same(m, x, 8, 1, 2);
        let y = m.g.relu(y);
        let y = m.g.global_average_pool(y, Format::ChannelsFirst);
        let y = m.g.flatten(y, 1);
        let y = linear(m, y, 10);
        vec![m.g.softmax(y, 1)]
    });
}

fn transformer(cases: &mut Cases) {
    cases.add_with("chain/attention", 1e-4, |m| {
        let (q, k, v) = (m.x(&[2, 5, 8]), m.x(&[2, 7, 8]), m.x(&[2, 7, 6]));
        let t = m.g.transpose(k, &[0, 2, 1]);
        let s = m.g.matmul(q, t);
        let scale = m.g.scalar(DType::F32, 0.353_553_4);
        let s = m.g.mul(s, scale);
        let p = m.g.softmax(s, 2);
        vec![m.g.matmul(p, v)]
    });
    cases.add_with("chain/heads", 1e-3, |m| {
        let x = m.x(&[1, 6, 8]);
        let q = linear(m, x, 8);
        let q = m.g.reshape(q, &[1, 6, 2, 4]);
        let q = m.g.transpose(q, &[0, 2, 1, 3]);
        let k = m.g.transpose(q, &[0, 1, 3, 2]);
        vec![m.g.matmul(q, k)]
    });
    cases.add_with("chain/layer_norm_by_hand", 1e-4, |m| {
        let (x, scale, bias) = (m.x(&[5, 18]), m.weight(&[18]), m.weight(&[18]));
        let mean = m.g.reduce(Reduction::Mean, x, &[1], true);
        let d = m.g.sub(x, mean);
        let square = m.g.mul(d, d);
        let variance = m.g.reduce(Reduction::Mean, square, &[1], true);
        let epsilon = m.g.scalar(DType::F32, 1e-5);
        let variance = m.g.add(variance, epsilon);
        let deviation = m.g.sqrt(variance);
        let y = m.g.div(d, deviation);
        let y = m.g.mul(y, scale);
        vec![m.g.add(y, bias)]
    });
    cases.add_with("chain/softmax_by_hand", 1e-4, |m| {
        let x = m.x(&[5, 18]);
        let max = m.g.reduce(Reduction::Max, x, &[1], true);
        let d = m.g.sub(x, max);
        let e = m.g.exp(d);
        let sum = m.g.reduce(Reduction::Sum, e, &[1], true);
        vec![m.g.div(e, sum)]
    });
    cases.add_with("chain/feed_forward", 1e-3, |m| {
        let x = m.x(&[6, 12]);
        let scale = m.weight(&[12]);
        let bias = m.weight(&[12]);
        let n = m.one(Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[x, scale, bias]);
        let y = linear(m, n, 24);
        let y = m.g.gelu(y);
        let y = linear(m, y, 12);
        vec![m.g.add(y, x)]
    });
    cases.add("chain/embedding_norm", |m| {
        let table = m.weight(&[30, 16]);
        let ids = m.given(tensor(&[7], &[1i64, 29, 0, 4, -3, 4, 12]));
        let x = m.g.gather(table, ids, 0);
        let scale = m.weight(&[16]);
        vec![m.one(Op::RmsNorm { axis: 1, epsilon: 1e-6 }, &[x, scale])]
    });
}

fn cell_weights(m: &mut Maker, gates: usize, inputs: usize, hidden: usize) -> CellWeights {
    CellWeights {
        input: m.weight(&[gates * hidden, inputs]),
        hidden: m.weight(&[gates * hidden, hidden]),
        input_bias: m.weight(&[gates * hidden]),
        hidden_bias: m.weight(&[gates * hidden]),
    }
}

fn cells(cases: &mut Cases) {
    cases.add_with("chain/rnn_cell", 1e-4, |m| {
        let (x, h) = (m.x(&[2, 10]), m.x(&[2, 12]));
        let weights = cell_weights(m, 1, 10, 12);
        vec![m.g.rnn_cell(x, h, &weights)]
    });
    cases.add_with("chain/lstm_cell", 1e-4, |m| {
        let (x, h, c) = (m.x(&[1, 10]), m.x(&[1, 12]), m.x(&[1, 12]));
        let weights = cell_weights(m, 4, 10, 12);
        let (h, c) = m.g.lstm_cell(x, h, c, &weights);
        vec![h, c]
    });
    cases.add_with("chain/gru_cell", 1e-4, |m| {
        let (x, h) = (m.x(&[1, 10]), m.x(&[1, 12]));
        let weights = cell_weights(m, 3, 10, 12);
        vec![m.g.gru_cell(x, h, &weights)]
    });
}

/// Outputs that are also something else.
/// Elements that are known at run time only, of what may stay in a kernel.
fn indexed(cases: &mut Cases) {
    fn product(m: &mut Maker) -> ValueId {
        let x = m.x(&[6, 33]);
        let y = linear(m, x, 21);
        m.g.relu(y)
    }
    let at = |m: &mut Maker, shape: &[usize], values: &[i64]| m.given(tensor(shape, values));
    for axis in [0, 1] {
        cases.add(format!("chain/product_at_index_{axis}"), |m| {
            let (y, i) = (product(m), at(m, &[], &[4]));
            vec![m.g.gather(y, i, axis)]
        });
        cases.add(format!("chain/product_at_indices_{axis}"), |m| {
            let (y, i) = (product(m), at(m, &[3], &[-2, 5, 0]));
            let y = m.g.gather(y, i, axis);
            vec![m.g.exp(y)]
        });
        cases.add(format!("chain/softmax_at_index_{axis}"), |m| {
            let x = m.x(&[6, 33]);
            let (y, i) = (m.g.softmax(x, 1), at(m, &[], &[3]));
            vec![m.g.gather(y, i, axis)]
        });
        cases.add(format!("chain/normalised_at_index_{axis}"), |m| {
            let (x, scale) = (m.x(&[6, 33]), m.weight(&[33]));
            let y = m.one(Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[x, scale, scale]);
            let i = at(m, &[], &[-3]);
            vec![m.g.gather(y, i, axis)]
        });
    }
    cases.add("chain/product_at_largest", |m| {
        let y = product(m);
        let sums = m.g.reduce_sum(y, &[0], false);
        let i = m.g.arg_max(sums, 0, false);
        let column = m.g.gather(y, i, 1);
        vec![column, i]
    });
    cases.add("chain/softmax_at_largest", |m| {
        let x = m.x(&[1, 57]);
        let (y, i) = (m.g.softmax(x, 1), m.g.arg_max(x, 1, false));
        vec![m.g.gather(y, i, 1)]
    });
    for reduction in [None, Some(Reduction::Sum), Some(Reduction::Max)] {
        cases.add(format!("chain/row_of_product_{reduction:?}"), |m| {
            let (y, i, row) = (product(m), at(m, &[1], &[3]), m.x(&[1, 21]));
            let y = m.one(Op::Scatter { reduction }, &[y, i, row]);
            vec![m.g.tanh(y)]
        });
    }
    cases.add("chain/element_of_product", |m| {
        let y = product(m);
        let y = m.g.reshape(y, &[126, 1]);
        let (i, update) = (at(m, &[1], &[77]), m.x(&[1, 1]));
        let y = m.one(Op::Scatter { reduction: None }, &[y, i, update]);
        let y = m.g.reshape(y, &[6, 21]);
        vec![m.g.reduce_sum(y, &[1], false)]
    });
}

fn interface(cases: &mut Cases) {
    cases.add("interface/intermediate_output", |m| {
        let x = m.x(&[3, 7]);
        let e = m.g.exp(x);
        vec![e, m.g.relu(e)]
    });
    cases.add("interface/input_is_output", |m| {
        let x = m.x(&[3, 7]);
        vec![x, m.g.neg(x)]
    });
    cases.add("interface/constant_is_output", |m| {
        let (x, w) = (m.x(&[3]), m.weight(&[3]));
        vec![w, m.g.add(x, w)]
    });
    cases.add("interface/unused_input", |m| {
        m.x(&[4]);
        let x = m.x(&[3]);
        vec![m.g.abs(x)]
    });
    cases.add("interface/same_output_twice", |m| {
        let x = m.x(&[3]);
        let y = m.g.abs(x);
        vec![y, y]
    });
    cases.add("interface/one_constant", |m| vec![m.constant(&[2, 2], &[1i64, 2, 3, 4])]);
}
