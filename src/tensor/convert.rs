//! Tensors from and to numbers of one type: floating-point numbers as `f64`, indices as `i64`.

use nestjit_ir::{DType, bf16, f16, halves};

use super::{Element, Tensor};
use crate::error::{Error, Result};

impl Tensor {
    /// A tensor of a floating-point type with these values, rounded to it.
    pub(crate) fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor> {
        fn rounded<T: Element>(shape: &[usize], values: &[f64], round: impl Fn(f64) -> T) -> Result<Tensor> {
            Tensor::new(shape, &values.iter().map(|v| round(*v)).collect::<Vec<T>>())
        }
        match dtype {
            DType::F64 => Tensor::new(shape, values),
            DType::F32 => rounded(shape, values, |v| v as f32),
            DType::F16 => rounded(shape, values, halves::f16_from_f64),
            DType::BF16 => rounded(shape, values, halves::bf16_from_f64),
            DType::I64
            | DType::I32
            | DType::I16
            | DType::I8
            | DType::U64
            | DType::U32
            | DType::U16
            | DType::U8
            | DType::Bool => Err(Error::internal(format!("a tensor of {dtype} from floating-point numbers"))),
        }
    }

    /// The elements of a tensor of a floating-point type.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    pub(crate) fn to_f64(&self) -> Result<Vec<f64>> {
        Ok(match self.dtype {
            DType::F64 => self.values::<f64>()?.to_vec(),
            DType::F32 => self.values::<f32>()?.iter().map(|v| f64::from(*v)).collect(),
            DType::F16 => self.values::<f16>()?.iter().map(|v| v.to_f64()).collect(),
            DType::BF16 => self.values::<bf16>()?.iter().map(|v| v.to_f64()).collect(),
            DType::I64
            | DType::I32
            | DType::I16
            | DType::I8
            | DType::U64
            | DType::U32
            | DType::U16
            | DType::U8
            | DType::Bool => {
                return Err(Error::internal(format!(
                    "floating-point numbers from a tensor of {}",
                    self.dtype
                )));
            }
        })
    }

    /// The elements of a tensor of a type that indices have, `i32` or `i64`; `None` for others.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    pub(crate) fn indices(&self) -> Result<Option<Vec<i64>>> {
        Ok(match self.dtype {
            DType::I64 => Some(self.values::<i64>()?.to_vec()),
            DType::I32 => Some(self.values::<i32>()?.iter().map(|v| i64::from(*v)).collect()),
            DType::F32
            | DType::F64
            | DType::F16
            | DType::BF16
            | DType::I16
            | DType::I8
            | DType::U64
            | DType::U32
            | DType::U16
            | DType::U8
            | DType::Bool => None,
        })
    }
}
