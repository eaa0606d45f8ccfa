//! Checks that a program is well-formed, so that later stages need not.
//!
//! What passes can be printed and parsed back, interpreted without [`crate::interp::InterpError`] other than
//! for indices computed at run time and failing calls, and compiled: no access leaves its buffer, and nothing that is
//! computed on the way to an address leaves 64 bits. Whether it computes what was meant is not for this module to say.

mod call;
mod flow;
mod nest;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use crate::access::bounds::MAX_BYTES;
use crate::nest::{Buffer, Program, Role};

/// How far a program has come; each stage allows what the ones before allow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// After lowering: plain nests.
    Lowered,
    /// After fusion and contraction of temps.
    Fused,
    /// After scheduling: loops may be `vector` or `unrolled`.
    Scheduled,
}

/// What is wrong with a program, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyError {
    /// The nest's name; empty if the mistake is not in a nest.
    pub nest: String,
    /// The way to the statement within the nest: `for n > for m > %y[n,m] = ..`; may be empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.nest.is_empty() {
            write!(f, "nest @{}: ", self.nest)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for VerifyError {}

/// Everything that is wrong with a program at a stage; empty if nothing is.
pub fn verify(program: &Program, stage: Stage) -> Vec<VerifyError> {
    let mut errors = Vec::new();
    check_buffers(program, &mut errors);
    if errors.is_empty() {
        nest::check_nests(program, stage, &mut errors);
    }
    if errors.is_empty() {
        flow::check_data_flow(program, &mut errors);
    }
    errors
}

fn check_buffers(program: &Program, errors: &mut Vec<VerifyError>) {
    let mut names = HashSet::new();
    for buffer in &program.buffers {
        let mut error = |message: String| {
            errors.push(VerifyError { nest: String::new(), path: format!("%{}", buffer.name), message });
        };
        if !names.insert(&buffer.name) {
            error("another buffer has this name".to_owned());
        }
        if let Err(message) = check_buffer(buffer) {
            error(message);
        }
    }
    let mut names = HashSet::new();
    for nest in &program.nests {
        if !names.insert(&nest.name) {
            let message = "another nest has this name".to_owned();
            errors.push(VerifyError { nest: nest.name.clone(), path: String::new(), message });
        }
    }
}

fn check_buffer(buffer: &Buffer) -> Result<(), String> {
    let rank = buffer.shape.len();
    let mut order = buffer.layout.order.clone();
    order.sort_unstable();
    if !order.iter().copied().eq(0..rank) {
        return Err(format!("layout {:?} is not a permutation of {rank} dimensions", buffer.layout.order));
    }
    if let Some((dim, block)) = buffer.layout.panel
        && (dim >= rank || block == 0)
    {
        return Err(format!("there is no panel of {block} elements of dimension {dim}"));
    }
    if let Some((dim, group)) = buffer.layout.interleave {
        if dim >= rank || group == 0 {
            return Err(format!("there is no group of {group} elements of dimension {dim}"));
        }
        if buffer.layout.panel.is_some_and(|p| p.0 == dim) {
            return Err(format!("dimension {dim} has both panels and groups"));
        }
    }
    if !buffer.halo.is_empty() && buffer.halo.len() != rank {
        return Err(format!("the halo has {} dimensions, the shape {rank}", buffer.halo.len()));
    }
    if !buffer.halo.is_empty() && buffer.halo_fill.dtype() != buffer.dtype {
        return Err(format!("the halo holds {}, the buffer {}", buffer.halo_fill.dtype(), buffer.dtype));
    }
    if !buffer.halo.is_empty() && !matches!(buffer.role, Role::In | Role::Const) {
        return Err("nothing fills the halo of a buffer that nests write".to_owned());
    }
    match checked_bytes(buffer) {
        Some(_) => Ok(()),
        None => Err(format!("shape {:?} is too large", buffer.shape)),
    }
}

/// The bytes of the storage, if they are at most [`MAX_BYTES`]. A dimension of 0 does not hide the others.
fn checked_bytes(buffer: &Buffer) -> Option<usize> {
    let mut bytes = buffer.dtype.size();
    for (dim, &extent) in buffer.shape.iter().enumerate() {
        let (before, after) = buffer.halo.get(dim).copied().unwrap_or_default();
        let mut extent = extent.checked_add(before)?.checked_add(after)?;
        let cuts = [buffer.layout.panel, buffer.layout.interleave];
        if let Some((_, block)) = cuts.into_iter().flatten().find(|c| c.0 == dim) {
            extent = extent.checked_next_multiple_of(block)?;
        }
        bytes = bytes.checked_mul(extent.max(1))?;
    }
    (bytes <= MAX_BYTES).then_some(bytes)
}
