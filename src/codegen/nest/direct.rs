//! Segments that consist of one kernel: what they pass to it is known, or where it is, so that calling it takes no compiler.

use nestjit_ir::{BufId, Stmt};

use super::SegmentBody;
use crate::codegen::vcode::select::plan::{Plan, accessed};
use crate::codegen::vcode::x86::Value;
use crate::codegen::vcode::{Arg, Kernel};

/// The kernel of a segment that does nothing but call it, and the values for it.
pub(super) struct Direct<'p> {
    pub kernel: &'p Kernel,
    pub values: Vec<Value>,
}

/// Whether a segment only calls a kernel. `params` are the buffers in the order of the pointer table.
pub(super) fn direct<'p>(segment: &SegmentBody<'_>, plan: &'p Plan, params: &[BufId]) -> Option<Direct<'p>> {
    let [region] = plan.regions.as_slice() else { return None };
    let first = segment.stmts.first()?;
    if plan.region(first).is_none() || region.len != segment.stmts.len() {
        return None;
    }
    // Memory of locals that the kernel does not keep to itself, or does not use, would come first in the scratch memory.
    let used = accessed(segment.stmts);
    let needs_memory = |buf: &BufId| plan.shared_locals.contains(buf) || !used.contains(buf);
    if segment.stmts.iter().any(|s| matches!(s, Stmt::Temp(buf) if needs_memory(buf))) {
        return None;
    }
    let value = |arg: &Arg| match arg {
        Arg::Pointer(buf, offset) => {
            Some(Value::Pointer(params.iter().position(|p| p == buf)?, offset.as_const()?))
        }
        Arg::Element(..) => None,
        Arg::Scratch => Some(Value::Scratch),
        Arg::Int(number) => number.as_const().map(Value::Number),
        Arg::Begin(range) => Some(Value::Begin(*range)),
        Arg::End(range) => Some(Value::End(*range)),
    };
    let values = region.kernel.args.iter().map(value).collect::<Option<_>>()?;
    Some(Direct { kernel: &region.kernel, values })
}
