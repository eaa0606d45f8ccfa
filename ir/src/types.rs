//! Element types and scalar values of the IR.
//!
//! This module knows how wide an element is and how a literal of it is held; what operations do with
//! elements is defined by [`crate::interp`].

use std::fmt;

use half::{bf16, f16};

use crate::halves;

/// Declares [`DType`], and with it the list of all its variants, which can so not miss one.
macro_rules! element_types {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The element type of a buffer or the type of an expression.
        ///
        /// What depends on the type is decided by a `match` that names every variant, here or where it matters, so that
        /// a new variant does not compile before every place has decided.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum DType {
            $($(#[$doc])* $name,)*
        }

        impl DType {
            /// Every element type, in the order of the declaration.
            pub const ALL: [DType; [$(DType::$name),*].len()] = [$(DType::$name),*];
        }
    };
}

element_types! {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32: its exponent, and 7 bits of its fraction.
    BF16,
    /// Two's complement, 64 bits.
    I64,
    /// Two's complement, 32 bits.
    I32,
    /// Two's complement, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// Two's complement, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// A truth value, stored as one byte that is 0 or 1.
    Bool,
}

/// What the values of an element type are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Floating-point numbers.
    Float,
    /// Integers of both signs, in two's complement.
    Signed,
    /// Integers from 0 on.
    Unsigned,
    /// Truth values.
    Bool,
}

impl DType {
    /// What the values are.
    pub const fn kind(self) -> Kind {
        match self {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Kind::Float,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => Kind::Signed,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => Kind::Unsigned,
            DType::Bool => Kind::Bool,
        }
    }

    /// The size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), Kind::Float)
    }

    /// Whether this is an integer type (`bool` is not).
    pub const fn is_int(self) -> bool {
        matches!(self.kind(), Kind::Signed | Kind::Unsigned)
    }

    /// Whether this is an integer type without negative values.
    pub const fn is_unsigned(self) -> bool {
        matches!(self.kind(), Kind::Unsigned)
    }

    /// Whether this is a floating-point type of 16 bits.
    pub const fn is_half(self) -> bool {
        self.is_float() && self.size() == 2
    }

    /// Whether this is an integer type of 8 bits.
    pub const fn is_byte(self) -> bool {
        self.is_int() && self.size() == 1
    }

    /// The least and the largest value of an integer or truth value, as `i64`; all that there are for types that have others.
    pub const fn limits(self) -> (i64, i64) {
        match self {
            DType::Bool => (0, 1),
            DType::I32 => (i32::MIN as i64, i32::MAX as i64),
            DType::I16 => (i16::MIN as i64, i16::MAX as i64),
            DType::I8 => (i8::MIN as i64, i8::MAX as i64),
            DType::U32 => (0, u32::MAX as i64),
            DType::U16 => (0, u16::MAX as i64),
            DType::U8 => (0, u8::MAX as i64),
            DType::I64 | DType::U64 | DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
                (i64::MIN, i64::MAX)
            }
        }
    }

    /// The largest finite value; `None` for a type that has no infinities beyond it.
    pub const fn largest_finite(self) -> Option<f64> {
        match self {
            DType::F32 => Some(f32::MAX as f64),
            DType::F64 => Some(f64::MAX),
            DType::F16 => Some(f16::MAX.to_f64_const()),
            DType::BF16 => Some(bf16::MAX.to_f64_const()),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => None,
        }
    }

    /// The smallest positive value that is held with full precision; `None` for a type that is not a float.
    pub const fn smallest_normal(self) -> Option<f64> {
        match self {
            DType::F32 => Some(f32::MIN_POSITIVE as f64),
            DType::F64 => Some(f64::MIN_POSITIVE),
            DType::F16 => Some(f16::MIN_POSITIVE.to_f64_const()),
            DType::BF16 => Some(bf16::MIN_POSITIVE.to_f64_const()),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => None,
        }
    }

    /// The distance from 1 to the next larger value, twice what a rounding changes at most in relation to its result;
    /// `None` for a type that is not a float.
    pub const fn epsilon(self) -> Option<f64> {
        match self {
            DType::F32 => Some(f32::EPSILON as f64),
            DType::F64 => Some(f64::EPSILON),
            DType::F16 => Some(f16::EPSILON.to_f64_const()),
            DType::BF16 => Some(bf16::EPSILON.to_f64_const()),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => None,
        }
    }

    /// The name used in the textual IR: `f32`, `i64`, `bool`, ...
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::Bool => "bool",
        }
    }

    /// The type of that name, if there is one.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One element value. Equality and hashing are bitwise (so `NaN == NaN` and `0.0 != -0.0`), because two
/// programs are the same only if they compute the same bits.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// A binary32 value.
    F32(f32),
    /// A binary64 value.
    F64(f64),
    /// A binary16 value.
    F16(f16),
    /// A bfloat16 value.
    BF16(bf16),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit integer.
    I32(i32),
    /// An 8-bit integer.
    I8(i8),
    /// An unsigned 8-bit integer.
    U8(u8),
    /// A 16-bit integer.
    I16(i16),
    /// An unsigned 16-bit integer.
    U16(u16),
    /// An unsigned 32-bit integer.
    U32(u32),
    /// An unsigned 64-bit integer.
    U64(u64),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    /// The type of the value.
    pub const fn dtype(self) -> DType {
        match self {
            Scalar::F32(_) => DType::F32,
            Scalar::F64(_) => DType::F64,
            Scalar::F16(_) => DType::F16,
            Scalar::BF16(_) => DType::BF16,
            Scalar::I64(_) => DType::I64,
            Scalar::I32(_) => DType::I32,
            Scalar::I8(_) => DType::I8,
            Scalar::U8(_) => DType::U8,
            Scalar::I16(_) => DType::I16,
            Scalar::U16(_) => DType::U16,
            Scalar::U32(_) => DType::U32,
            Scalar::U64(_) => DType::U64,
            Scalar::Bool(_) => DType::Bool,
        }
    }

    /// The value 0 (or `false`) of a type.
    pub const fn zero(dtype: DType) -> Scalar {
        match dtype {
            DType::F32 => Scalar::F32(0.0),
            DType::F64 => Scalar::F64(0.0),
            DType::F16 => Scalar::F16(f16::ZERO),
            DType::BF16 => Scalar::BF16(bf16::ZERO),
            DType::I64 => Scalar::I64(0),
            DType::I32 => Scalar::I32(0),
            DType::I8 => Scalar::I8(0),
            DType::U8 => Scalar::U8(0),
            DType::I16 => Scalar::I16(0),
            DType::U16 => Scalar::U16(0),
            DType::U32 => Scalar::U32(0),
            DType::U64 => Scalar::U64(0),
            DType::Bool => Scalar::Bool(false),
        }
    }

    /// `value` in a type: rounded to nearest, once, for floats; for integers saturating, truncating, NaN to 0; for
    /// `bool`, whether it is not 0.
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        match dtype {
            DType::F32 => Scalar::F32(value as f32),
            DType::F64 => Scalar::F64(value),
            DType::F16 => Scalar::F16(halves::f16_from_f64(value)),
            DType::BF16 => Scalar::BF16(halves::bf16_from_f64(value)),
            DType::I64 => Scalar::I64(value as i64),
            DType::I32 => Scalar::I32(value as i32),
            DType::I8 => Scalar::I8(value as i8),
            DType::U8 => Scalar::U8(value as u8),
            DType::I16 => Scalar::I16(value as i16),
            DType::U16 => Scalar::U16(value as u16),
            DType::U32 => Scalar::U32(value as u32),
            DType::U64 => Scalar::U64(value as u64),
            DType::Bool => Scalar::Bool(value != 0.0),
        }
    }

    /// `value` in a type: integers wrap, as casts between integers do.
    pub const fn from_i64(dtype: DType, value: i64) -> Scalar {
        match dtype {
            DType::F32 => Scalar::F32(value as f32),
            DType::F64 => Scalar::F64(value as f64),
            DType::F16 => Scalar::F16(halves::f16_from_f64(halves::f64_from_i64(value))),
            DType::BF16 => Scalar::BF16(halves::bf16_from_f64(halves::f64_from_i64(value))),
            DType::I64 => Scalar::I64(value),
            DType::I32 => Scalar::I32(value as i32),
            DType::I8 => Scalar::I8(value as i8),
            DType::U8 => Scalar::U8(value as u8),
            DType::I16 => Scalar::I16(value as i16),
            DType::U16 => Scalar::U16(value as u16),
            DType::U32 => Scalar::U32(value as u32),
            DType::U64 => Scalar::U64(value as u64),
            DType::Bool => Scalar::Bool(value != 0),
        }
    }

    /// The value as a binary64 number (rounded for large `i64`).
    pub const fn as_f64(self) -> f64 {
        match self {
            Scalar::F32(v) => v as f64,
            Scalar::F64(v) => v,
            Scalar::F16(v) => v.to_f32_const() as f64,
            Scalar::BF16(v) => v.to_f32_const() as f64,
            Scalar::I64(v) => v as f64,
            Scalar::I32(v) => v as f64,
            Scalar::I8(v) => v as f64,
            Scalar::U8(v) => v as f64,
            Scalar::I16(v) => v as f64,
            Scalar::U16(v) => v as f64,
            Scalar::U32(v) => v as f64,
            Scalar::U64(v) => v as f64,
            Scalar::Bool(v) => v as u8 as f64,
        }
    }

    /// The bits, zero-extended to 64; with [`Scalar::dtype`] they identify the value.
    pub const fn to_bits(self) -> u64 {
        match self {
            Scalar::F32(v) => v.to_bits() as u64,
            Scalar::F64(v) => v.to_bits(),
            Scalar::F16(v) => v.to_bits() as u64,
            Scalar::BF16(v) => v.to_bits() as u64,
            Scalar::I64(v) => v as u64,
            Scalar::I32(v) => v as u32 as u64,
            Scalar::I8(v) => v as u8 as u64,
            Scalar::U8(v) => v as u64,
            Scalar::I16(v) => v as u16 as u64,
            Scalar::U16(v) => v as u64,
            Scalar::U32(v) => v as u64,
            Scalar::U64(v) => v,
            Scalar::Bool(v) => v as u64,
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.dtype() == other.dtype() && self.to_bits() == other.to_bits()
    }
}

impl Eq for Scalar {}

impl std::hash::Hash for Scalar {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.dtype(), self.to_bits()).hash(state);
    }
}
