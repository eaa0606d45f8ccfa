//! Values of the evaluator: all floats as `f64`, all integers and truth values as `i64`, those of `u64` as the `i64`
//! with the same bits.

use ndarray::ArrayD;
use nestjit_ir::{bf16, f16, halves};

use super::{DType, Precision};
use crate::error::Result;
use crate::tensor::{Element, Tensor};

/// An array, and the type that the graph gives it.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub dtype: DType,
    pub data: Data,
}

/// Elements.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Of a floating-point type.
    Float(ArrayD<f64>),
    /// Of an integer type, in its range (`u64`: the same bits); or of `bool`, 0 or 1.
    Int(ArrayD<i64>),
}

impl Array {
    pub fn float(dtype: DType, values: ArrayD<f64>) -> Array {
        Array { dtype, data: Data::Float(values) }
    }

    /// Integers, brought into the range of the type by wrapping.
    pub fn int(dtype: DType, values: ArrayD<i64>) -> Array {
        Array { dtype, data: Data::Int(values.mapv_into(|v| wrap(dtype, v))) }
    }

    pub fn bool(values: ArrayD<bool>) -> Array {
        Array { dtype: DType::Bool, data: Data::Int(values.mapv(i64::from)) }
    }

    pub fn shape(&self) -> &[usize] {
        match &self.data {
            Data::Float(values) => values.shape(),
            Data::Int(values) => values.shape(),
        }
    }

    /// The elements of an array that inference says is of a floating-point type.
    pub fn floats(&self) -> &ArrayD<f64> {
        match &self.data {
            Data::Float(values) => values,
            Data::Int(_) => unreachable!("inference admits floating-point types only"),
        }
    }

    /// The elements of an array that inference says is of an integer type or `bool`.
    pub fn ints(&self) -> &ArrayD<i64> {
        match &self.data {
            Data::Int(values) => values,
            Data::Float(_) => unreachable!("inference admits integers and bool only"),
        }
    }

    pub fn with_dtype(self, dtype: DType) -> Array {
        Array { dtype, ..self }
    }

    pub fn rounded(mut self, precision: Precision) -> Array {
        let (Precision::F32, Data::Float(values)) = (precision, &mut self.data) else { return self };
        match self.dtype {
            DType::F32 => values.mapv_inplace(|v| f64::from(v as f32)),
            DType::F16 => values.mapv_inplace(|v| halves::f16_from_f64(v).to_f64()),
            DType::BF16 => values.mapv_inplace(|v| halves::bf16_from_f64(v).to_f64()),
            DType::F64 => {}
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => {}
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => {}
        }
        self
    }

    pub fn from_tensor(tensor: &Tensor) -> Result<Array> {
        fn ints<T: Element + Into<i64>>(tensor: &Tensor) -> Result<Data> {
            Ok(Data::Int(tensor.view::<T>()?.mapv(Into::into)))
        }
        let data = match tensor.dtype() {
            DType::F32 => Data::Float(tensor.view::<f32>()?.mapv(f64::from)),
            DType::F64 => Data::Float(tensor.to_array::<f64>()?),
            DType::F16 => Data::Float(tensor.view::<f16>()?.mapv(f16::to_f64)),
            DType::BF16 => Data::Float(tensor.view::<bf16>()?.mapv(bf16::to_f64)),
            DType::I64 => ints::<i64>(tensor)?,
            DType::I32 => ints::<i32>(tensor)?,
            DType::I8 => ints::<i8>(tensor)?,
            DType::U8 => ints::<u8>(tensor)?,
            DType::I16 => ints::<i16>(tensor)?,
            DType::U16 => ints::<u16>(tensor)?,
            DType::U32 => ints::<u32>(tensor)?,
            DType::U64 => Data::Int(tensor.view::<u64>()?.mapv(|v| v as i64)),
            DType::Bool => ints::<bool>(tensor)?,
        };
        Ok(Array { dtype: tensor.dtype(), data })
    }

    pub fn to_tensor(&self, precision: Precision) -> Result<Tensor> {
        Ok(match &self.data {
            Data::Float(v) if precision == Precision::F64 => Tensor::from(v),
            Data::Float(v) => match self.dtype {
                DType::F32 => Tensor::from(v.mapv(|v| v as f32)),
                DType::F64 => Tensor::from(v),
                DType::F16 => Tensor::from(v.mapv(halves::f16_from_f64)),
                DType::BF16 => Tensor::from(v.mapv(halves::bf16_from_f64)),
                DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => {
                    unreachable!("{} is not held as floats", self.dtype)
                }
                DType::U64 | DType::U32 | DType::U16 | DType::U8 => {
                    unreachable!("{} is not held as floats", self.dtype)
                }
            },
            Data::Int(v) => match self.dtype {
                DType::I32 => Tensor::from(v.mapv(|v| v as i32)),
                DType::I8 => Tensor::from(v.mapv(|v| v as i8)),
                DType::U8 => Tensor::from(v.mapv(|v| v as u8)),
                DType::I16 => Tensor::from(v.mapv(|v| v as i16)),
                DType::U16 => Tensor::from(v.mapv(|v| v as u16)),
                DType::U32 => Tensor::from(v.mapv(|v| v as u32)),
                DType::U64 => Tensor::from(v.mapv(|v| v as u64)),
                DType::Bool => Tensor::from(v.mapv(|v| v != 0)),
                DType::I64 => Tensor::from(v),
                DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
                    unreachable!("{} is not held as integers", self.dtype)
                }
            },
        })
    }
}

/// `value` modulo the width of the type; `bool` tells whether it is not 0.
pub(super) fn wrap(dtype: DType, value: i64) -> i64 {
    match dtype {
        DType::I32 => i64::from(value as i32),
        DType::I8 => i64::from(value as i8),
        DType::U8 => i64::from(value as u8),
        DType::I16 => i64::from(value as i16),
        DType::U16 => i64::from(value as u16),
        DType::U32 => i64::from(value as u32),
        DType::Bool => i64::from(value != 0),
        DType::I64 | DType::U64 | DType::F32 | DType::F64 | DType::F16 | DType::BF16 => value,
    }
}

/// The least and the greatest value of an integer type or `bool`.
pub(super) fn int_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DType::U8 => (0, i64::from(u8::MAX)),
        DType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DType::U16 => (0, i64::from(u16::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        DType::U64 => (0, u64::MAX as i64),
        DType::Bool => (0, 1),
        DType::I64 | DType::F32 | DType::F64 | DType::F16 | DType::BF16 => (i64::MIN, i64::MAX),
    }
}

/// A key by whose order the integers of a type are ordered: for `u64` its bits are another number. The function is its
/// own inverse.
pub(super) fn order(dtype: DType, value: i64) -> i64 {
    if dtype == DType::U64 { value ^ i64::MIN } else { value }
}
