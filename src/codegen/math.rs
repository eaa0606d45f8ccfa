//! Elementary functions on `f32` vectors.

use nestjit_ir::UnOp;

use super::vcode::Reg;
use super::vcode::build::Builder;

/// The value of a function; `None` if it has no vector form.
pub(super) fn unary(_: &mut Builder, _: UnOp, _: Reg) -> Option<Reg> {
    None
}
