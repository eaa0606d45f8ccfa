//! Imports of operators that the host runs unless everything is known.

#[cfg(test)]
mod tests;

use super::super::limit;
use super::{Halt, NodeCx, Result};
use crate::graph::ValueId;
use crate::host::Item;

/// Imports a node whose result's shape depends on values: it is computed at once if they are known, and left to the
/// host otherwise.
pub(super) fn at_once(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let Some(op) = cx.host_op()? else {
        return Err(Halt::internal("no operation of the host"));
    };
    // The result may be many times as large as the operand.
    if (0..cx.input_count()).filter_map(|i| cx.optional(i)).any(|x| cx.elements(x) > limit::EAGER_RESULTS) {
        return Err(Halt::host("its operand is too large for the import"));
    }
    let mut operands = Vec::with_capacity(cx.input_count());
    for i in 0..cx.input_count() {
        operands.push(match cx.optional(i) {
            Some(x) => Item::Tensor(cx.known_constant(x, "the shape of the result")?),
            None => Item::Absent,
        });
    }
    let mut results = Vec::new();
    for item in op.run(&operands)? {
        match item {
            Item::Tensor(tensor) => results.push(cx.constant(tensor)),
            Item::Sequence(_) | Item::Absent => return Err(Halt::items()),
        }
    }
    results.truncate(cx.output_count());
    Ok(results)
}

/// Imports a node that works with sequences or optional values, which only the host knows.
pub(super) fn only(_: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    Err(Halt::items())
}
