//! What runtime functions ask of the buffers that they are called with.
//!
//! Which functions exist is for whoever runs programs to say; those of which the IR knows the contract are here.

use crate::nest::{Buffer, Call, Program};

/// Whether a call keeps the contract of its function. Its buffers exist, or that has been reported.
pub(super) fn check(program: &Program, call: &Call) -> Result<(), String> {
    let buffers = |ids: &[crate::BufId]| -> Option<Vec<&Buffer>> {
        ids.iter().map(|id| program.buffers.get(id.0 as usize)).collect()
    };
    let (Some(inputs), Some(outputs)) = (buffers(&call.inputs), buffers(&call.outputs)) else {
        return Ok(());
    };
    match call.function.as_str() {
        "copy" => copy(&inputs, &outputs, &call.attrs),
        _ => Ok(()),
    }
}

/// `call copy(%x) -> (%y)`: the same elements in row-major order, whatever the shapes. Bytes are copied, so both lie
/// that way in memory.
fn copy(inputs: &[&Buffer], outputs: &[&Buffer], attrs: &[i64]) -> Result<(), String> {
    let ([from], [to], []) = (inputs, outputs, attrs) else {
        return Err("copy takes one buffer and gives one, without attributes".to_owned());
    };
    if from.dtype != to.dtype {
        return Err(format!(
            "%{} of type {} is copied to %{} of type {}",
            from.name, from.dtype, to.name, to.dtype
        ));
    }
    if from.len() != to.len() {
        let (n, m) = (from.len(), to.len());
        return Err(format!("%{} of {n} elements is copied to %{} of {m}", from.name, to.name));
    }
    match [from, to].into_iter().find(|b| !b.layout.is_row_major() || !b.halo.is_empty()) {
        Some(b) => Err(format!("%{} is copied as it lies in memory, but it does not lie row by row", b.name)),
        None => Ok(()),
    }
}
