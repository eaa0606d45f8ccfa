//! What OpFusion and ContractTemps make of the patterns that they exist for.

mod harness;
mod networks;
mod random;
mod remapper;

use harness::{Fused, Net};
use nestjit::DType;
use nestjit::graph::ValueId;
use nestjit::graph::builder::{CellWeights, Conv2d, Padding, Pool};

/// `x * w + b` as separate operations.
fn dense(net: &mut Net, x: ValueId, k: usize, m: usize) -> ValueId {
    let (w, b) = (net.constant(&[k, m]), net.constant(&[m]));
    let t = net.g.matmul(x, w);
    net.g.bias_add(t, b, 1)
}

fn conv3x3(net: &mut Net, x: ValueId, from: usize, to: usize, groups: usize) -> ValueId {
    let w = net.constant(&[to, from / groups, 3, 3]);
    let options = Conv2d { padding: Padding::symmetric(&[1, 1]), groups, ..Conv2d::default() };
    net.g.conv2d(x, w, None, options)
}

fn mlp(batch: usize, width: usize) -> Fused {
    let mut net = Net::new();
    let mut x = net.input(&[batch, width]);
    for _ in 0..10 {
        x = dense(&mut net, x, width, width);
        x = net.g.relu(x);
    }
    x = dense(&mut net, x, width, 10);
    let y = net.g.softmax(x, 1);
    net.fuse(&[y])
}

#[test]
fn a_perceptron_is_a_nest_per_layer() {
    let fused = mlp(64, 512);
    assert!(fused.before.program.nests.len() > 30);
    assert_eq!(fused.nests(), 11, "{}", fused.text());
    assert_eq!(fused.refusals(), vec!["second-contraction"; 10]);
    let layer = "  for n < 64 {
    for m < 512 {
      temp %matmul_0.acc: f32
      %matmul_0.acc = 0.0
      for k < 512 {
        %matmul_0.acc += %x0[n,k] * %w2[k,m]
      }
      %relu_0[n,m] = max(%matmul_0.acc + %w3[m], 0.0)
    }
  }
";
    assert!(fused.text().contains(layer), "{}", fused.text());
    mlp(4, 12).expect(11);
}

#[test]
fn softmax_is_a_nest() {
    for (shape, axis) in [(&[6, 5][..], 1), (&[2, 3, 4, 5], 3), (&[7], 0), (&[3, 4], 0), (&[2, 5, 3, 2], 1)] {
        let mut net = Net::new();
        let x = net.input(shape);
        let y = net.g.softmax(x, axis);
        let fused = net.fuse(&[y]);
        fused.expect(1);
    }
    let mut net = Net::new();
    let x = net.input(&[6, 5]);
    let y = net.g.log_softmax(x, 1);
    net.fuse(&[y]).expect(1);
}

#[test]
fn normalisations_are_a_nest_each() {
    let mut net = Net::new();
    let x = net.input(&[2, 4, 8]);
    let (s, b) = (net.constant(&[8]), net.constant(&[8]));
    let y = net.g.layer_norm(x, s, Some(b), 2, 1e-5);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    assert!(!fused.text().contains("temp %layernorm_0.mean: f32["), "{}", fused.text());

    let mut net = Net::new();
    let x = net.input(&[4, 8]);
    let s = net.constant(&[8]);
    let y = net.g.rms_norm(x, s, 1, 1e-5);
    net.fuse(&[y]).expect(1);

    let mut net = Net::new();
    let x = net.input(&[2, 4, 3, 3]);
    let (s, b) = (net.constant(&[4]), net.constant(&[4]));
    let t = net.g.instance_norm(x, s, b, 1e-5, Default::default());
    let y = net.g.group_norm(t, s, b, 2, 1e-5, Default::default());
    let fused = net.fuse(&[y]);
    assert!(fused.nests() <= 2, "{}", fused.text());
    fused.same_bits();
}

#[test]
fn an_embedding_goes_into_the_normalisation_behind_it() {
    // Lanes run along a row, whose index is read before it: neither sum of the normalisation is a contraction.
    let mut net = Net::new();
    let ids = net.g.input("ids", DType::I64, &[1, 8]);
    let (words, places) = (net.constant(&[40, 32]), net.constant(&[1, 8, 32]));
    let rows = net.g.gather(words, ids, 0);
    let x = net.g.add(rows, places);
    let (s, b) = (net.constant(&[32]), net.constant(&[32]));
    let y = net.g.layer_norm(x, s, Some(b), 2, 1e-5);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    assert!(!fused.refusals().contains(&"scalar"), "{:?}", fused.remarks);
}

#[test]
fn layer_norm_spelled_out_is_a_nest() {
    let mut net = Net::new();
    let x = net.input(&[4, 8]);
    let mean = net.g.reduce_mean(x, &[1], true);
    let d = net.g.sub(x, mean);
    let sq = net.g.mul(d, d);
    let var = net.g.reduce_mean(sq, &[1], true);
    let eps = net.g.scalar(DType::F32, 1e-5);
    let var = net.g.add(var, eps);
    let std = net.g.sqrt(var);
    let n = net.g.div(d, std);
    let s = net.constant(&[8]);
    let y = net.g.mul(n, s);
    net.fuse(&[y]).expect(1);
}

#[test]
fn a_convolution_takes_all_that_follows() {
    for groups in [1, 8] {
        let mut net = Net::new();
        let (x, side) = (net.input(&[1, 8, 6, 6]), net.input(&[1, 8, 6, 6]));
        let t = conv3x3(&mut net, x, 8, 8, groups);
        let t = net.batch_norm(t, 8);
        let t = net.g.add(t, side);
        let y = net.g.relu(t);
        let fused = net.fuse(&[y]);
        fused.expect(1);
        assert_eq!(fused.merges(), ["epilogue"; 3]);
        assert_eq!(fused.after.program.nests[0].name, "conv_0");
    }
}

#[test]
fn an_unnamed_activation_fuses_like_a_named_one() {
    let mut net = Net::new();
    let mut x = net.input(&[2, 3, 6, 6]);
    for from in [3, 4] {
        let t = conv3x3(&mut net, x, from, 4, 1);
        let b = net.constant(&[4]);
        let t = net.g.bias_add(t, b, 1);
        let s = net.g.sigmoid(t);
        x = net.g.mul(t, s);
    }
    let fused = net.fuse(&[x]);
    fused.expect(2);
    assert_eq!(fused.refusals(), ["window"]);
}

#[test]
fn pooling_after_a_convolution_needs_a_window() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 32, 32]);
    let t = conv3x3(&mut net, x, 16, 16, 1);
    let t = net.g.relu(t);
    let y = net.g.max_pool(t, &Pool { strides: vec![2, 2], ..Pool::new(&[3, 3]) });
    let fused = net.fuse(&[y]);
    fused.expect(2);
    assert_eq!(fused.refusals(), ["window"]);
}

fn cell_weights(net: &mut Net, gates: usize, inputs: usize, hidden: usize) -> CellWeights {
    let n = gates * hidden;
    CellWeights {
        input: net.constant(&[n, inputs]),
        hidden: net.constant(&[n, hidden]),
        input_bias: net.constant(&[n]),
        hidden_bias: net.constant(&[n]),
    }
}

#[test]
fn recurrent_cells() {
    for batch in [1, 3] {
        let mut net = Net::new();
        let (x, h, c) = (net.input(&[batch, 12]), net.input(&[batch, 8]), net.input(&[batch, 8]));
        let w = cell_weights(&mut net, 1, 12, 8);
        let y = net.g.rnn_cell(x, h, &w);
        let _ = c;
        net.fuse(&[y]).expect(1);

        let mut net = Net::new();
        let (x, h, c) = (net.input(&[batch, 12]), net.input(&[batch, 8]), net.input(&[batch, 8]));
        let w = cell_weights(&mut net, 4, 12, 8);
        let (h, c) = net.g.lstm_cell(x, h, c, &w);
        net.fuse(&[h, c]).expect(1);

        let mut net = Net::new();
        let (x, h) = (net.input(&[batch, 12]), net.input(&[batch, 8]));
        let w = cell_weights(&mut net, 3, 12, 8);
        let y = net.g.gru_cell(x, h, &w);
        let fused = net.fuse(&[y]);
        assert!(fused.nests() <= 2, "{}", fused.text());
        fused.same_bits();
    }
}

#[test]
fn diamonds_and_several_consumers() {
    let mut net = Net::new();
    let x = net.input(&[5, 7]);
    let t = net.g.exp(x);
    let (a, b) = (net.g.sigmoid(t), net.g.tanh(t));
    let c = net.g.mul(a, b);
    let y = net.g.add(c, t);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    assert_eq!(fused.text().matches("exp(").count(), 1, "computed once: {}", fused.text());
}

#[test]
fn outputs_are_stored_and_used_from_a_register() {
    let mut net = Net::new();
    let x = net.input(&[5, 7]);
    let a = net.g.exp(x);
    let b = net.g.tanh(a);
    let fused = net.fuse(&[a, b]);
    fused.expect(1);
    assert!(!fused.text().contains("tanh(%y0["), "{}", fused.text());
}

#[test]
fn broadcasts() {
    let mut net = Net::new();
    let (x, row, one) = (net.input(&[4, 5, 6]), net.input(&[5, 1]), net.input(&[1]));
    let t = net.g.mul(row, one);
    let t = net.g.expand(t, &[5, 6]);
    let y = net.g.add(x, t);
    let y = net.g.mul(y, one);
    let fused = net.fuse(&[y]);
    fused.same_bits();
    assert!(fused.nests() <= 2, "{}", fused.text());
}

#[test]
fn movement_disappears_into_its_consumers() {
    let mut net = Net::new();
    let x = net.input(&[2, 3, 4, 4]);
    let t = net.g.transpose(x, &[0, 2, 3, 1]);
    let parts = net.g.split(t, 3, &[1, 2]);
    let t = net.g.pad(parts[1], &[0, 1, 1, 0], &[0, 1, 1, 0], nestjit::graph::PadMode::Constant(0.0));
    let y = net.g.relu(t);
    let z = net.g.exp(parts[0]);
    net.fuse(&[y, z]).expect(2);
}

#[test]
fn explicit_padding_becomes_the_convolutions() {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 6, 6]);
    let t = net.g.pad(x, &[0, 0, 1, 1], &[0, 0, 1, 1], nestjit::graph::PadMode::Constant(0.0));
    let y = conv3x3(&mut net, t, 3, 4, 1);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    assert_eq!(fused.merges(), ["prologue"]);
}

#[test]
fn concatenation_is_written_by_its_operands() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 6, 6]);
    let a = conv3x3(&mut net, x, 4, 8, 1);
    let b = conv3x3(&mut net, x, 4, 6, 1);
    let a = net.g.relu(a);
    let b = net.g.tanh(b);
    let y = net.g.concat(&[a, b], 1);
    net.fuse(&[y]).expect(2);

    let mut net = Net::new();
    let (x, z) = (net.input(&[3, 4]), net.input(&[3, 2]));
    let y = net.g.concat(&[x, z, x], 1);
    net.fuse(&[y]).expect(1);
}

#[test]
fn a_dense_block_has_one_buffer() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 6, 6]);
    let mut features = vec![conv3x3(&mut net, x, 4, 8, 1)];
    for i in 0..3 {
        let t = net.g.concat(&features, 1);
        let t = net.batch_norm(t, 8 + 4 * i);
        let t = net.g.relu(t);
        features.push(conv3x3(&mut net, t, 8 + 4 * i, 4, 1));
    }
    let y = net.g.concat(&features, 1);
    let y = net.g.relu(y);
    let fused = net.fuse(&[y]);
    // What follows a part is computed in the rows of the convolution that completes the input.
    fused.expect(4);
    assert_eq!(fused.merges().iter().filter(|m| **m == "view").count(), 6, "{:#?}", fused.remarks);
    let concatenated = |op: &String| op.starts_with("Concat");
    assert_eq!(
        fused.after.program.nests.iter().flat_map(|n| &n.ops).filter(|op| concatenated(op)).count(),
        4
    );
}

#[test]
fn a_part_is_read_where_it_lies_unless_padding_cuts_through_it() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 6, 6]);
    let (a, b) = (conv3x3(&mut net, x, 4, 8, 1), conv3x3(&mut net, x, 4, 8, 1));
    let wide = net.g.concat(&[a, b], 1);
    let high = net.g.concat(&[a, b], 2);
    // Padding of `a` along the channels, which the first concatenation cuts.
    let t = net.g.pad(a, &[0, 1, 0, 0], &[0, 1, 0, 0], nestjit::graph::PadMode::Constant(0.5));
    let t = net.g.exp(t);
    let fused = net.fuse(&[wide, high, t]);
    fused.same_bits();
    fused.compiled_agrees();
}

#[test]
fn a_nest_that_reads_one_part_and_writes_another_keeps_its_loops_independent() {
    let mut net = Net::new();
    let x = net.input(&[1, 4, 6, 6]);
    let a = conv3x3(&mut net, x, 4, 16, 1);
    let a = net.g.relu(a);
    let w = net.constant(&[16, 16, 1, 1]);
    let b = net.g.conv2d(a, w, None, Conv2d::default());
    let y = net.g.concat(&[a, b], 1);
    net.fuse(&[y]).expect(2);
}

#[test]
fn flattening_a_convolution_costs_nothing() {
    let mut net = Net::new();
    let x = net.input(&[2, 3, 6, 6]);
    let t = conv3x3(&mut net, x, 3, 4, 1);
    let t = net.g.relu(t);
    let t = net.g.flatten(t, 1);
    let w = net.constant(&[144, 5]);
    let y = net.g.matmul(t, w);
    let fused = net.fuse(&[y]);
    fused.expect(2);
    assert_eq!(fused.refusals(), ["second-contraction"]);

    // An input cannot be written flat: the reduction reads it as it is.
    let mut net = Net::new();
    let x = net.input(&[9, 3, 5]);
    let t = net.g.flatten(x, 1);
    let y = dense(&mut net, t, 15, 24);
    net.fuse(&[y]).expect(1);
}

#[test]
fn two_contractions_meet_in_an_addition() {
    let mut net = Net::new();
    let (x, z) = (net.input(&[1, 4, 6, 6]), net.input(&[1, 4, 6, 6]));
    let a = conv3x3(&mut net, x, 4, 8, 1);
    let b = conv3x3(&mut net, z, 4, 8, 1);
    let t = net.g.add(a, b);
    let y = net.g.relu(t);
    let fused = net.fuse(&[y]);
    // The sum follows one of them: accumulators of both would not fit the registers.
    fused.expect(2);
    assert_eq!(fused.refusals(), ["second-contraction"]);

    // Vectors times matrices have no tiles.
    let mut net = Net::new();
    let (x, z) = (net.input(&[1, 16]), net.input(&[1, 16]));
    let (v, w) = (net.constant(&[16, 24]), net.constant(&[16, 24]));
    let (a, b) = (net.g.matmul(x, v), net.g.matmul(z, w));
    let t = net.g.add(a, b);
    let y = net.g.tanh(t);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    assert!(fused.merges().contains(&"sibling"));
}

#[test]
fn a_residual_does_not_close_a_cycle() {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 6, 6]);
    let t = conv3x3(&mut net, x, 8, 8, 1);
    let t = net.g.relu(t);
    let u = conv3x3(&mut net, t, 8, 8, 1);
    let u = net.g.add(u, t);
    let y = net.g.relu(u);
    let fused = net.fuse(&[y]);
    fused.expect(2);
    let refusals = fused.refusals();
    assert_eq!(refusals, ["window"], "{:#?}", fused.remarks);
}

#[test]
fn transposed_chains_and_rows() {
    let mut net = Net::new();
    let (q, k) = (net.input(&[2, 3, 6, 4]), net.input(&[2, 3, 6, 4]));
    let kt = net.g.transpose(k, &[0, 1, 3, 2]);
    let s = net.g.matmul(q, kt);
    let scale = net.g.scalar(DType::F32, 0.5);
    let s = net.g.mul(s, scale);
    let mask = net.input(&[2, 1, 1, 6]);
    let s = net.g.add(s, mask);
    let y = net.g.softmax(s, 3);
    let fused = net.fuse(&[y]);
    assert!(fused.nests() <= 2, "{}", fused.text());
    fused.same_bits();
}

#[test]
fn long_attention_goes_in_blocks_of_rows() {
    let mut net = Net::new();
    let (q, k, v) = (net.input(&[4, 256, 8]), net.input(&[4, 640, 8]), net.input(&[4, 640, 8]));
    let k = net.g.transpose(k, &[0, 2, 1]);
    let s = net.g.matmul(q, k);
    let scale = net.g.scalar(DType::F32, 0.5);
    let s = net.g.mul(s, scale);
    let s = net.g.softmax(s, 2);
    let y = net.g.matmul(s, v);
    let fused = net.fuse(&[y]);
    fused.expect(1);
    let program = &fused.after.program;
    let largest = program.buf_ids().map(|b| program.buf(b)).filter(|b| b.role == nestjit::ir::Role::Local);
    assert_eq!(largest.map(|b| b.len()).max(), Some(64 * 640), "{}", fused.text());
}

#[test]
fn a_long_chain_becomes_a_few_nests() {
    let mut net = Net::new();
    let mut x = net.input(&[16]);
    for i in 0..1000 {
        x = if i % 2 == 0 { net.g.tanh(x) } else { net.g.neg(x) };
    }
    let fused = net.fuse(&[x]);
    assert!(fused.nests() < 20, "{}", fused.nests());
    fused.same_bits();
}

#[test]
fn squeeze_and_excite_sums_in_the_convolution() {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 28, 28]);
    let t = conv3x3(&mut net, x, 16, 16, 16);
    let t = net.batch_norm(t, 16);
    let s = net.g.sigmoid(t);
    let t = net.g.mul(t, s);
    let p = net.g.global_average_pool(t, Default::default());
    let (down, up) = (net.constant(&[4, 16, 1, 1]), net.constant(&[16, 4, 1, 1]));
    let f = net.g.conv2d(p, down, None, Conv2d::default());
    let f = net.g.relu(f);
    let f = net.g.conv2d(f, up, None, Conv2d::default());
    let f = net.g.sigmoid(f);
    let t = net.g.mul(t, f);
    let w = net.constant(&[24, 16, 1, 1]);
    let t = net.g.conv2d(t, w, None, Conv2d::default());
    let y = net.batch_norm(t, 24);
    let fused = net.fuse(&[y]);
    // The sums and both products follow the convolution, the scale goes into the next one.
    assert_eq!(fused.nests(), 2, "{}", fused.text());
    fused.compiled_agrees();
    let nests = &fused.after.program.nests;
    assert!(nests[0].ops.iter().any(|op| op.starts_with("GlobalAveragePool")));
    assert!(nests[1].ops[0].starts_with("Mul"), "{:?}", nests[1].ops);
}

#[test]
fn attention_is_a_nest_per_contraction() {
    let mut net = Net::new();
    let x = net.input(&[12, 32]);
    let heads = |net: &mut Net| {
        let t = dense(net, x, 32, 32);
        let t = net.g.reshape(t, &[12, 4, 8]);
        net.g.transpose(t, &[1, 0, 2])
    };
    let (q, k, v) = (heads(&mut net), heads(&mut net), heads(&mut net));
    let k = net.g.transpose(k, &[0, 2, 1]);
    let s = net.g.matmul(q, k);
    let scale = net.g.scalar(DType::F32, 0.35);
    let s = net.g.mul(s, scale);
    let s = net.g.softmax(s, 2);
    let o = net.g.matmul(s, v);
    let o = net.g.transpose(o, &[1, 0, 2]);
    let o = net.g.reshape(o, &[12, 32]);
    let o = dense(&mut net, o, 32, 32);
    let o = net.g.add(o, x);
    let (s, b) = (net.constant(&[32]), net.constant(&[32]));
    let y = net.g.layer_norm(o, s, Some(b), 1, 1e-5);
    let fused = net.fuse(&[y]);
    // All heads follow one of the three products, and the norm the last: so small ones share nests.
    fused.expect(3);
}
