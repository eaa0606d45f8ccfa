//! Classical models on numbers (the domain `ai.onnx.ml`): scaling of features, linear models, support vector machines,
//! tables of labels. Each is written out in core operations, in the forms that ONNX Runtime gives it where the
//! specification leaves several open.

use nestjit_ir::DType;

use super::{Halt, Import, NodeCx, OpEntry, Result, extent, extents, missing, one, op};
use crate::graph::ValueId;
use crate::onnx::model::ML_DOMAIN;

pub(super) mod encode;
pub(super) mod feature;
pub(super) mod linear;
mod lookup;
mod scores;
pub(super) mod svm;

/// An operator of the domain.
const fn ml(name: &'static str, since: i64, import: Import) -> OpEntry {
    op(name, since, import).of_domain(ML_DOMAIN)
}

/// The types of features.
fn is_feature(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::I64 | DType::I32)
}

/// Features: the first input, of one of their types.
fn features(cx: &NodeCx<'_>) -> Result<ValueId> {
    let x = cx.input(0)?;
    cx.expect_type(x, is_feature, "f32, f64, i64 or i32")?;
    Ok(x)
}

/// Features as a matrix: one row for a vector, rows and columns.
fn rows(cx: &mut NodeCx<'_>, x: ValueId) -> Result<(ValueId, [usize; 2])> {
    match cx.shape(x)[..] {
        [n] => Ok((cx.reshape(x, &[1, n])?, [1, n])),
        [rows, n] => Ok((x, [rows, n])),
        ref shape => {
            Err(Halt::shape(format!("features must be of rank 1 or 2, but their shape is {shape:?}")))
        }
    }
}

/// Features in floating point: those of 64 bits stay so, others become `f32`.
fn floating(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    if cx.dtype(x) == DType::F64 { Ok(x) } else { cx.cast(x, DType::F32) }
}

/// A list that must be given, of floats.
fn required_floats(cx: &NodeCx<'_>, name: &'static str) -> Result<Vec<f64>> {
    Ok(cx.attributes.floats(name)?.filter(|list| !list.is_empty()).ok_or_else(|| missing(name))?)
}
