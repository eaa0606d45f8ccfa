//! Operations on half types. Each is one on `f32` (a transcendental one on `f64`) whose result is rounded to the nearest
//! half; for `+ - * /` and the square root that is the half nearest to the exact result, since an `f32` has more than twice
//! as many bits.

use half::{bf16, f16};

use super::Element;
use crate::halves;
use crate::ops::{BinOp, ReduceOp, UnOp};
use crate::types::{DType, Scalar};

macro_rules! half_element {
    ($t:ident, $variant:ident, $other:ident, $from_f64:path) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            const POISON: $t = $t::NAN;

            fn unary(op: UnOp) -> Option<fn($t) -> $t> {
                macro_rules! single {
                    ($f:expr) => {
                        |x| {
                            let f: fn(f32) -> f32 = $f;
                            $t::from_f32(f(x.to_f32()))
                        }
                    };
                }
                macro_rules! double {
                    ($f:expr) => {
                        |x| {
                            let f: fn(f64) -> f64 = $f;
                            $from_f64(f(x.to_f64()))
                        }
                    };
                }
                Some(match op {
                    UnOp::Neg => |x| $t::from_bits(x.to_bits() ^ 0x8000),
                    UnOp::Abs => |x| $t::from_bits(x.to_bits() & 0x7fff),
                    UnOp::Sign => single!(|x| if x.is_nan() || x == 0.0 { x } else { x.signum() }),
                    UnOp::Floor => single!(f32::floor),
                    UnOp::Ceil => single!(f32::ceil),
                    UnOp::Round => single!(f32::round_ties_even),
                    UnOp::Trunc => single!(f32::trunc),
                    UnOp::Sqrt => single!(f32::sqrt),
                    UnOp::Exp => double!(libm::exp),
                    UnOp::Expm1 => double!(libm::expm1),
                    UnOp::Log => double!(libm::log),
                    UnOp::Log1p => double!(libm::log1p),
                    UnOp::Sigmoid => double!(|x| 1.0 / (1.0 + libm::exp(-x))),
                    UnOp::Tanh => double!(libm::tanh),
                    UnOp::Erf => double!(libm::erf),
                    UnOp::Sin => double!(libm::sin),
                    UnOp::Cos => double!(libm::cos),
                    UnOp::Tan => double!(libm::tan),
                    UnOp::Asin => double!(libm::asin),
                    UnOp::Acos => double!(libm::acos),
                    UnOp::Atan => double!(libm::atan),
                    UnOp::Sinh => double!(libm::sinh),
                    UnOp::Cosh => double!(libm::cosh),
                    UnOp::Asinh => double!(libm::asinh),
                    UnOp::Acosh => double!(libm::acosh),
                    UnOp::Atanh => double!(libm::atanh),
                    UnOp::Not | UnOp::BitNot | UnOp::IsNan | UnOp::IsInf => return None,
                })
            }

            fn predicate(op: UnOp) -> Option<fn($t) -> bool> {
                match op {
                    UnOp::IsNan => Some(|x| x.is_nan()),
                    UnOp::IsInf => Some(|x| x.is_infinite()),
                    _ => None,
                }
            }

            fn binary(op: BinOp) -> Option<fn($t, $t) -> $t> {
                macro_rules! single {
                    ($op:expr) => {
                        |a, b| match <f32 as Element>::binary($op) {
                            Some(f) => $t::from_f32(f(a.to_f32(), b.to_f32())),
                            None => $t::NAN,
                        }
                    };
                }
                Some(match op {
                    BinOp::Add => single!(BinOp::Add),
                    BinOp::Sub => single!(BinOp::Sub),
                    BinOp::Mul => single!(BinOp::Mul),
                    BinOp::Div => single!(BinOp::Div),
                    BinOp::Rem => single!(BinOp::Rem),
                    BinOp::Mod => single!(BinOp::Mod),
                    BinOp::Max => single!(BinOp::Max),
                    BinOp::Min => single!(BinOp::Min),
                    BinOp::Pow => |a, b| $from_f64(libm::pow(a.to_f64(), b.to_f64())),
                    BinOp::Atan2 => |a, b| $from_f64(libm::atan2(a.to_f64(), b.to_f64())),
                    _ => return None,
                })
            }

            fn reduce(op: ReduceOp) -> fn($t, $t) -> $t {
                macro_rules! single {
                    ($op:expr) => {
                        |a, b| $t::from_f32(<f32 as Element>::reduce($op)(a.to_f32(), b.to_f32()))
                    };
                }
                match op {
                    ReduceOp::Add => single!(ReduceOp::Add),
                    ReduceOp::Mul => single!(ReduceOp::Mul),
                    ReduceOp::Max => single!(ReduceOp::Max),
                    ReduceOp::Min => single!(ReduceOp::Min),
                }
            }

            fn cast_from(value: Scalar) -> $t {
                match value {
                    Scalar::$variant(v) => v,
                    Scalar::F32(v) => $t::from_f32(v),
                    Scalar::$other(v) => $t::from_f32(v.to_f32()),
                    Scalar::F64(v) => $from_f64(v),
                    Scalar::I64(v) => $from_f64(halves::f64_from_i64(v)),
                    Scalar::I32(v) => $from_f64(f64::from(v)),
                    Scalar::I8(v) => $t::from_f32(f32::from(v)),
                    Scalar::U8(v) => $t::from_f32(f32::from(v)),
                    Scalar::I16(v) => $t::from_f32(f32::from(v)),
                    Scalar::U16(v) => $t::from_f32(f32::from(v)),
                    Scalar::U32(v) => $from_f64(f64::from(v)),
                    Scalar::U64(v) => $from_f64(halves::f64_from_u64(v)),
                    Scalar::Bool(v) => $t::from_f32(f32::from(u8::from(v))),
                }
            }

            fn scalar(self) -> Scalar {
                Scalar::$variant(self)
            }
        }
    };
}
half_element!(f16, F16, BF16, halves::f16_from_f64);
half_element!(bf16, BF16, F16, halves::bf16_from_f64);
