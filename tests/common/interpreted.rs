//! Running a unit in the interpreter.

use std::collections::HashMap;

use nestjit::ir::interp::{InterpError, Mode, Stored, Value, interpret};
use nestjit::ir::{BufId, Call};
use nestjit::unit::Unit;
use nestjit::{DType, Element, Tensor};

/// The unit's outputs in order.
pub fn interpret_unit(unit: &Unit, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>, InterpError> {
    assert_eq!(inputs.len(), unit.inputs.len());
    let mut values: HashMap<BufId, Value> = HashMap::new();
    for (id, tensor) in unit.inputs.iter().zip(inputs) {
        values.insert(*id, to_value(tensor));
    }
    for (id, tensor) in &unit.consts {
        values.insert(*id, to_value(tensor));
    }
    let results = interpret(&unit.program, &values, mode, &|call, inputs| {
        let shapes = call.outputs.iter().map(|b| unit.program.buf(*b).shape.as_slice()).collect::<Vec<_>>();
        run_call(call, inputs, &shapes)
    })?;
    Ok(unit.outputs.iter().map(|id| to_tensor(&results[id])).collect())
}

/// The functions that lowering calls.
fn run_call(call: &Call, inputs: &[&Value], shapes: &[&[usize]]) -> Result<Vec<Value>, String> {
    match (call.function.as_str(), inputs) {
        ("copy", [x]) => Ok(vec![Value { shape: shapes[0].to_vec(), data: x.data.clone() }]),
        (other, _) => Err(format!("there is no function '{other}' of {} operands", inputs.len())),
    }
}

/// The tensor as the interpreter holds it.
pub fn to_value(tensor: &Tensor) -> Value {
    fn convert<T: Element + Stored>(tensor: &Tensor) -> Value {
        Value::new(tensor.shape(), tensor.values::<T>().unwrap().to_vec()).unwrap()
    }
    match tensor.dtype() {
        DType::F32 => convert::<f32>(tensor),
        DType::F64 => convert::<f64>(tensor),
        DType::I64 => convert::<i64>(tensor),
        DType::I32 => convert::<i32>(tensor),
        DType::I8 => convert::<i8>(tensor),
        DType::U8 => convert::<u8>(tensor),
        DType::Bool => convert::<bool>(tensor),
    }
}

/// The interpreter's array as a tensor.
pub fn to_tensor(value: &Value) -> Tensor {
    fn convert<T: Element + Stored>(value: &Value) -> Tensor {
        Tensor::new(&value.shape, value.as_slice::<T>().unwrap()).unwrap()
    }
    match value.dtype() {
        DType::F32 => convert::<f32>(value),
        DType::F64 => convert::<f64>(value),
        DType::I64 => convert::<i64>(value),
        DType::I32 => convert::<i32>(value),
        DType::I8 => convert::<i8>(value),
        DType::U8 => convert::<u8>(value),
        DType::Bool => convert::<bool>(value),
    }
}
