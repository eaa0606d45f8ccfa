//! Runs a unit in the interpreter, on tensors: the reference for everything that is compiled.
//!
//! What a program means is defined by [`nestjit_ir::interp`]; this only converts.

use std::collections::HashMap;

use nestjit_ir::interp::{self, Data, InterpError, Mode, Undefined, Value};
use nestjit_ir::{BufId, Call, DType, Program};

use crate::budget;
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;
use crate::unit::Unit;

/// An output of a program, and how far rounding may move its elements.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// What the program computes as it is written, `f32` in `f32`.
    pub value: Tensor,
    /// For each element, in row-major order, how far the result of another correct program may be away, in the element's unit
    /// (see [`nestjit_ir::interp::rounding`]); infinite where rounding decides whether it is a number at all. Empty if no
    /// element is uncertain.
    pub radius: Vec<f32>,
}

/// Computes the outputs for inputs given in order. With [`Mode::F64`], outputs of any floating-point type are `f64`
/// tensors.
///
/// # Errors
/// [`ErrorKind::Shape`] if inputs do not fit, [`ErrorKind::Index`] if an index is outside its buffer,
/// [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`] for programs that [`crate::passes::verify`] refuses,
/// [`ErrorKind::Limit`] if there is not enough memory for all values.
pub fn interpret(unit: &Unit, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
    interpret_from(unit, inputs, mode, Undefined::Marked)
}

/// Like [`interpret`], with a choice of what buffers hold before anything is written to them.
///
/// # Errors
/// As [`interpret`].
pub fn interpret_from(
    unit: &Unit,
    inputs: &[Tensor],
    mode: Mode,
    undefined: Undefined,
) -> Result<Vec<Tensor>> {
    let values = values(unit, inputs)?;
    let calls = |call: &Call, operands: &[&Value]| call_function(&unit.program, call, operands);
    let results = interp::interpret_from(&unit.program, &values, mode, &calls, undefined);
    let results = results.map_err(|e| error(&e))?;
    unit.outputs.iter().map(|id| from_value(output(&results, *id)?)).collect()
}

/// Computes the outputs in the types of the program, and how far rounding may move each element of them.
///
/// # Errors
/// As [`interpret`].
pub fn interpret_rounded(unit: &Unit, inputs: &[Tensor]) -> Result<Vec<Rounded>> {
    let values = values(unit, inputs)?;
    let calls = |call: &Call, operands: &[&Value]| call_function(&unit.program, call, operands);
    let results =
        interp::rounding::interpret_rounded(&unit.program, &values, &calls).map_err(|e| error(&e))?;
    let rounded = |id: &BufId| {
        let result = output(&results, *id)?;
        Ok(Rounded { value: from_value(&result.value)?, radius: result.radius.clone() })
    };
    unit.outputs.iter().map(rounded).collect()
}

/// The values of all buffers that a program is given.
fn values(unit: &Unit, inputs: &[Tensor]) -> Result<HashMap<BufId, Value>> {
    if inputs.len() != unit.inputs.len() {
        return Err(Error::shape(format!(
            "the program has {} inputs, but {} were given",
            unit.inputs.len(),
            inputs.len()
        )));
    }
    // All values are there at once; floating-point numbers may be widened.
    let bytes = |b: &nestjit_ir::Buffer| b.shape.iter().fold(8usize, |n, extent| n.saturating_mul(*extent));
    let widest = unit.program.buffers.iter().map(bytes);
    budget::check(widest.fold(0, usize::saturating_add)).map_err(|e| e.about("interpreting"))?;
    let given = unit.inputs.iter().zip(inputs).map(|(id, tensor)| (*id, tensor));
    let consts = unit.consts.iter().map(|(id, tensor)| (*id, tensor.as_ref()));
    given.chain(consts).map(|(id, t)| Ok((id, to_value(t)?))).collect()
}

/// What the runtime functions that programs may call compute.
fn call_function(program: &Program, call: &Call, operands: &[&Value]) -> Result<Vec<Value>, String> {
    match (call.function.as_str(), operands, call.outputs.as_slice()) {
        // The same elements in row-major order, whatever the shapes.
        ("copy", [x], [y]) => Ok(vec![Value { shape: program.buf(*y).shape.clone(), data: x.data.clone() }]),
        (function, _, _) => Err(format!("there is no function '{function}' of {} operands", operands.len())),
    }
}

fn output<T>(results: &HashMap<BufId, T>, id: BufId) -> Result<&T> {
    results.get(&id).ok_or_else(|| Error::invalid("an output is not an `out` buffer"))
}

fn error(e: &InterpError) -> Error {
    let kind = match e {
        InterpError::MissingInput { .. } | InterpError::WrongInput { .. } => ErrorKind::Shape,
        InterpError::OutOfBounds { .. } => ErrorKind::Index,
        InterpError::OutOfRange { site, value, range: (low, high) } => {
            let message = site.message(*value, *low, *high);
            return Error::new(ErrorKind::Index, message).at(&site.node, &site.op);
        }
        InterpError::Call { .. } => ErrorKind::Unsupported,
        InterpError::Malformed { .. } => ErrorKind::Invalid,
    };
    Error::new(kind, e.to_string())
}

fn to_value(tensor: &Tensor) -> Result<Value> {
    let data = match tensor.dtype() {
        DType::F32 => Data::F32(tensor.values()?.to_vec()),
        DType::F64 => Data::F64(tensor.values()?.to_vec()),
        DType::F16 => Data::F16(tensor.values()?.to_vec()),
        DType::BF16 => Data::BF16(tensor.values()?.to_vec()),
        DType::I64 => Data::I64(tensor.values()?.to_vec()),
        DType::I32 => Data::I32(tensor.values()?.to_vec()),
        DType::I8 => Data::I8(tensor.values()?.to_vec()),
        DType::U8 => Data::U8(tensor.values()?.to_vec()),
        DType::I16 => Data::I16(tensor.values()?.to_vec()),
        DType::U16 => Data::U16(tensor.values()?.to_vec()),
        DType::U32 => Data::U32(tensor.values()?.to_vec()),
        DType::U64 => Data::U64(tensor.values()?.to_vec()),
        DType::Bool => Data::Bool(tensor.values()?.to_vec()),
    };
    Ok(Value { shape: tensor.shape().to_vec(), data })
}

fn from_value(value: &Value) -> Result<Tensor> {
    match &value.data {
        Data::F32(v) => Tensor::new(&value.shape, v),
        Data::F64(v) => Tensor::new(&value.shape, v),
        Data::F16(v) => Tensor::new(&value.shape, v),
        Data::BF16(v) => Tensor::new(&value.shape, v),
        Data::I64(v) => Tensor::new(&value.shape, v),
        Data::I32(v) => Tensor::new(&value.shape, v),
        Data::I8(v) => Tensor::new(&value.shape, v),
        Data::U8(v) => Tensor::new(&value.shape, v),
        Data::I16(v) => Tensor::new(&value.shape, v),
        Data::U16(v) => Tensor::new(&value.shape, v),
        Data::U32(v) => Tensor::new(&value.shape, v),
        Data::U64(v) => Tensor::new(&value.shape, v),
        Data::Bool(v) => Tensor::new(&value.shape, v),
    }
}
