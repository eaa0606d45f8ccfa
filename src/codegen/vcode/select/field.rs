//! A few bits of an integer as a floating-point number, less an offset: weights that lie several to a byte.
//!
//! Bits that are put below the leading one of a power of two, where they count units, are that power plus their number. So
//! one instruction takes them out of their integer, and one subtraction, of the power and the offset, leaves what is asked
//! for; the integers need not be shifted, offset and converted one after the other. All of it is exact: numbers are integers below
//! 2^24 throughout.

use nestjit_ir::visit::expr_vars;
use nestjit_ir::{BinOp, DType, Expr, Kind, Program, Scalar};

use super::value::{Range, Regs, Val};
use super::{Result, Selector};
use crate::codegen::vcode::{BinaryOp, Class, Reg};

/// Bits of the significand below the leading one.
const SIGNIFICAND: u32 = 23;

/// How large constant offsets may be.
const LARGEST_OFFSET: f64 = 1048576.0;

/// Bits of an unsigned integer of at most 16 bits.
struct Field<'e> {
    of: &'e Expr,
    /// Where they are.
    mask: u32,
    /// How far the one that counts units is from the lowest.
    shift: u32,
}

impl<'e> Field<'e> {
    fn find(program: &Program, value: &'e Expr) -> Option<Field<'e>> {
        let amount = |e: &Expr| e.as_const().map(Scalar::as_f64).filter(|v| (0.0..65536.0).contains(v));
        let shifted = |e: &'e Expr| match e {
            Expr::Binary(BinOp::Shr, of, by) => Some((extended(program, of), amount(by)? as u32)),
            _ => None,
        };
        let value = extended(program, value);
        let (of, shift, kept) = match value {
            Expr::Binary(BinOp::And, a, mask) => {
                let a = extended(program, a);
                let (of, shift) = shifted(a).unwrap_or((a, 0));
                (of, shift, amount(mask)? as u32)
            }
            _ => {
                let (of, shift) = shifted(value)?;
                (of, shift, u32::MAX)
            }
        };
        let dtype = of.dtype(program);
        let all = match dtype {
            DType::U8 => 0xffu32,
            DType::U16 => 0xffff,
            DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::Bool => {
                return None;
            }
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => return None,
        };
        let mask = all & (kept & all.checked_shr(shift)?).checked_shl(shift)?;
        (mask != 0).then_some(Field { of, mask, shift })
    }

    /// The largest number.
    fn most(&self) -> f64 {
        f64::from(self.mask >> self.shift)
    }

    /// The power of two below which its bits count units.
    fn power(&self) -> f32 {
        ((1u32 << SIGNIFICAND) >> self.shift) as f32
    }
}

/// What an integer is before conversions that keep its value.
fn extended<'e>(program: &Program, mut e: &'e Expr) -> &'e Expr {
    while let Expr::Cast(to, from) = e {
        let dtype = from.dtype(program);
        let kept = matches!(dtype.kind(), Kind::Signed | Kind::Unsigned)
            && to.is_int()
            && Range::of(dtype).within(Range::of(*to));
        if !kept {
            break;
        }
        e = from;
    }
    e
}

impl Selector<'_> {
    /// A conversion of such bits, less an offset that stays the same for several of them or is a constant; `None` if the
    /// value is another one.
    pub(super) fn field(&mut self, to: DType, value: &Expr) -> Result<Option<Val>> {
        if to != DType::F32 || !self.b.has_ternary() {
            return Ok(None);
        }
        let program = self.region.program;
        let (number, offset) = match value {
            // What does not wrap.
            Expr::Binary(BinOp::Sub, a, b) if matches!(value.dtype(program), DType::I32 | DType::I64) => {
                (&**a, Some(&**b))
            }
            _ => (value, None),
        };
        let Some(field) = Field::find(program, number) else { return Ok(None) };
        let Some((offset, by, offset_varies)) = self.subtracted(&field, offset)? else { return Ok(None) };
        let of = self.expr(field.of)?;
        let mask = self.b.constant(Class::I32, field.mask);
        let power = self.b.constant(Class::F32, field.power().to_bits());
        let moved = self.b.and_or(of.reg(), mask, power);
        let reg = self.b.binary(BinaryOp::Sub, moved, offset);
        let range = Range::new(-by.hi, field.most() - by.lo);
        Ok(Some(Val::new(DType::F32, Regs::one(reg), of.varying || offset_varies).ranged(range)))
    }

    /// The power of a field and what is subtracted from its number, the range of that, and whether its lanes differ; `None`
    /// if it is not worth while.
    fn subtracted(&mut self, field: &Field<'_>, offset: Option<&Expr>) -> Result<Option<(Reg, Range, bool)>> {
        let constant = |s: &mut Self, by: f64| {
            let sum = f64::from(field.power()) + by;
            let reg = s.b.constant(Class::F32, (sum as f32).to_bits());
            Ok(Some((reg, Range::point(by), false)))
        };
        let program = self.region.program;
        let Some(offset) = offset.map(|e| extended(program, e)) else { return constant(self, 0.0) };
        if let Some(by) = offset.as_const().map(Scalar::as_f64) {
            return if by.abs() <= LARGEST_OFFSET { constant(self, by) } else { Ok(None) };
        }
        let small = match offset.dtype(program) {
            DType::I8 | DType::U8 | DType::I16 | DType::U16 => true,
            DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::Bool => false,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => false,
        };
        let own = expr_vars(offset);
        if !small || expr_vars(field.of).iter().all(|v| own.contains(v)) {
            return Ok(None);
        }
        self.b.keep_loads(true);
        let by = self.expr(offset);
        self.b.keep_loads(false);
        let by = by?;
        let number = self.cast(DType::F32, by);
        let power = self.b.constant(Class::F32, field.power().to_bits());
        Ok(Some((self.b.binary(BinaryOp::Add, number.reg(), power), number.range, by.varying)))
    }
}
