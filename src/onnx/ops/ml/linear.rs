//! Linear models.

use nestjit_ir::DType;

use super::scores::{Labels, Opposite, Transform, winner};
use super::{Halt, NodeCx, OpEntry, Result, extent, features, floating, ml, one, required_floats, rows};
use crate::graph::{Binary, Op, ValueId};

pub(in super::super) const OPS: &[OpEntry] =
    &[ml("LinearClassifier", 1, linear_classifier), ml("LinearRegressor", 1, linear_regressor)];

/// `x * coefficients^T + intercepts`, with `targets` rows of coefficients.
fn product(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    [rows, n]: [usize; 2],
    coefficients: &[f64],
    intercepts: &[f64],
    targets: usize,
) -> Result<ValueId> {
    if targets == 0 || targets.checked_mul(n) != Some(coefficients.len()) {
        return Err(Halt::shape(format!(
            "there are {} coefficients, but {targets} targets of {n} features",
            coefficients.len()
        )));
    }
    let weights = cx.floats_like(x, &[targets, n], coefficients)?;
    let mut operands = vec![x, weights];
    if !intercepts.is_empty() {
        operands.push(cx.floats_like(x, &[targets], intercepts)?);
    }
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let scores = cx.add(gemm, &operands)?;
    debug_assert_eq!(cx.shape(scores), [rows, targets]);
    cx.cast(scores, DType::F32)
}

fn linear_classifier(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    // Whether there is one score for each class, or one for two, is seen from how many coefficients there are.
    cx.attributes.ignore(&["multi_class"]);
    let x = features(cx)?;
    let (x, shape) = rows(cx, x)?;
    let x = cx.cast(x, DType::F32)?;
    let labels = Labels::of(cx, "classlabels_ints", "classlabels_strings")?;
    let coefficients = required_floats(cx, "coefficients")?;
    let intercepts = cx.attributes.floats("intercepts")?.unwrap_or_default();
    let classes = match intercepts.len() {
        0 => coefficients.len().checked_div(shape[1]).unwrap_or(0),
        n => n,
    };
    let transform = Transform::of(cx)?;
    let scores = product(cx, x, shape, &coefficients, &intercepts, classes)?;
    if classes > 1 {
        labels.expect(classes)?;
        let winner = winner(cx, scores)?;
        return Ok(vec![labels.select(cx, winner)?, transform.apply(cx, scores, None)?]);
    }
    let score = cx.reshape(scores, &[shape[0]])?;
    let positive = cx.binary_const(Binary::Gt, score, 0.0)?;
    let first = (labels.count() == 2).then_some(Opposite::Complement);
    Ok(vec![labels.either(cx, positive)?, transform.apply(cx, scores, first)?])
}

fn linear_regressor(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let (x, shape) = rows(cx, x)?;
    let x = floating(cx, x)?;
    let targets = extent(cx.int("targets", 1)?, "targets")?;
    let coefficients = required_floats(cx, "coefficients")?;
    let intercepts = cx.attributes.floats("intercepts")?.unwrap_or_default();
    if !intercepts.is_empty() && intercepts.len() != targets {
        return Err(Halt::invalid(format!(
            "there are {} intercepts, but {targets} targets",
            intercepts.len()
        )));
    }
    let transform = Transform::of(cx)?;
    let scores = product(cx, x, shape, &coefficients, &intercepts, targets)?;
    one(transform.apply(cx, scores, None))
}
