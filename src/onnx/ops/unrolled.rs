//! Recurrent layers step by step: for what the core operation does not have (sequences of different lengths,
//! peepholes, coupled gates).

use nestjit_ir::DType;

use super::dynamic_lstm::DynamicWeights;
use super::quantize::rounded_to_bytes;
use super::{Halt, NodeCx, Result};
use crate::graph::{Binary, Direction, Op, RecurrentKind, Unary, ValueId};

/// The longest sequence that is unrolled.
const STEPS: usize = 10_000;

/// A layer with operands as in ONNX, `x` and states with the batch second.
pub(super) struct Layer {
    pub kind: RecurrentKind,
    pub hidden: usize,
    pub direction: Direction,
    pub activations: Vec<Unary>,
    pub clip: Option<f64>,
    /// Whether the forget gate is one minus the input gate.
    pub input_forget: bool,
    pub x: ValueId,
    pub weights: Weights,
    pub bias: Option<ValueId>,
    pub lengths: Option<ValueId>,
    pub initial_h: Option<ValueId>,
    pub initial_c: Option<ValueId>,
    pub peepholes: Option<ValueId>,
}

/// What multiplies the sequence and the state.
pub(super) enum Weights {
    /// `w [D, G * H, I]` and `r [D, G * H, H]`.
    Floats { w: ValueId, r: ValueId },
    /// Integers of 8 bits, under which the state is quantised in each step, and the sequence has been.
    Bytes(DynamicWeights),
}

impl Weights {
    /// The shape of the recurrent weights, as floats have it if the rank is 3.
    pub fn recurrent_shape(&self, cx: &NodeCx<'_>) -> Vec<usize> {
        match self {
            Weights::Floats { r, .. } => cx.shape(*r),
            Weights::Bytes(weights) => weights.shapes(cx)[1].to_vec(),
        }
    }
}

/// What one direction works with; matrices are transposed, biases rows.
struct Part {
    /// `x W + b` of all steps: `[T, B, G * H]`.
    projected: ValueId,
    r: ValueId,
    /// The recurrent bias of the hidden gate of a GRU, which stays apart.
    hidden_bias: Option<ValueId>,
    /// Of the input, output and forget gate.
    peepholes: Option<[ValueId; 3]>,
    activations: Vec<Unary>,
}

impl Layer {
    /// That the operands fit each other: what follows takes that for granted.
    pub fn check(&self, cx: &NodeCx<'_>) -> Result<()> {
        let (d, n) = (self.direction.count(), self.hidden);
        let rows = self.kind.gates() * n;
        let x = cx.shape(self.x);
        let states = [self.initial_h, self.initial_c].map(|state| (state, vec![d, x[1], n]));
        let weights = match &self.weights {
            Weights::Floats { w, r } => [cx.shape(*w), cx.shape(*r)],
            Weights::Bytes(weights) => weights.shapes(cx).map(Vec::from),
        };
        let weights = weights.map(Some).into_iter().zip([vec![d, rows, x[2]], vec![d, rows, n]]);
        let others = [(self.bias, vec![d, 2 * rows]), (self.peepholes, vec![d, 3 * n])];
        let others =
            others.into_iter().chain(states).map(|(operand, shape)| (operand.map(|id| cx.shape(id)), shape));
        for (given, expected) in weights.chain(others) {
            if let Some(given) = given
                && given != expected
            {
                return Err(Halt::shape(format!(
                    "an operand of shape {given:?} was given where {expected:?} is needed"
                )));
            }
        }
        let functions = match self.kind {
            RecurrentKind::Rnn => 1,
            RecurrentKind::Lstm => 3,
            RecurrentKind::Gru { .. } => 2,
        };
        match self.activations.len() == d * functions {
            true => Ok(()),
            false => Err(Halt::invalid(format!("{} activations are needed", d * functions))),
        }
    }

    /// `y [T, D, B, H]`, `y_h [D, B, H]`, and `y_c` of an LSTM.
    pub fn import(&self, cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
        let [steps, batch, _] = cx.shape(self.x)[..] else {
            return Err(Halt::internal("a sequence of another rank"));
        };
        if steps > STEPS {
            return Err(Halt::limit(format!("there are {steps} steps, but at most {STEPS} are unrolled")));
        }
        let directions = self.direction.count();
        let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..directions {
            let weights = self.direction_part(cx, d)?;
            let reverse = self.direction == Direction::Reverse || d == 1;
            let mut h = self.state(cx, self.initial_h, d, batch)?;
            let mut c = self.state(cx, self.initial_c, d, batch)?;
            let zero = cx.scalar_like(self.x, 0.0);
            let mut y = vec![zero; steps];
            // What the next step quantises: sequences that have ended are zeros there, those that are yet to begin are not.
            let mut shown = h;
            for i in 0..steps {
                let t = if reverse { steps - 1 - i } else { i };
                let x = cx.narrow(weights.projected, 0, t, 1)?;
                let shape = cx.shape(x);
                let x = cx.reshape(x, &shape[1..])?;
                let (new_h, new_c) = self.step(cx, &weights, x, [h, shown], c)?;
                (h, c, y[t]) = match self.lengths {
                    None => (new_h, new_c, new_h),
                    // A sequence that has ended keeps its state and yields zeros.
                    Some(lengths) => {
                        let at = cx.scalar(DType::I64, t as f64);
                        let running = cx.binary(Binary::Gt, lengths, at)?;
                        (
                            cx.select(running, new_h, h)?,
                            cx.select(running, new_c, c)?,
                            cx.select(running, new_h, zero)?,
                        )
                    }
                };
                shown = if reverse { h } else { y[t] };
            }
            let mut rows = Vec::with_capacity(steps);
            for y in y {
                rows.push(cx.reshape(y, &[1, 1, batch, self.hidden])?);
            }
            if rows.is_empty() {
                return Err(Halt::unsupported("a sequence without a step is not supported"));
            }
            ys.push(cx.concat(&rows, 0)?);
            hs.push(cx.unsqueeze(h, 0)?);
            cs.push(cx.unsqueeze(c, 0)?);
        }
        let mut results = vec![cx.concat(&ys, 1)?, cx.concat(&hs, 0)?];
        if self.kind == RecurrentKind::Lstm {
            results.push(cx.concat(&cs, 0)?);
        }
        Ok(results)
    }

    /// Direction `d` of an operand whose first dimension is the direction.
    fn part(&self, cx: &mut NodeCx<'_>, operand: ValueId, d: usize) -> Result<ValueId> {
        let part = cx.narrow(operand, 0, d, 1)?;
        let shape = cx.shape(part);
        cx.reshape(part, &shape[1..])
    }

    fn state(&self, cx: &mut NodeCx<'_>, state: Option<ValueId>, d: usize, batch: usize) -> Result<ValueId> {
        match state {
            Some(state) => self.part(cx, state, d),
            None => {
                let zero = cx.scalar_like(self.x, 0.0);
                cx.expand(zero, &[batch, self.hidden])
            }
        }
    }

    /// The products of all directions with the input, one direction after the other: `[T, B, D * G * H]`, biases included.
    pub fn projected(&self, cx: &mut NodeCx<'_>) -> Result<ValueId> {
        let directions = 0..self.direction.count();
        let parts: Vec<ValueId> =
            directions.map(|d| Ok(self.direction_part(cx, d)?.projected)).collect::<Result<_>>()?;
        match parts[..] {
            [one] => Ok(one),
            _ => cx.concat(&parts, 2),
        }
    }

    fn direction_part(&self, cx: &mut NodeCx<'_>, d: usize) -> Result<Part> {
        let gates = self.kind.gates();
        let rows = gates * self.hidden;
        let [w, r] = match &self.weights {
            Weights::Floats { w, r } => {
                let transposed = |cx: &mut NodeCx<'_>, weight| {
                    let part = self.part(cx, weight, d)?;
                    cx.transpose(part, &[1, 0])
                };
                [transposed(cx, *w)?, transposed(cx, *r)?]
            }
            Weights::Bytes(weights) => weights.matrices(cx, d)?,
        };
        let mut projected = cx.add(Op::MatMul, &[self.x, w])?;
        let mut hidden_bias = None;
        if let Some(bias) = self.bias {
            let bias = self.part(cx, bias, d)?;
            let input = cx.narrow(bias, 0, 0, rows)?;
            let mut recurrent = cx.narrow(bias, 0, rows, rows)?;
            if matches!(self.kind, RecurrentKind::Gru { .. }) {
                hidden_bias = Some(cx.narrow(recurrent, 0, 2 * self.hidden, self.hidden)?);
                let others = cx.narrow(recurrent, 0, 0, 2 * self.hidden)?;
                let zero = cx.scalar_like(self.x, 0.0);
                let zeros = cx.expand(zero, &[self.hidden])?;
                recurrent = cx.concat(&[others, zeros], 0)?;
            }
            let both = cx.binary(Binary::Add, input, recurrent)?;
            projected = cx.binary(Binary::Add, projected, both)?;
        }
        let peepholes = match self.peepholes {
            Some(p) => {
                let p = self.part(cx, p, d)?;
                let gate = |cx: &mut NodeCx<'_>, i: usize| cx.narrow(p, 0, i * self.hidden, self.hidden);
                Some([gate(cx, 0)?, gate(cx, 1)?, gate(cx, 2)?])
            }
            None => None,
        };
        let count = self.activations.len() / self.direction.count();
        let activations = self.activations[d * count..(d + 1) * count].to_vec();
        Ok(Part { projected, r, hidden_bias, peepholes, activations })
    }

    /// An activation of an argument, which is clipped if that is asked for.
    fn activate(&self, cx: &mut NodeCx<'_>, activation: Unary, x: ValueId) -> Result<ValueId> {
        let x = match self.clip {
            Some(clip) => cx.add(Op::Clip { min: Some(-clip), max: Some(clip) }, &[x])?,
            None => x,
        };
        cx.unary(activation, x)
    }

    /// The next state: hidden and cell. `x [B, G * H]` is the step's input, projected; `shown` is the state that an
    /// LSTM with weights of 8 bits quantises.
    fn step(
        &self,
        cx: &mut NodeCx<'_>,
        weights: &Part,
        x: ValueId,
        [h, shown]: [ValueId; 2],
        c: ValueId,
    ) -> Result<(ValueId, ValueId)> {
        let n = self.hidden;
        let act = &weights.activations;
        let gate = |cx: &mut NodeCx<'_>, v: ValueId, i: usize| cx.narrow(v, 1, i * n, n);
        match self.kind {
            RecurrentKind::Rnn => {
                let hr = cx.add(Op::MatMul, &[h, weights.r])?;
                let sum = cx.binary(Binary::Add, x, hr)?;
                Ok((self.activate(cx, act[0], sum)?, c))
            }
            RecurrentKind::Lstm => {
                let seen = match self.weights {
                    Weights::Floats { .. } => h,
                    Weights::Bytes(_) => rounded_to_bytes(cx, shown)?,
                };
                let hr = cx.add(Op::MatMul, &[seen, weights.r])?;
                let sum = cx.binary(Binary::Add, x, hr)?;
                let peep = |cx: &mut NodeCx<'_>, gate: ValueId, i: usize, c: ValueId| match weights.peepholes
                {
                    Some(p) => {
                        let seen = cx.binary(Binary::Mul, p[i], c)?;
                        cx.binary(Binary::Add, gate, seen)
                    }
                    None => Ok(gate),
                };
                let i = gate(cx, sum, 0)?;
                let i = peep(cx, i, 0, c)?;
                let i = self.activate(cx, act[0], i)?;
                let f = if self.input_forget {
                    let one = cx.scalar_like(i, 1.0);
                    cx.binary(Binary::Sub, one, i)?
                } else {
                    let f = gate(cx, sum, 2)?;
                    let f = peep(cx, f, 2, c)?;
                    self.activate(cx, act[0], f)?
                };
                let new = gate(cx, sum, 3)?;
                let new = self.activate(cx, act[1], new)?;
                let (kept, added) = (cx.binary(Binary::Mul, f, c)?, cx.binary(Binary::Mul, i, new)?);
                let c = cx.binary(Binary::Add, kept, added)?;
                let o = gate(cx, sum, 1)?;
                let o = peep(cx, o, 1, c)?;
                let o = self.activate(cx, act[0], o)?;
                let shown = cx.unary(act[2], c)?;
                Ok((cx.binary(Binary::Mul, o, shown)?, c))
            }
            RecurrentKind::Gru { linear_before_reset } => {
                let hr = cx.add(Op::MatMul, &[h, weights.r])?;
                let mut gates = Vec::with_capacity(2);
                for i in 0..2 {
                    let (a, b) = (gate(cx, x, i)?, gate(cx, hr, i)?);
                    let sum = cx.binary(Binary::Add, a, b)?;
                    gates.push(self.activate(cx, act[0], sum)?);
                }
                let (z, reset) = (gates[0], gates[1]);
                let biased = |cx: &mut NodeCx<'_>, v: ValueId| match weights.hidden_bias {
                    Some(bias) => cx.binary(Binary::Add, v, bias),
                    None => Ok(v),
                };
                let recurrent = if linear_before_reset {
                    let product = gate(cx, hr, 2)?;
                    let product = biased(cx, product)?;
                    cx.binary(Binary::Mul, reset, product)?
                } else {
                    let r = gate(cx, weights.r, 2)?;
                    let seen = cx.binary(Binary::Mul, reset, h)?;
                    let product = cx.add(Op::MatMul, &[seen, r])?;
                    biased(cx, product)?
                };
                let input = gate(cx, x, 2)?;
                let sum = cx.binary(Binary::Add, input, recurrent)?;
                let new = self.activate(cx, act[1], sum)?;
                // (1 - z) * new + z * h.
                let one = cx.scalar_like(z, 1.0);
                let rest = cx.binary(Binary::Sub, one, z)?;
                let (added, kept) = (cx.binary(Binary::Mul, rest, new)?, cx.binary(Binary::Mul, z, h)?);
                Ok((cx.binary(Binary::Add, added, kept)?, c))
            }
        }
    }
}
