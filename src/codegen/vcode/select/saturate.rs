//! Rounded numbers that become unsigned bytes: `u8(min(max(round(x) + zero, 0), 255))`.
//!
//! What is written is a rounding, a sum, two limits and a truncation in `f32`, and a test for NaN. Converting rounds
//! too, and the sum and the lower limit are the same on integers, where what was NaN or below all of them is the least: so
//! one conversion and a limit on either side of it are left.

use nestjit_ir::{BinOp, DType, Expr, UnOp};

use super::value::{Range, Regs, Val, constant};
use super::{Result, Selector};
use crate::codegen::vcode::{BinaryOp, Class, UnaryOp};

/// `round(x) + zero`, at most `most`, at least 0.
struct Rounded<'e> {
    x: &'e Expr,
    zero: i32,
    most: f64,
}

impl Selector<'_> {
    /// The value of a conversion of this form to `u8`; `None` if it has another.
    pub(super) fn rounded_byte(&mut self, value: &Expr) -> Result<Option<Val>> {
        let Some(Rounded { x, zero, most }) = rounded(value) else { return Ok(None) };
        if x.dtype(self.region.program) != DType::F32 {
            return Ok(None);
        }
        let x = self.expr_of(x, DType::F32)?;
        let limit = self.float_like(&x, most - f64::from(zero));
        // The second operand if one of them is NaN.
        let below = self.b.binary(BinaryOp::Min, limit.low, x.reg());
        let mut number = self.b.unary(UnaryOp::RoundToInt, below);
        if zero != 0 {
            let zero = constant(&mut self.b, nestjit_ir::Scalar::I32(zero)).reg();
            number = self.b.binary(BinaryOp::IntAdd, number, zero);
        }
        let none = self.b.constant(Class::I32, 0u32);
        let number = self.b.binary(BinaryOp::IntMax, number, none);
        Ok(Some(Val::new(DType::U8, Regs::one(number), x.varying).ranged(Range::new(0.0, most))))
    }
}

fn rounded(value: &Expr) -> Option<Rounded<'_>> {
    let number = |e: &Expr| e.as_const().map(|c| c.as_f64());
    let (sum, most) = match value {
        Expr::Binary(BinOp::Min, inner, high) => match (&**inner, number(high)?) {
            (Expr::Binary(BinOp::Max, sum, low), high) if number(low)? == 0.0 => (&**sum, high),
            _ => return None,
        },
        _ => return None,
    };
    let whole = |v: f64, limit: f64| v.fract() == 0.0 && (0.0..=limit).contains(&v);
    let (rounded, zero) = match sum {
        // Sums of integers below 2^24 are exact, and so are they on integers; the others are cut in any case.
        Expr::Binary(BinOp::Add, rounded, zero) => (&**rounded, number(zero)?),
        other => (other, 0.0),
    };
    let Expr::Unary(UnOp::Round, x) = rounded else { return None };
    let fits = whole(most, 255.0) && whole(zero, 255.0);
    fits.then_some(Rounded { x, zero: zero as i32, most })
}
