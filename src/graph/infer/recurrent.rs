//! Inference for recurrent layers.

use super::{Class, Outputs, expect_class, expect_same_dtype, expect_shape, operands_or, plural, show};
use crate::error::{Error, Result};
use crate::graph::{Direction, RecurrentKind, Unary, Value};

pub(super) fn recurrent(
    kind: RecurrentKind,
    hidden: usize,
    direction: Direction,
    activations: &[Unary],
    clip: Option<f64>,
    inputs: &[&Value],
) -> Result<Outputs> {
    let lstm = kind == RecurrentKind::Lstm;
    let [x, w, r, b, initial_h, initial_c] = if lstm {
        operands_or::<6>(inputs, 3)?
    } else {
        let [x, w, r, b, initial_h] = operands_or::<5>(inputs, 3)?;
        [x, w, r, b, initial_h, None]
    };
    let (Some(x), Some(w), Some(r)) = (x, w, r) else { unreachable!("three operands are required") };
    expect_same_dtype(inputs)?;
    expect_class(x, Class::Float)?;
    let [steps, batch, features] = x.shape[..] else {
        return Err(Error::shape(format!("the sequence must be [steps, batch, features], not {}", show(x))));
    };
    let directions = direction.count();
    let rows = kind.gates().checked_mul(hidden).filter(|rows| rows.checked_mul(2).is_some());
    let Some(rows) = rows else {
        let message = format!("a hidden size of {hidden} is larger than the address space");
        return Err(Error::new(crate::ErrorKind::Limit, message));
    };
    expect_shape(w, &[directions, rows, features], "the input weight")?;
    expect_shape(r, &[directions, rows, hidden], "the recurrent weight")?;
    if let Some(b) = b {
        expect_shape(b, &[directions, 2 * rows], "the bias")?;
    }
    for (state, what) in [(initial_h, "the initial state"), (initial_c, "the initial cell")] {
        if let Some(state) = state {
            expect_shape(state, &[directions, batch, hidden], what)?;
        }
    }
    expect_activations(kind, directions, activations)?;
    if clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
        return Err(Error::invalid("the clip bound must be a number that is not negative"));
    }
    let state = (x.dtype, vec![directions, batch, hidden]);
    let mut outputs = vec![(x.dtype, vec![steps, directions, batch, hidden]), state.clone()];
    if lstm {
        outputs.push(state);
    }
    Ok(outputs)
}

fn expect_activations(kind: RecurrentKind, directions: usize, activations: &[Unary]) -> Result<()> {
    let needed = directions
        * match kind {
            RecurrentKind::Rnn => 1,
            RecurrentKind::Lstm => 3,
            RecurrentKind::Gru { .. } => 2,
        };
    if activations.len() != needed {
        return Err(Error::invalid(format!(
            "needs {needed} activation{}, but {} given",
            plural(needed),
            super::were(activations.len())
        )));
    }
    // Activations that are not functions from floats to floats cannot make a state.
    let bad =
        activations.iter().find(|a| matches!(a, Unary::Not | Unary::BitNot | Unary::IsNan | Unary::IsInf));
    match bad {
        Some(bad) => Err(Error::invalid(format!("{} is not an activation of a recurrent layer", bad.name()))),
        None => Ok(()),
    }
}
