//! An LSTM with a state in 8 bits, one step after the other.

use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, Axis, Ix2, Ix3, s};

use super::Array;
use super::scalar::{maximum, minimum, unary_float};
use crate::graph::{Direction, Unary};

/// The recurrent weights of a direction.
struct Weights<'a> {
    r: ArrayView2<'a, i64>,
    scale: Array1<f64>,
    zero: Array1<i64>,
}

impl Weights<'_> {
    /// The products with the state, which is quantised as `f32`.
    fn product(&self, h: &Array2<f64>) -> Array2<f64> {
        let low = h.iter().fold(0.0, |a, b| minimum(a, *b)) as f32;
        let high = h.iter().fold(0.0, |a, b| maximum(a, *b)) as f32;
        let span = high - low;
        let scale = if span == 0.0 { 1.0 } else { span / 255.0 };
        let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
        // What is no number becomes 0.
        let byte = |v: f64| ((v as f32 / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8;
        let bytes = h.mapv(|v| i64::from(byte(v)) - i64::from(zero as u8));
        let mut y = Array2::zeros((h.nrows(), self.r.nrows()));
        for ((b, m), y) in y.indexed_iter_mut() {
            let terms = bytes.row(b).into_iter().zip(self.r.row(m));
            let sum: i64 = terms.map(|(q, r)| q * (r - self.zero[m])).sum();
            *y = sum as f64 * (f64::from(scale) * self.scale[m]);
        }
        y
    }
}

pub(super) fn dynamic_quantize_lstm(
    inputs: &[&Array],
    hidden: usize,
    direction: Direction,
    activations: &[Unary],
    clip: Option<f64>,
) -> Vec<Array> {
    let three = |array: &Array| -> Array3<f64> {
        array.floats().clone().into_dimensionality::<Ix3>().expect("inference checks that the rank is 3")
    };
    let x = three(inputs[0]);
    let r = inputs[1].ints().view().into_dimensionality::<Ix3>().expect("the weight has rank 3");
    let scale = inputs[2].floats().view().into_dimensionality::<Ix2>().expect("scales have rank 2");
    let zero = inputs[3].ints().view().into_dimensionality::<Ix2>().expect("zero points have rank 2");
    let (steps, batch) = (x.shape()[0], x.shape()[1]);
    let directions = direction.count();
    let initial = |operand: usize| match inputs.get(operand) {
        Some(state) => three(state),
        None => Array3::zeros((directions, batch, hidden)),
    };
    let (mut last_h, mut last_c) = (initial(4), initial(5));
    let mut y = Array4::zeros((steps, directions, batch, hidden));
    for d in 0..directions {
        let weights = Weights {
            r: r.index_axis(Axis(0), d),
            scale: scale.row(d).to_owned(),
            zero: zero.row(d).to_owned(),
        };
        let per_direction = activations.len() / directions;
        let activations = &activations[d * per_direction..][..per_direction];
        let mut h = last_h.index_axis(Axis(0), d).to_owned();
        let mut c = last_c.index_axis(Axis(0), d).to_owned();
        for step in 0..steps {
            let backwards = direction == Direction::Reverse || d == 1;
            let t = if backwards { steps - 1 - step } else { step };
            let first = d * 4 * hidden;
            let arguments = weights.product(&h) + x.slice(s![t, .., first..first + 4 * hidden]);
            let gate = |gate: usize, activation: usize| {
                arguments.slice(s![.., gate * hidden..(gate + 1) * hidden]).mapv(|v| {
                    let v = clip.map_or(v, |clip| minimum(maximum(v, -clip), clip));
                    unary_float(activations[activation], v)
                })
            };
            c = gate(2, 0) * &c + gate(0, 0) * gate(3, 1);
            h = gate(1, 0) * c.mapv(|v| unary_float(activations[2], v));
            y.slice_mut(s![t, d, .., ..]).assign(&h);
        }
        last_h.index_axis_mut(Axis(0), d).assign(&h);
        last_c.index_axis_mut(Axis(0), d).assign(&c);
    }
    let dtype = inputs[0].dtype;
    [y.into_dyn(), last_h.into_dyn(), last_c.into_dyn()].map(|values| Array::float(dtype, values)).into()
}
