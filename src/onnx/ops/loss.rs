//! Losses over classes.

use nestjit_ir::{CheckKind, DType};

use super::gather::gather_elements;
use super::{Halt, NodeCx, OpEntry, Result, one, op};
use crate::graph::{Binary, Op, Reduction, Unary, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("NegativeLogLikelihoodLoss", 12, |cx| {
        let x = cx.input(0)?;
        one(negative_log_likelihood(cx, x))
    })
    .in_f32(&[0]),
    op("SoftmaxCrossEntropyLoss", 12, |cx| {
        let x = cx.input(0)?;
        let log_probabilities = cx.add(Op::LogSoftmax { axis: 1 }, &[x])?;
        Ok(vec![negative_log_likelihood(cx, log_probabilities)?, log_probabilities])
    })
    .in_f32(&[0]),
];

/// `-x[n, target[n, ..], ..] * weight[target[n, ..]]`; where the target is `ignore_index`, the weight is 0.
fn negative_log_likelihood(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let reduction = match cx.string("reduction", "mean")? {
        "none" => None,
        "sum" => Some(Reduction::Sum),
        "mean" => Some(Reduction::Mean),
        other => return Err(Halt::invalid(format!("there is no reduction '{}'", other.escape_debug()))),
    };
    let ignored = cx.attributes.int("ignore_index")?;
    let mut target = cx.input(1)?;
    let (shape, places) = (cx.shape(x), cx.shape(target));
    let fits = shape.len() >= 2 && places.first() == shape.first() && places.get(1..) == shape.get(2..);
    if !fits {
        return Err(Halt::shape(format!(
            "targets of shape {places:?} do not fit classes of shape {shape:?}"
        )));
    }
    let mut weight = match cx.optional(2) {
        Some(weight) if cx.shape(weight) != [shape[1]] => {
            return Err(Halt::shape(format!(
                "weights of shape {:?} do not fit {} classes",
                cx.shape(weight),
                shape[1]
            )));
        }
        weight => weight,
    };
    let mut kept = None;
    if let Some(ignored) = ignored {
        target = cx.cast(target, DType::I64)?;
        let ignored = cx.values(&[], &[ignored])?;
        let here = cx.binary(Binary::Ne, target, ignored)?;
        // What is ignored need not be a class: any will do.
        let some_class = cx.scalar(DType::I64, 0.0);
        target = cx.select(here, target, some_class)?;
        kept = Some(here);
    }
    let target = cx.checked(target, 1, CheckKind::Index, 0, shape[1] as i64)?;
    let column = cx.unsqueeze(target, 1)?;
    let chosen = gather_elements(cx, x, column, 1)?;
    let chosen = cx.reshape(chosen, &places)?;
    let mut loss = cx.unary(Unary::Neg, chosen)?;
    if let Some(classes) = weight {
        weight = Some(cx.gather(classes, target, 0)?);
    }
    if let Some(kept) = kept {
        let (all, none) = (weight.unwrap_or(cx.scalar_like(x, 1.0)), cx.scalar_like(x, 0.0));
        weight = Some(cx.select(kept, all, none)?);
        // What stands where the target is ignored need not be a number.
        loss = cx.select(kept, loss, none)?;
    }
    if let Some(weight) = weight {
        loss = cx.binary(Binary::Mul, loss, weight)?;
    }
    match (reduction, weight) {
        (None, _) => Ok(loss),
        (Some(Reduction::Mean), Some(weight)) => {
            let total = combine(cx, Reduction::Sum, loss)?;
            let weights = combine(cx, Reduction::Sum, weight)?;
            cx.binary(Binary::Div, total, weights)
        }
        (Some(reduction), _) => combine(cx, reduction, loss),
    }
}

/// The sum or mean of all elements, in two steps: what is added to one large sum is rounded more.
fn combine(cx: &mut NodeCx<'_>, reduction: Reduction, x: ValueId) -> Result<ValueId> {
    let (shape, total) = (cx.shape(x), cx.elements(x));
    let (mut first, mut count) = (shape.len(), 1usize);
    while first > 0 && count.saturating_mul(count) < total {
        first -= 1;
        count *= shape[first];
    }
    let (outer, inner): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|d| *d < first);
    let parts = cx.reduce(reduction, x, &inner, false)?;
    cx.reduce(reduction, parts, &outer, false)
}
