//! Rounded numbers that become bytes: `u8(min(max(round(x) + zero, 0), 255))` and the like of `i8`, whose bits may be
//! counted from 128 on (`u8(i8(..)) ^ 128`).
//!
//! What is written is a rounding, a sum, two limits, a truncation and a test for NaN in `f32`. Converting rounds too, and the
//! sum and the lower limit are the same on integers, where what was NaN or below all of them is the least: so one
//! conversion and a limit on either side of it are left, and a test for NaN where it does not become the lower limit. Where the
//! result is stored by an instruction that saturates, that is the upper limit, and the lower one is for `f32`.

use nestjit_ir::{BinOp, DType, Expr, Index, Scalar, UnOp};

use super::value::{Range, Regs, Val, constant};
use super::{Result, Selector};
use crate::codegen::vcode::{Access, BinaryOp, Cmp, MemType, Reg, UnaryOp};

/// Lanes of the vectors that are stored by an instruction that saturates.
const SATURATED: usize = 16;

/// `min(max(round(x) + zero, least), most)` as a byte, which is `nan` if `x` is NaN.
#[derive(Clone, Copy)]
struct Rounded<'e> {
    x: &'e Expr,
    zero: i32,
    least: i32,
    most: i32,
    nan: i32,
    byte: DType,
}

impl Selector<'_> {
    /// The value of an expression of this form; `None` if it has another.
    pub(super) fn rounded_byte(&mut self, e: &Expr) -> Result<Option<Val>> {
        let Some(rounded) = rounded(e) else { return Ok(None) };
        let Rounded { x, zero, least, most, nan, byte } = rounded;
        if x.dtype(self.region.program) != DType::F32 {
            return Ok(None);
        }
        let x = self.expr_of(x, DType::F32)?;
        let limit = self.float_like(&x, f64::from(most - zero));
        // The second operand if one of them is NaN.
        let below = self.b.binary(BinaryOp::Min, limit.low, x.reg());
        let mut number = self.b.unary(UnaryOp::RoundToInt, below);
        let int = |s: &mut Self, v: i32| constant(&mut s.b, Scalar::I32(v)).reg();
        // The least integer has room for sums only.
        if zero < 0 {
            let least = int(self, least - zero);
            number = self.b.binary(BinaryOp::IntMax, number, least);
        }
        number = self.with_zero_point(number, zero);
        if zero >= 0 {
            let least = int(self, least);
            number = self.b.binary(BinaryOp::IntMax, number, least);
        }
        number = self.unless_nan(&rounded, &x, number);
        let range = Range::new(f64::from(least.min(nan)), f64::from(most.max(nan)));
        Ok(Some(Val::new(byte, Regs::one(number), x.varying).ranged(range)))
    }

    /// What is stored as saturated bytes, and how, if the value is of this form and the access is possible.
    pub(super) fn byte_to_store(
        &mut self,
        value: &Expr,
        index: &[Index],
        access: &Access,
    ) -> Result<Option<(Reg, Access)>> {
        let adjacent = access.is_contiguous() && access.lanes > 1;
        if access.ty != MemType::U8 || self.b.lanes() != SATURATED {
            return Ok(None);
        }
        let Some(rounded) = rounded(value) else { return Ok(None) };
        let Rounded { x, zero, least, most: 255, byte: DType::U8, .. } = rounded else { return Ok(None) };
        if x.dtype(self.region.program) != DType::F32
            || !(adjacent || self.transposed_access(index, access).is_some())
        {
            return Ok(None);
        }
        let x = self.expr_of(x, DType::F32)?;
        // The second operand if one of them is NaN: the limit.
        let limit = self.float_like(&x, f64::from(least - zero));
        let above = self.b.binary(BinaryOp::Max, x.reg(), limit.low);
        // What is above all integers becomes one beyond 255, as a number without a sign, and stays that with the zero point.
        let mut number = self.b.unary(UnaryOp::RoundToInt, above);
        number = self.with_zero_point(number, zero);
        number = self.unless_nan(&rounded, &x, number);
        Ok(Some((number, Access { ty: MemType::SaturatedU8, ..access.clone() })))
    }

    /// Integers with the zero point.
    fn with_zero_point(&mut self, number: Reg, zero: i32) -> Reg {
        if zero == 0 {
            return number;
        }
        let zero = constant(&mut self.b, Scalar::I32(zero)).reg();
        self.b.binary(BinaryOp::IntAdd, number, zero)
    }

    /// What becomes of `x`, where that is NaN: it was taken for the lower limit so far.
    fn unless_nan(&mut self, rounded: &Rounded<'_>, x: &Val, number: Reg) -> Reg {
        if rounded.nan == rounded.least || !x.range.nan {
            return number;
        }
        let unordered = self.b.compare(Cmp::Unordered, x.reg(), x.reg());
        let nan = constant(&mut self.b, Scalar::I32(rounded.nan)).reg();
        self.b.select(unordered, nan, number)
    }
}

fn rounded(e: &Expr) -> Option<Rounded<'_>> {
    match e {
        Expr::Cast(DType::U8, value) => limited(value, DType::U8),
        Expr::Cast(DType::I8, value) => limited(value, DType::I8),
        Expr::Binary(BinOp::Xor, bits, sign) if sign.as_const() == Some(Scalar::U8(128)) => {
            let Expr::Cast(DType::U8, signed) = &**bits else { return None };
            let Expr::Cast(DType::I8, value) = &**signed else { return None };
            let Rounded { x, zero, least, most, nan, .. } = limited(value, DType::I8)?;
            let (zero, least, most, nan) = (zero + 128, least + 128, most + 128, nan + 128);
            Some(Rounded { x, zero, least, most, nan, byte: DType::U8 })
        }
        _ => None,
    }
}

/// What becomes a byte of this type, if limits of that type are around a rounded number.
fn limited(value: &Expr, byte: DType) -> Option<Rounded<'_>> {
    let limits = Range::of(byte);
    let number = |e: &Expr| e.as_const().map(|c| c.as_f64());
    let whole = |v: f64, limits: Range| (v.fract() == 0.0 && limits.contains(v)).then_some(v as i32);
    let Expr::Binary(BinOp::Min, inner, high) = value else { return None };
    let Expr::Binary(BinOp::Max, sum, low) = &**inner else { return None };
    let (least, most) = (whole(number(low)?, limits)?, whole(number(high)?, limits)?);
    let (rounded, zero) = match &**sum {
        // Sums of integers below 2^24 are exact, and so are they on integers; the others are cut in any case.
        Expr::Binary(BinOp::Add, rounded, zero) => (rounded, number(zero)?),
        _ => (sum, 0.0),
    };
    let zero = whole(zero, Range::new(-255.0, 255.0))?;
    let Expr::Unary(UnOp::Round, x) = &**rounded else { return None };
    (least <= most).then_some(Rounded { x, zero, least, most, nan: 0, byte })
}
