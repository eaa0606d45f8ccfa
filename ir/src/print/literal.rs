//! Literals as text, so that every bit comes back.

use std::fmt;

use half::{bf16, f16};

use crate::types::Scalar;

/// A literal of a half type: its value, its bits, and those of the usual NaN.
fn half(f: &mut fmt::Formatter<'_>, name: &str, value: f32, bits: u16, nan: u16) -> fmt::Result {
    match value {
        _ if value.is_nan() && bits != nan => write!(f, "bits_{name}({bits:#x})"),
        _ if value.is_nan() => write!(f, "nan_{name}"),
        _ if value.is_infinite() => write!(f, "{value:?}_{name}"),
        _ => write!(f, "{value:?}{name}"),
    }
}

/// Literals as the textual IR spells them: without a type for `f32` and `bool`, so that every bit comes back.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Scalar::F32(v) if v.is_nan() && v.to_bits() != f32::NAN.to_bits() => {
                write!(f, "bits_f32({:#x})", v.to_bits())
            }
            Scalar::F64(v) if v.is_nan() && v.to_bits() != f64::NAN.to_bits() => {
                write!(f, "bits_f64({:#x})", v.to_bits())
            }
            Scalar::F32(v) if v.is_nan() => f.write_str("nan"),
            Scalar::F64(v) if v.is_nan() => f.write_str("nan_f64"),
            Scalar::F32(v) => write!(f, "{v:?}"),
            Scalar::F64(v) if v.is_infinite() => write!(f, "{v:?}_f64"),
            Scalar::F64(v) => write!(f, "{v:?}f64"),
            Scalar::F16(v) => half(f, "f16", v.to_f32(), v.to_bits(), f16::NAN.to_bits()),
            Scalar::BF16(v) => half(f, "bf16", v.to_f32(), v.to_bits(), bf16::NAN.to_bits()),
            Scalar::I64(v) => write!(f, "{v}i64"),
            Scalar::I32(v) => write!(f, "{v}i32"),
            Scalar::I8(v) => write!(f, "{v}i8"),
            Scalar::U8(v) => write!(f, "{v}u8"),
            Scalar::I16(v) => write!(f, "{v}i16"),
            Scalar::U16(v) => write!(f, "{v}u16"),
            Scalar::U32(v) => write!(f, "{v}u32"),
            Scalar::U64(v) => write!(f, "{v}u64"),
            Scalar::Bool(v) => write!(f, "{v}"),
        }
    }
}
