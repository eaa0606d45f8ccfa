//! The interpreter: slow, obvious, bounds-checked. It defines what a program means.
//!
//! Layouts, halos and loop kinds are ignored: they never change the meaning. Storage that a program has not
//! written yet is filled with NaN (or 0x55 in integers), so that reading it is seen: see [`Undefined`].
//!
//! [`scalar`] defines the operations on single values, [`value`] holds arrays, `resolve` turns statements into
//! closures with all names looked up, and `dot` shortens the way for sums of products. [`rounding`] tells beside the values
//! how far rounding may move them.

mod dot;
mod resolve;
pub mod rounding;
pub mod scalar;
#[cfg(test)]
mod tests;
pub mod value;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use scalar::{binary_defined, eval_binary, eval_cast, eval_const, eval_unary, unary_defined};
pub use value::{Data, Stored, Undefined, Value};

use crate::check::Site;
use crate::nest::{BufId, Call, Program, Role};
use crate::types::DType;

/// In which precision to compute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// As the program says: `f32` operations in `f32`, those on a half type rounded to it, in the order written.
    Exact,
    /// Every float is held and computed in `f64`: the reference that rounding errors are measured
    /// against. Results of `f32`, `f16` and `bf16` buffers are `f64` values.
    F64,
}

impl Mode {
    /// The type in which values of a type are held.
    pub const fn held(self, dtype: DType) -> DType {
        match (self, dtype) {
            (Mode::F64, DType::F32 | DType::F16 | DType::BF16) => DType::F64,
            (_, dtype) => dtype,
        }
    }
}

/// Executes [`crate::Stmt::Call`]: given the inputs, returns the outputs in order.
pub type Calls<'a> = dyn Fn(&Call, &[&Value]) -> Result<Vec<Value>, String> + 'a;

/// For programs without calls: every call is an error.
pub fn no_calls(call: &Call, _: &[&Value]) -> Result<Vec<Value>, String> {
    Err(format!("there is no function '{}'", call.function))
}

/// Why a program could not be interpreted.
#[derive(Clone, PartialEq, Debug)]
pub enum InterpError {
    /// A buffer that must be given is missing.
    MissingInput {
        /// The buffer's name.
        buffer: String,
    },
    /// A given value has the wrong type or shape.
    WrongInput {
        /// The buffer's name.
        buffer: String,
        /// What the program declares.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An index lies outside its buffer and the access does not say what to do then.
    OutOfBounds {
        /// The nest.
        nest: String,
        /// The buffer's name.
        buffer: String,
        /// The index.
        index: Vec<i64>,
        /// The buffer's shape.
        shape: Vec<usize>,
    },
    /// A checked value lies outside its range: see [`crate::Check`].
    OutOfRange {
        /// Where the value comes from.
        site: Arc<Site>,
        /// The value.
        value: i64,
        /// The least value allowed, and one more than the largest.
        range: (i64, i64),
    },
    /// A call failed.
    Call {
        /// The nest.
        nest: String,
        /// The function's name.
        function: String,
        /// Why.
        message: String,
    },
    /// The program itself is wrong; [`crate::verify`] says so without running it.
    Malformed {
        /// The nest; empty if the mistake is not in one.
        nest: String,
        /// What is wrong.
        message: String,
    },
}

impl fmt::Display for InterpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterpError::MissingInput { buffer } => write!(f, "no value given for %{buffer}"),
            InterpError::WrongInput { buffer, expected, found } => {
                write!(f, "%{buffer} is {expected}, but the value given is {found}")
            }
            InterpError::OutOfBounds { nest, buffer, index, shape } => {
                write!(f, "nest @{nest}: index {index:?} is outside %{buffer} of shape {shape:?}")
            }
            InterpError::OutOfRange { site, value, range: (low, high) } => {
                let (node, op) = (site.node.escape_debug(), site.op.escape_debug());
                write!(f, "node '{node}' ({op}): {}", site.message(*value, *low, *high))
            }
            InterpError::Call { nest, function, message } => {
                write!(f, "nest @{nest}: call of '{function}' failed: {message}")
            }
            InterpError::Malformed { nest, message } if nest.is_empty() => write!(f, "{message}"),
            InterpError::Malformed { nest, message } => write!(f, "nest @{nest}: {message}"),
        }
    }
}

impl std::error::Error for InterpError {}

/// Runs a program on the values of its `in` and `const` buffers and returns its `out` buffers.
pub fn interpret(
    program: &Program,
    inputs: &HashMap<BufId, Value>,
    mode: Mode,
    calls: &Calls<'_>,
) -> Result<HashMap<BufId, Value>, InterpError> {
    interpret_from(program, inputs, mode, calls, Undefined::Marked)
}

/// Like [`interpret`], with a choice of what storage holds before anything is written to it.
pub fn interpret_from(
    program: &Program,
    inputs: &HashMap<BufId, Value>,
    mode: Mode,
    calls: &Calls<'_>,
    undefined: Undefined,
) -> Result<HashMap<BufId, Value>, InterpError> {
    run(program, inputs, mode, calls, undefined, &|role| role == Role::Out)
}

/// Like [`interpret`], but returns the `temp` buffers too, to compare programs pass by pass.
pub fn interpret_with_temps(
    program: &Program,
    inputs: &HashMap<BufId, Value>,
    mode: Mode,
    calls: &Calls<'_>,
) -> Result<HashMap<BufId, Value>, InterpError> {
    run(program, inputs, mode, calls, Undefined::Marked, &|role| matches!(role, Role::Out | Role::Temp))
}

fn run(
    program: &Program,
    inputs: &HashMap<BufId, Value>,
    mode: Mode,
    calls: &Calls<'_>,
    undefined: Undefined,
    wanted: &dyn Fn(Role) -> bool,
) -> Result<HashMap<BufId, Value>, InterpError> {
    let mut state = resolve::State { vars: vec![0; program.vars.len()], bufs: Vec::new() };
    for id in program.buf_ids() {
        state.bufs.push(initial(program, id, inputs, mode, undefined)?);
    }
    for nest in &program.nests {
        for step in resolve::nest(program, nest, mode, calls, undefined)? {
            step(&mut state).map_err(|e| *e)?;
        }
    }
    Ok(program.buf_ids().zip(state.bufs).filter(|(id, _)| wanted(program.buf(*id).role)).collect())
}

fn initial(
    program: &Program,
    id: BufId,
    inputs: &HashMap<BufId, Value>,
    mode: Mode,
    undefined: Undefined,
) -> Result<Value, InterpError> {
    let buffer = program.buf(id);
    let dtype = mode.held(buffer.dtype);
    match buffer.role {
        Role::In | Role::Const => {
            let value =
                inputs.get(&id).ok_or_else(|| InterpError::MissingInput { buffer: buffer.name.clone() })?;
            let fits = value.dtype() == buffer.dtype || value.dtype() == dtype;
            if !fits || value.shape != buffer.shape || value.len() != value.shape.iter().product() {
                return Err(InterpError::WrongInput {
                    buffer: buffer.name.clone(),
                    expected: format!("{}{:?}", buffer.dtype, buffer.shape),
                    found: format!("{}{:?} with {} elements", value.dtype(), value.shape, value.len()),
                });
            }
            Ok(if value.dtype() == dtype { value.clone() } else { value.cast(dtype) })
        }
        Role::Out | Role::Temp | Role::Local => {
            Value::undefined(dtype, &buffer.shape, undefined).ok_or_else(|| InterpError::Malformed {
                nest: String::new(),
                message: format!("%{} of shape {:?} is too large", buffer.name, buffer.shape),
            })
        }
    }
}
