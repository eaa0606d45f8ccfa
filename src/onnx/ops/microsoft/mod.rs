//! ONNX Runtime's own operators on floats (the domain `com.microsoft`): most are what its optimiser and its tools make of
//! several ONNX operators, and are written out again, for fusion to find. What is quantised is left to `qlinear` and `nbits`.

use super::norm::{normalized, statistics};
use super::{
    AS_COMPUTED, Halt, Import, NodeCx, OpEntry, Result, contrib, extent, extents, host, missing, one, op,
};

pub(super) mod algebra;
pub(super) mod attention;
pub(super) mod blocked;
mod cache;
pub(super) mod elementwise;
pub(super) mod embedding;
mod fused;
pub(super) mod grouped;
pub(super) mod image;
pub(super) mod layout;
pub(super) mod norm;
pub(super) mod position;
pub(super) mod product;
pub(super) mod tensor;

/// An attribute that switches something on: 0, which it is if it is left out, or 1. ONNX Runtime takes other numbers for 0 at
/// times.
fn switch(cx: &NodeCx<'_>, name: &'static str) -> Result<bool> {
    match cx.int(name, 0)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Halt::invalid(format!("{name} is {other}, but must be 0 or 1"))),
    }
}
