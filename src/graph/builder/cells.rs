//! Recurrent layers: whole sequences as one operation, and single cells written out in primitive ones, the
//! way PyTorch exports them.

use super::{Gemm, GraphBuilder};
use crate::graph::{Direction, Op, RecurrentKind, Unary, ValueId};
use crate::tensor::Tensor;

/// The weights of a cell, as PyTorch keeps them: `[gates * hidden, inputs]`, `[gates * hidden, hidden]`, and
/// two biases `[gates * hidden]`.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights {
    /// The weight of the input.
    pub input: ValueId,
    /// The weight of the state.
    pub hidden: ValueId,
    /// The bias beside the input's product.
    pub input_bias: ValueId,
    /// The bias beside the state's product.
    pub hidden_bias: ValueId,
}

/// The operands of a recurrent layer; shapes as [`Op::Recurrent`] says.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentOperands {
    /// The sequence.
    pub x: ValueId,
    /// The weight of the input.
    pub w: ValueId,
    /// The weight of the state.
    pub r: ValueId,
    /// The bias; zeros if left out.
    pub b: Option<ValueId>,
    /// The initial state; zeros if left out.
    pub initial_h: Option<ValueId>,
    /// The initial cell of an LSTM; zeros if left out.
    pub initial_c: Option<ValueId>,
}

/// What a recurrent layer can be told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RecurrentOptions {
    /// In which order the sequence is read.
    pub direction: Direction,
    /// The activations, per direction; empty: sigmoid for gates, tanh for the rest.
    pub activations: Vec<Unary>,
    /// Bounds of the gates' arguments.
    pub clip: Option<f64>,
}

impl GraphBuilder {
    /// A recurrent layer over a whole sequence. Returns all states, the last state and, for an LSTM, the last
    /// cell.
    pub fn recurrent(
        &mut self,
        kind: RecurrentKind,
        operands: &RecurrentOperands,
        options: &RecurrentOptions,
    ) -> Vec<ValueId> {
        let RecurrentOperands { x, w, r, b, initial_h, initial_c } = *operands;
        let RecurrentOptions { direction, activations, clip } = options.clone();
        let directions = direction.count();
        let hidden = self.shape(r).last().copied().unwrap_or(0);
        let batch = self.shape(x).get(1).copied().unwrap_or(0);
        // Operands are positional: one that is left out before one that is given is zeros.
        let mut inputs = vec![x, w, r];
        let optional = [
            (b, vec![directions, 2 * kind.gates() * hidden]),
            (initial_h, vec![directions, batch, hidden]),
            (initial_c, vec![directions, batch, hidden]),
        ];
        let given = optional.iter().rposition(|(operand, _)| operand.is_some()).map_or(0, |last| last + 1);
        for (operand, shape) in &optional[..given] {
            let zeros = || Tensor::zeros(self.dtype(x), shape);
            let operand = match operand {
                Some(operand) => *operand,
                None => match zeros() {
                    Ok(zeros) => self.constant("zeros", zeros),
                    Err(e) => self.fail_at("Recurrent", e),
                },
            };
            inputs.push(operand);
        }
        let activations = if activations.is_empty() {
            let one: &[Unary] = match kind {
                RecurrentKind::Rnn => &[Unary::Tanh],
                RecurrentKind::Lstm => &[Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
                RecurrentKind::Gru { .. } => &[Unary::Sigmoid, Unary::Tanh],
            };
            one.repeat(directions)
        } else {
            activations
        };
        self.node("", Op::Recurrent { kind, hidden, direction, activations, clip }, &inputs)
    }

    /// The two products of a cell: of the input and of the state, biases added.
    fn cell_products(&mut self, x: ValueId, h: ValueId, weights: &CellWeights) -> (ValueId, ValueId) {
        let options = Gemm { trans_b: true, ..Gemm::default() };
        let from_input = self.gemm(x, weights.input, Some(weights.input_bias), options);
        let from_state = self.gemm(h, weights.hidden, Some(weights.hidden_bias), options);
        (from_input, from_state)
    }

    /// Cuts `[batch, parts * hidden]` into `parts`.
    fn gates<const N: usize>(&mut self, x: ValueId) -> [ValueId; N] {
        let width = self.shape(x).last().copied().unwrap_or(0);
        let parts = self.split(x, 1, &[width / N; N]);
        std::array::from_fn(|i| parts[i])
    }

    /// One step of an RNN: `tanh(x W' + b + h R' + c)`. Returns the new state.
    pub fn rnn_cell(&mut self, x: ValueId, h: ValueId, weights: &CellWeights) -> ValueId {
        self.composite(|g| {
            let (from_input, from_state) = g.cell_products(x, h, weights);
            let sum = g.add(from_input, from_state);
            g.tanh(sum)
        })
    }

    /// One step of an LSTM, gates in PyTorch's order: input, forget, cell, output. Returns the new state and
    /// the new cell.
    pub fn lstm_cell(
        &mut self,
        x: ValueId,
        h: ValueId,
        c: ValueId,
        weights: &CellWeights,
    ) -> (ValueId, ValueId) {
        self.composite(|g| {
            let (from_input, from_state) = g.cell_products(x, h, weights);
            let sum = g.add(from_input, from_state);
            let [input, forget, cell, output] = g.gates(sum);
            let (input, forget) = (g.sigmoid(input), g.sigmoid(forget));
            let (cell, output) = (g.tanh(cell), g.sigmoid(output));
            let kept = g.mul(forget, c);
            let added = g.mul(input, cell);
            let new_cell = g.add(kept, added);
            let activated = g.tanh(new_cell);
            (g.mul(output, activated), new_cell)
        })
    }

    /// One step of a GRU, gates in PyTorch's order: reset, update, new. Returns the new state.
    pub fn gru_cell(&mut self, x: ValueId, h: ValueId, weights: &CellWeights) -> ValueId {
        self.composite(|g| {
            let (from_input, from_state) = g.cell_products(x, h, weights);
            let [reset_x, update_x, new_x] = g.gates(from_input);
            let [reset_h, update_h, new_h] = g.gates(from_state);
            let reset = g.add(reset_x, reset_h);
            let reset = g.sigmoid(reset);
            let update = g.add(update_x, update_h);
            let update = g.sigmoid(update);
            let gated = g.mul(reset, new_h);
            let new = g.add(new_x, gated);
            let new = g.tanh(new);
            // (1 - u) * n + u * h, with one product less.
            let difference = g.sub(h, new);
            let step = g.mul(update, difference);
            g.add(step, new)
        })
    }
}
