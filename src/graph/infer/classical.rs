//! Inference for what classical models need.

use super::{Class, Outputs, expect_class, operands, show};
use crate::error::{Error, Result};
use crate::graph::Value;

pub(super) fn pairwise_coupling(inputs: &[&Value]) -> Result<Outputs> {
    let [r] = operands(inputs)?;
    expect_class(r, Class::Float)?;
    match r.shape[..] {
        [n, classes, others] if classes == others && classes > 0 => Ok(vec![(r.dtype, vec![n, classes])]),
        _ => Err(Error::shape(format!("a matrix of pairs of classes is needed, but {} was given", show(r)))),
    }
}
