//! Recurrent layers: ONNX's equations, one step after the other.

use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis, Ix2, Ix3, s};

use super::Array;
use super::scalar::{maximum, minimum, unary_float};
use crate::graph::{Direction, RecurrentKind, Unary};

/// The weights of one direction.
struct Weights<'a> {
    w: ArrayView2<'a, f64>,
    r: ArrayView2<'a, f64>,
    /// Beside the input's product and beside the state's.
    biases: [Array1<f64>; 2],
}

/// One direction of a layer.
struct Layer<'a> {
    kind: RecurrentKind,
    hidden: usize,
    weights: Weights<'a>,
    activations: &'a [Unary],
    clip: Option<f64>,
}

impl Layer<'_> {
    fn activate(&self, which: usize, argument: Array2<f64>) -> Array2<f64> {
        argument.mapv_into(|v| {
            let v = self.clip.map_or(v, |clip| minimum(maximum(v, -clip), clip));
            unary_float(self.activations[which], v)
        })
    }

    /// `x W' + b`, the columns of one gate.
    fn input_part(&self, x: ArrayView2<f64>, gate: usize) -> Array2<f64> {
        let columns = s![gate * self.hidden..(gate + 1) * self.hidden, ..];
        let bias = self.weights.biases[0].slice(s![gate * self.hidden..(gate + 1) * self.hidden]);
        x.dot(&self.weights.w.slice(columns).t()) + bias
    }

    /// `h R' + b`, the columns of one gate.
    fn state_part(&self, h: &Array2<f64>, gate: usize) -> Array2<f64> {
        let columns = s![gate * self.hidden..(gate + 1) * self.hidden, ..];
        let bias = self.weights.biases[1].slice(s![gate * self.hidden..(gate + 1) * self.hidden]);
        h.dot(&self.weights.r.slice(columns).t()) + bias
    }

    /// The state after one step; an LSTM's cell is updated.
    fn step(&self, x: ArrayView2<f64>, h: &Array2<f64>, c: &mut Array2<f64>) -> Array2<f64> {
        let gate = |gate: usize| self.input_part(x, gate) + self.state_part(h, gate);
        match self.kind {
            RecurrentKind::Rnn => self.activate(0, gate(0)),
            RecurrentKind::Lstm => {
                let input = self.activate(0, gate(0));
                let output = self.activate(0, gate(1));
                let forget = self.activate(0, gate(2));
                let cell = self.activate(1, gate(3));
                *c = forget * &*c + input * cell;
                output * c.mapv(|v| unary_float(self.activations[2], v))
            }
            RecurrentKind::Gru { linear_before_reset } => {
                let update = self.activate(0, gate(0));
                let reset = self.activate(0, gate(1));
                let state_part = if linear_before_reset {
                    reset * self.state_part(h, 2)
                } else {
                    self.state_part(&(reset * h), 2)
                };
                let new = self.activate(1, self.input_part(x, 2) + state_part);
                (1.0 - &update) * new + update * h
            }
        }
    }
}

pub(super) fn recurrent(
    inputs: &[&Array],
    kind: RecurrentKind,
    hidden: usize,
    direction: Direction,
    activations: &[Unary],
    clip: Option<f64>,
) -> Vec<Array> {
    let dtype = inputs[0].dtype;
    let three = |values: &ArrayD<f64>| {
        values.clone().into_dimensionality::<Ix3>().expect("inference checks that the rank is 3")
    };
    let x = three(inputs[0].floats());
    let (w, r) = (three(inputs[1].floats()), three(inputs[2].floats()));
    let (steps, batch) = (x.shape()[0], x.shape()[1]);
    let directions = direction.count();
    let rows = kind.gates() * hidden;
    let initial = |operand: usize| match inputs.get(operand) {
        Some(state) => three(state.floats()),
        None => ndarray::Array3::zeros((directions, batch, hidden)),
    };
    let (mut last_h, mut last_c) = (initial(4), initial(5));
    let mut y = ndarray::Array4::zeros((steps, directions, batch, hidden));
    for d in 0..directions {
        let bias = match inputs.get(3) {
            Some(b) => {
                let b = b.floats().view().into_dimensionality::<Ix2>().expect("the bias has rank 2");
                b.index_axis_move(Axis(0), d).to_owned()
            }
            None => Array1::zeros(2 * rows),
        };
        let per_direction = activations.len() / directions;
        let layer = Layer {
            kind,
            hidden,
            weights: Weights {
                w: w.index_axis(Axis(0), d),
                r: r.index_axis(Axis(0), d),
                biases: [bias.slice(s![..rows]).to_owned(), bias.slice(s![rows..]).to_owned()],
            },
            activations: &activations[d * per_direction..][..per_direction],
            clip,
        };
        let mut h = last_h.index_axis(Axis(0), d).to_owned();
        let mut c = last_c.index_axis(Axis(0), d).to_owned();
        for step in 0..steps {
            let backwards = direction == Direction::Reverse || d == 1;
            let t = if backwards { steps - 1 - step } else { step };
            h = layer.step(x.index_axis(Axis(0), t), &h, &mut c);
            y.slice_mut(s![t, d, .., ..]).assign(&h);
        }
        last_h.index_axis_mut(Axis(0), d).assign(&h);
        last_c.index_axis_mut(Axis(0), d).assign(&c);
    }
    let mut results = vec![Array::float(dtype, y.into_dyn()), Array::float(dtype, last_h.into_dyn())];
    if kind == RecurrentKind::Lstm {
        results.push(Array::float(dtype, last_c.into_dyn()));
    }
    results
}
