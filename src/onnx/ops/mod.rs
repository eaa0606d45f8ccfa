//! The table of operators: a line each, in a file per family, with the functions that decompose it into core operations
//! or say what the host does in its place.

use std::sync::LazyLock;

use super::halt::{Halt, Result, all};
use super::node::operator::{AS_COMPUTED, Import, OnHost, OpEntry, Operators, contrib, op};
use super::node::{NodeCx, axes, axis, extent, extents, floats, ints, missing};
use crate::graph::ValueId;

mod activation;
mod attention;
mod control;
mod conv;
mod dynamic;
mod dynamic_lstm;
mod einsum;
mod elementwise;
mod gather;
mod host;
mod linear_attention;
mod loss;
mod matmul;
mod microsoft;
mod ml;
mod movement;
mod nbits;
mod norm;
mod pool;
mod qlinear;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod roi;
mod sampling;
mod sequence;
mod shape;
mod signal;
mod softmax;
mod sort;
mod text;
mod unfold;
mod unrolled;
mod window;

/// One result.
fn one(result: Result<ValueId>) -> Result<Vec<ValueId>> {
    Ok(vec![result?])
}

const FAMILIES: &[&[OpEntry]] = &[
    activation::OPS,
    attention::OPS,
    control::OPS,
    conv::OPS,
    dynamic::OPS,
    einsum::OPS,
    elementwise::OPS,
    gather::OPS,
    linear_attention::OPS,
    loss::OPS,
    matmul::OPS,
    microsoft::algebra::OPS,
    microsoft::attention::OPS,
    microsoft::blocked::OPS,
    microsoft::elementwise::OPS,
    microsoft::embedding::OPS,
    microsoft::grouped::OPS,
    microsoft::image::OPS,
    microsoft::layout::OPS,
    microsoft::norm::OPS,
    microsoft::position::OPS,
    microsoft::product::OPS,
    microsoft::tensor::OPS,
    ml::encode::OPS,
    ml::feature::OPS,
    ml::linear::OPS,
    ml::svm::OPS,
    movement::OPS,
    nbits::OPS,
    norm::OPS,
    pool::OPS,
    qlinear::OPS,
    quantize::OPS,
    recurrent::OPS,
    reduce::OPS,
    resize::OPS,
    roi::OPS,
    sampling::OPS,
    sequence::OPS,
    shape::OPS,
    signal::OPS,
    softmax::OPS,
    sort::OPS,
    text::OPS,
    unfold::OPS,
];

static TABLE: LazyLock<Operators> =
    LazyLock::new(|| operators().map(|entry| ((entry.domain, entry.name), entry)).collect());

/// All operators that can be imported, by family.
pub fn operators() -> impl Iterator<Item = &'static OpEntry> {
    FAMILIES.iter().copied().flatten()
}

/// All operators by domain and name.
pub(super) fn table() -> &'static Operators {
    &TABLE
}
