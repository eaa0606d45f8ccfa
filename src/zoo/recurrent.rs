//! Recurrent models.

use nestjit_ir::DType;

use crate::error::Result;
use crate::graph::builder::{CellWeights, RecurrentOperands, RecurrentOptions};
use crate::graph::{GraphBuilder, Model, RecurrentKind, ValueId, Weights};

/// The size of the state, and of the input.
const HIDDEN: usize = 128;

/// PyTorch's initialisation: uniform, scaled by the size of the state.
fn cell_weights(g: &mut GraphBuilder, kind: RecurrentKind, seed: u64) -> Result<CellWeights> {
    let mut weights = Weights::new(seed);
    let rows = kind.gates() * HIDDEN;
    let limit = 1.0 / (HIDDEN as f32).sqrt();
    let mut add = |name: &str, shape: &[usize]| -> Result<ValueId> {
        Ok(g.constant(name, weights.uniform(shape, -limit, limit)?))
    };
    Ok(CellWeights {
        input: add("weight_ih", &[rows, HIDDEN])?,
        hidden: add("weight_hh", &[rows, HIDDEN])?,
        input_bias: add("bias_ih", &[rows])?,
        hidden_bias: add("bias_hh", &[rows])?,
    })
}

/// One step of an RNN.
pub(super) fn rnn_cell() -> Result<Model> {
    let mut g = GraphBuilder::new("rnn_cell");
    let x = g.input("input", DType::F32, &[1, HIDDEN]);
    let h = g.input("hidden", DType::F32, &[1, HIDDEN]);
    let weights = cell_weights(&mut g, RecurrentKind::Rnn, 70)?;
    let next = g.rnn_cell(x, h, &weights);
    g.output("next_hidden", next);
    Ok(g.build()?.into())
}

/// One step of an LSTM, written out in matrix products, sums, gates.
pub(super) fn lstm_cell() -> Result<Model> {
    let mut g = GraphBuilder::new("lstm_cell");
    let x = g.input("input", DType::F32, &[1, HIDDEN]);
    let h = g.input("hidden", DType::F32, &[1, HIDDEN]);
    let c = g.input("cell", DType::F32, &[1, HIDDEN]);
    let weights = cell_weights(&mut g, RecurrentKind::Lstm, 80)?;
    let (next_h, next_c) = g.lstm_cell(x, h, c, &weights);
    g.output("next_hidden", next_h);
    g.output("next_cell", next_c);
    Ok(g.build()?.into())
}

/// A whole sequence, as one operation.
pub(super) fn lstm_seq() -> Result<Model> {
    let mut weights = Weights::new(90);
    let mut g = GraphBuilder::new("lstm_seq");
    let x = g.input("input", DType::F32, &[64, 1, HIDDEN]);
    let limit = 1.0 / (HIDDEN as f32).sqrt();
    let mut add = |name: &str, shape: &[usize]| -> Result<ValueId> {
        Ok(g.constant(name, weights.uniform(shape, -limit, limit)?))
    };
    let w = add("w", &[1, 4 * HIDDEN, HIDDEN])?;
    let r = add("r", &[1, 4 * HIDDEN, HIDDEN])?;
    let b = add("b", &[1, 8 * HIDDEN])?;
    let operands = RecurrentOperands { x, w, r, b: Some(b), initial_h: None, initial_c: None };
    let states = g.named("lstm").recurrent(RecurrentKind::Lstm, &operands, &RecurrentOptions::default());
    let y = g.named("squeeze").squeeze(states[0], &[1]);
    g.output("output", y);
    Ok(g.build()?.into())
}
