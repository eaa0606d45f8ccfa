//! Inference for recurrent layers.

use nestjit_ir::DType;

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
    let rows = gate_rows(kind, hidden)?;
    expect_shape(w, &[directions, rows, features], "the input weight")?;
    expect_shape(r, &[directions, rows, hidden], "the recurrent weight")?;
    if let Some(b) = b {
        expect_shape(b, &[directions, 2 * rows], "the bias")?;
    }
    expect_states([initial_h, initial_c], &[directions, batch, hidden])?;
    expect_activations(kind, directions, activations)?;
    expect_clip(clip)?;
    let state = (x.dtype, vec![directions, batch, hidden]);
    let mut outputs = vec![(x.dtype, vec![steps, directions, batch, hidden]), state.clone()];
    if lstm {
        outputs.push(state);
    }
    Ok(outputs)
}

/// The largest hidden size for which sums of products of 8-bit integers less their zero points fit in `i32`.
const BYTES: usize = i32::MAX as usize / (255 * 255);

pub(super) fn dynamic_quantize_lstm(
    hidden: usize,
    direction: Direction,
    activations: &[Unary],
    clip: Option<f64>,
    inputs: &[&Value],
) -> Result<Outputs> {
    let [x, r, scale, zero, initial_h, initial_c] = operands_or::<6>(inputs, 4)?;
    let (Some(x), Some(r), Some(scale), Some(zero)) = (x, r, scale, zero) else {
        unreachable!("four operands are required")
    };
    let of_type = |value: &Value, dtype: DType| match value.dtype == dtype {
        true => Ok(()),
        false => Err(Error::shape(format!("{dtype} is needed, but {} was given", show(value)))),
    };
    for value in [Some(x), Some(scale), initial_h, initial_c].into_iter().flatten() {
        of_type(value, DType::F32)?;
    }
    of_type(r, DType::I8)?;
    of_type(zero, DType::I32)?;
    if hidden > BYTES {
        let message =
            format!("sums of {hidden} products can leave 32 bits, which hold those of {BYTES} at most");
        return Err(Error::new(crate::ErrorKind::Limit, message));
    }
    let [steps, batch, columns] = x.shape[..] else {
        let message = format!("the products with the input must be [steps, batch, columns], not {}", show(x));
        return Err(Error::shape(message));
    };
    let directions = direction.count();
    let rows = gate_rows(RecurrentKind::Lstm, hidden)?;
    if columns != directions * rows {
        let message = format!("{} does not fit {directions} times {rows} columns of products", show(x));
        return Err(Error::shape(message));
    }
    expect_shape(r, &[directions, rows, hidden], "the recurrent weight")?;
    expect_shape(scale, &[directions, rows], "the scale of the recurrent weight")?;
    expect_shape(zero, &[directions, rows], "the zero point of the recurrent weight")?;
    let state = vec![directions, batch, hidden];
    expect_states([initial_h, initial_c], &state)?;
    expect_activations(RecurrentKind::Lstm, directions, activations)?;
    expect_clip(clip)?;
    let y = vec![steps, directions, batch, hidden];
    Ok([y, state.clone(), state].into_iter().map(|shape| (DType::F32, shape)).collect())
}

/// The rows of the weights of a direction.
fn gate_rows(kind: RecurrentKind, hidden: usize) -> Result<usize> {
    let rows = kind.gates().checked_mul(hidden).filter(|rows| rows.checked_mul(2).is_some());
    rows.ok_or_else(|| {
        let message = format!("a hidden size of {hidden} is larger than the address space");
        Error::new(crate::ErrorKind::Limit, message)
    })
}

fn expect_states([h, c]: [Option<&Value>; 2], shape: &[usize]) -> Result<()> {
    for (state, what) in [(h, "the initial state"), (c, "the initial cell")] {
        if let Some(state) = state {
            expect_shape(state, shape, what)?;
        }
    }
    Ok(())
}

fn expect_clip(clip: Option<f64>) -> Result<()> {
    match clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
        true => Err(Error::invalid("the clip bound must be a number that is not negative")),
        false => Ok(()),
    }
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
