//! What instructions compute: operations on registers, conversions, shuffles, comparisons, and what they do with special values.

use super::Class;

/// Operations on one register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum UnaryOp {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Round,
    Trunc,
    /// Signed integers to floating-point numbers of the same width, rounded to nearest even.
    ToFloat,
    /// Floating-point numbers to signed integers of the same width, towards zero. What is NaN or does not fit becomes
    /// any integer.
    ToInt,
    /// `f32` to `i32`, to the nearest, ties to even. NaN, and what is below all of them, becomes the least; what is above,
    /// the least or the largest.
    RoundToInt,
    /// The bits of floating-point numbers as integers.
    Bits,
    /// The bits of integers as floating-point numbers.
    FromBits,
    /// `f32` to the nearest number that an `f16` can be, ties to even; what is too large becomes infinite.
    RoundF16,
    /// On masks.
    Not,
    /// Lane `l` is lane `l ^ distance` of the operand: `distance` is a power of two and less than the lanes of the
    /// register. Not on masks.
    Exchange {
        distance: u8,
    },
    /// Of the four bytes of integers of 32 bits, the even ones or the odd ones as two numbers of 16 bits, extended by
    /// their sign or by zeros.
    Bytes {
        odd: bool,
        signed: bool,
    },
}

/// Conversions of half of the lanes of a register to twice their width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum Widening {
    /// `f32` to `f64`.
    Float,
    /// `i32` to `i64`.
    Signed,
    /// `u32` to `i64`.
    Unsigned,
    /// `i32` to `f64`.
    ToFloat,
    /// [`Class::Mask`] to [`Class::Mask64`].
    Mask,
}

impl Widening {
    /// The class of the result.
    pub fn class(self) -> Class {
        match self {
            Widening::Float | Widening::ToFloat => Class::F64,
            Widening::Signed | Widening::Unsigned => Class::I64,
            Widening::Mask => Class::Mask64,
        }
    }
}

/// Conversions of two registers to one with lanes of half their width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum Narrowing {
    /// `f64` to `f32`, rounded to nearest even.
    Float,
    /// The low 32 bits of `i64`.
    Int,
    /// `f64` to `i32`, towards zero. What is NaN or does not fit becomes any integer.
    ToInt,
    /// `i64` to `f32`, rounded once.
    ToFloat,
    /// [`Class::Mask64`] to [`Class::Mask`].
    Mask,
}

impl Narrowing {
    /// The class of the result.
    pub fn class(self) -> Class {
        match self {
            Narrowing::Float | Narrowing::ToFloat => Class::F32,
            Narrowing::Int | Narrowing::ToInt => Class::I32,
            Narrowing::Mask => Class::Mask,
        }
    }
}

/// What a lane of 32 bits holds of either operand of a dot product, and what its sum is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum DotKind {
    /// Four bytes, those of the first operand unsigned and those of the second signed; the sum is an integer of 32 bits, which
    /// wraps.
    Bytes,
    /// Two `bf16`; the sum is an `f32`. Both products, which are exact, are added one after the other, the upper one first or
    /// the lower one; each addition rounds to nearest even. Denormal operands and results count as 0.
    Bf16,
}

impl DotKind {
    /// How many products are added up.
    pub const fn products(self) -> usize {
        match self {
            DotKind::Bytes => 4,
            DotKind::Bf16 => 2,
        }
    }

    /// What is multiplied, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            DotKind::Bytes => "int8",
            DotKind::Bf16 => "bf16",
        }
    }

    /// The class of the sum.
    pub const fn class(self) -> Class {
        match self {
            DotKind::Bytes => Class::I32,
            DotKind::Bf16 => Class::F32,
        }
    }
}

/// Operations on two registers of one class. Those on floating-point numbers are on `f32` and `f64`, those on integers on
/// both widths where they do not say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    /// `a > b ? a : b`: the second operand if one is NaN or both are zero, as x86 does.
    Max,
    /// `a < b ? a : b`.
    Min,
    /// `a * 2^b` for a whole number `b` of at most 250 either way, rounded once. Only where
    /// [`super::select::Machine::scale`] says so.
    Scale,
    /// On integers, wrapping.
    IntAdd,
    /// On integers, wrapping.
    IntSub,
    /// On integers, wrapping.
    IntMul,
    /// On integers of 32 bits that are pairs of signed numbers of 16 bits: the sum of the products of the lower numbers
    /// and of the upper ones, which wraps only if all four are the smallest number.
    PairDot,
    /// Of signed integers of 32 bits.
    IntMax,
    /// Of signed integers of 32 bits.
    IntMin,
    /// `a << b`; 0 if `b`, taken as unsigned, is not less than the width.
    ShiftLeft,
    /// `a >> b`, zeros come in; 0 if `b`, taken as unsigned, is not less than the width.
    ShiftRight,
    /// The same where the sign comes in. On integers of 32 bits.
    ShiftRightSigned,
    /// Bitwise, on integers and masks.
    And,
    /// Bitwise, on integers and masks.
    Or,
    /// Bitwise, on integers and masks.
    Xor,
}

/// How lanes of two registers come into one. Lanes are taken in blocks of four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum Shuffle {
    /// In each block, units of so many lanes (1 or 2) from `a` and `b` in turn, out of the lower halves of their
    /// blocks or the upper ones.
    Interleave { unit: usize, upper: bool },
    /// Every second block of `a`, then of `b`: those with an even number, or an odd one.
    Blocks { odd: bool },
}

impl Shuffle {
    /// Where a lane of the result comes from: whether from `b`, and the lane there.
    pub fn source(self, lanes: usize, lane: usize) -> (bool, usize) {
        match self {
            Shuffle::Interleave { unit, upper } => {
                let (block, at) = (lane / 4, lane % 4);
                let from = at / (2 * unit) * unit + at % unit + if upper { 2 } else { 0 };
                (at / unit % 2 == 1, 4 * block + from)
            }
            Shuffle::Blocks { odd } => {
                let half = lanes / 2;
                let (second, at) = (lane >= half, lane % half);
                (second, 4 * (at / 4 * 2 + usize::from(odd)) + at % 4)
            }
        }
    }
}

/// Shifts of integers by a constant that is less than their width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum ShiftOp {
    Left,
    /// The sign comes in. On integers of 32 bits.
    SignedRight,
    /// Zeros come in.
    UnsignedRight,
}

/// Comparisons; false if an operand is NaN, except `Ne` and `Unordered`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Whether an operand is NaN.
    Unordered,
}

/// How lanes are combined; NaN if any lane is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) enum Combine {
    Add,
    Mul,
    Max,
    Min,
}
