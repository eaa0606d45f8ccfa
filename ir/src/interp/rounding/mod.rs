//! Interprets a program and tells how far rounding may move each result: a running error analysis.
//!
//! Values are those of [`Mode::Exact`]. Beside each, a radius is carried through every operation (`ball`): how far the
//! value of another correct program may be from it, one that adds in another order, contracts products and sums,
//! or computes elementary functions with errors of some units in the last place. Where rounding decides which way a value
//! jumps (steps of a quantisation, comparisons, conversions to integers, the end of a type's range), the radius is the jump.
//! Radii follow the computation: a result that nothing makes uncertain has radius 0 and must be met exactly.
//!
//! The analysis is statistical, not a proof: independent errors add up as the root of their squares, with
//! room for several times what is likely. A proof would be of no use after some layers of a network.

mod ball;
mod dot;
mod precision;
mod resolve;
mod sum;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use ball::Ball;

use super::{Calls, InterpError, Mode, Undefined, Value, initial};
use crate::nest::{BufId, Program, Role};
use crate::types::{DType, Scalar};

/// A result of a program, and how far other correct results may be from it.
#[derive(Clone, PartialEq, Debug)]
pub struct Rounded {
    /// What the program computes as it is written.
    pub value: Value,
    /// For each element, in the same order, how far correct results usually are away at most: [`allowed`] tells the limit.
    /// Infinite where rounding decides whether it is a number at all; empty if no element is uncertain. For integers in
    /// steps, for `bool` 1 where it may be either.
    pub radius: Vec<f32>,
}

/// The radii of the elements of a buffer.
#[derive(Clone, Default, Debug)]
struct Radii {
    /// Empty as long as all are 0. Of a sum, without the part that its magnitude says.
    radius: Vec<f32>,
    /// For elements that are sums, the sum of the magnitudes of their terms; 0 for others. Empty if there are none.
    magnitude: Vec<f64>,
    /// For elements that were picked from others, where from; 0 for others. Empty if there are none.
    picked: Vec<u64>,
    /// A number for the buffer as long as it lives; [`resolve::State::place`] tells those of its elements.
    life: u32,
}

/// How far an element of this radius may be from another correct result. Of integers and truth values, one step where one
/// decision is open.
pub fn allowed(radius: f64, dtype: DType) -> f64 {
    let distance = Ball::new(Scalar::zero(dtype), radius).farthest();
    if dtype.is_float() { distance } else { distance.floor().max(radius.min(1.0)) }
}

/// Runs a program on the values of its `in` and `const` buffers; its `out` buffers, with radii.
///
/// # Errors
/// As [`super::interpret`].
pub fn interpret_rounded(
    program: &Program,
    inputs: &HashMap<BufId, Value>,
    calls: &Calls<'_>,
) -> Result<HashMap<BufId, Rounded>, InterpError> {
    let bufs = program.buf_ids().map(|id| initial(program, id, inputs, Mode::Exact, Undefined::Marked));
    let values =
        super::resolve::State { vars: vec![0; program.vars.len()], bufs: bufs.collect::<Result<_, _>>()? };
    let lives = 1..=program.buffers.len() as u32;
    let radii = lives.map(|life| Radii { life, ..Radii::default() }).collect();
    let mut state = resolve::State { values, radii, lives: program.buffers.len() as u32 };
    for nest in &program.nests {
        for step in resolve::nest(program, nest, calls)? {
            step(&mut state).map_err(|e| *e)?;
        }
    }
    let outputs = program.buf_ids().filter(|id| program.buf(*id).role == Role::Out);
    Ok(outputs.map(|id| (id, state.take(id))).collect())
}
