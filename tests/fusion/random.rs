//! Random graphs: fused programs compute the same bits.

use nestjit::graph::ValueId;
use proptest::prelude::*;

use crate::harness::{Fused, Net};

/// Builds a graph from numbers that choose operations and operands. Values are `[3, 4, 4]` or reduced to
/// `[3, 4]`.
fn build(choices: &[(u8, u16)], outputs: usize) -> Fused {
    let mut net = Net::new();
    let mut cubes = vec![net.input(&[3, 4, 4])];
    let mut rows: Vec<ValueId> = Vec::new();
    for &(op, pick) in choices {
        let x = cubes[pick as usize % cubes.len()];
        let y = cubes[(pick as usize / 7) % cubes.len()];
        match op % 18 {
            0 => cubes.push(net.g.relu(x)),
            1 => cubes.push(net.g.sigmoid(x)),
            2 => cubes.push(net.g.add(x, y)),
            3 => cubes.push(net.g.mul(x, y)),
            4 => cubes.push(net.g.transpose(x, &[0, 2, 1])),
            5 => cubes.push(net.g.softmax(x, 2)),
            6 => {
                let w = net.constant(&[4, 4]);
                cubes.push(net.g.matmul(x, w));
            }
            7 => rows.push(net.g.reduce_sum(x, &[2], false)),
            8 => rows.push(net.g.reduce_max(x, &[1], false)),
            9 if !rows.is_empty() => {
                let row = rows[pick as usize % rows.len()];
                let t = net.g.unsqueeze(row, &[2]);
                cubes.push(net.g.sub(x, t));
            }
            10 if !rows.is_empty() => {
                let row = rows[pick as usize % rows.len()];
                let t = net.g.unsqueeze(row, &[1]);
                cubes.push(net.g.add(x, t));
            }
            11 => {
                let t = net.g.reshape(x, &[12, 4]);
                let t = net.g.tanh(t);
                cubes.push(net.g.reshape(t, &[3, 4, 4]));
            }
            12 => {
                let parts = net.g.split(x, 1, &[1, 3]);
                cubes.push(net.g.concat(&[parts[1], parts[0]], 1));
            }
            13 => {
                let pad = nestjit::graph::PadMode::Constant(0.5);
                let t = net.g.pad(x, &[0, 1, 0], &[0, 1, 2], pad);
                cubes.push(net.g.slice(t, &[0, 1, 1], &[3, 4, 4], &[1, 1, 1]));
            }
            14 => cubes.push(net.g.matmul(x, y)),
            15 => {
                let (s, b) = (net.constant(&[4]), net.constant(&[4]));
                cubes.push(net.g.layer_norm(x, s, Some(b), 2, 1e-3));
            }
            16 => {
                let t = net.g.reduce_mean(x, &[0], true);
                cubes.push(net.g.sub(x, t));
            }
            17 => cubes.push(net.g.slice(x, &[0, 3, 0], &[3, 4, 4], &[1, -1, 1])),
            _ => cubes.push(net.g.exp(x)),
        }
    }
    let mut outputs: Vec<ValueId> = cubes.iter().rev().take(outputs).copied().collect();
    outputs.extend(rows.last());
    net.fuse(&outputs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn fused_programs_compute_the_same_bits(
        choices in prop::collection::vec((any::<u8>(), any::<u16>()), 1..14),
        outputs in 1usize..4,
    ) {
        let fused = build(&choices, outputs);
        fused.same_bits();
        if choices.len() % 4 == 0 {
            fused.compiled_agrees();
        }
        prop_assert!(fused.nests() <= fused.before.program.nests.len());
    }
}
