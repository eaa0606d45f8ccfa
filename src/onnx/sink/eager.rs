//! What becomes of an operation while a model is imported: what does nothing is left out, and what is constant and small
//! computed, but for weights.

use nestjit_ir::DType;

use crate::graph::{Op, Reduction, Unary, Value};

/// Whether the operation widens 8-bit weights. No shape depends on them, and passes want them as they are.
pub(super) fn unpacks_weights(op: &Op, operands: &[&Value]) -> bool {
    matches!(op, Op::Cast { .. })
        && operands.iter().all(|v| matches!(v.dtype, DType::I8 | DType::U8) && v.shape.len() > 1)
}

/// Whether the operation returns its first operand as it is.
pub(super) fn is_identity(op: &Op, operands: &[&Value], types: &[(DType, Vec<usize>)]) -> bool {
    let same = || types[0].0 == operands[0].dtype && types[0].1 == operands[0].shape;
    match op {
        Op::Unary(Unary::Identity) | Op::Dropout => true,
        Op::Cast { .. } | Op::Reshape { .. } | Op::Expand { .. } => same(),
        Op::Transpose { perm } => perm.is_sorted(),
        Op::Concat { .. } => operands.len() == 1,
        Op::Slice { steps, .. } => same() && steps.iter().all(|s| *s == 1),
        Op::Pad { begin, end, .. } => begin.iter().chain(end).all(|p| *p == 0),
        Op::Reduce { axes, op, .. } => {
            use Reduction::*;
            axes.is_empty() && matches!(op, Sum | Mean | Max | Min | Prod)
        }
        _ => false,
    }
}
