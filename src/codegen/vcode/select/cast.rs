//! Conversions between all types, as Rust's `as` does them: floats to integers saturate, NaN becomes 0, integers wrap,
//! results that do not exist are rounded once to nearest even.
//!
//! What the range of a value rules out is not emitted: a number that was cut to 0..=255 before needs no saturation.

use nestjit_ir::{DType, Kind, Scalar};

use super::half::single;
use super::value::{Range, Regs, Val, constant};
use super::{Selector, is_f64};
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Narrowing, Reg, ShiftOp, UnaryOp, Widening};

const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;
/// 2^52 as `f64`: the bits below are an integer of 52 bits.
const MAGIC: u64 = 0x4330_0000_0000_0000;

impl Selector<'_> {
    pub(super) fn cast(&mut self, to: DType, a: Val) -> Val {
        if a.dtype == to {
            return a;
        }
        if a.dtype.is_half() {
            return self.cast(to, single(a));
        }
        if to.is_half() {
            return self.round_to_half(to, a);
        }
        match (a.dtype.kind(), to.kind()) {
            (_, Kind::Bool) => self.cast_to_bool(a),
            (Kind::Bool, _) => self.cast_from_bool(to, a),
            (Kind::Float, Kind::Float) => self.between_floats(to, a),
            (Kind::Float, Kind::Signed | Kind::Unsigned) => self.saturated(to, a),
            (Kind::Signed | Kind::Unsigned, Kind::Float) => self.cast_to_float(to, a),
            (Kind::Signed | Kind::Unsigned, Kind::Signed | Kind::Unsigned) => self.between_integers(to, a),
        }
    }

    fn cast_to_bool(&mut self, a: Val) -> Val {
        let zero = self.constant_like(&a, 0);
        let differ = a.regs.zip(zero, |x, zero| self.b.compare(Cmp::Ne, x, zero));
        let mask = self.mask_of(differ);
        Val::new(DType::Bool, Regs::one(mask), a.varying)
    }

    fn cast_from_bool(&mut self, to: DType, a: Val) -> Val {
        // 0 and 1 of a type of 32 bits, which is converted on.
        let by = if to.is_float() { DType::F32 } else { DType::I32 };
        let [one, zero] = [1, 0].map(|v| constant(&mut self.b, Scalar::from_i64(by, v)).reg());
        let reg = self.b.select(a.reg(), one, zero);
        let value = Val::new(by, Regs::one(reg), a.varying).ranged(Range::of(DType::Bool));
        self.cast(to, value)
    }

    fn between_floats(&mut self, to: DType, a: Val) -> Val {
        let regs = match is_f64(to) {
            true => self.widened(Widening::Float, a.reg()),
            false => Regs::one(self.narrowed(Narrowing::Float, a.regs)),
        };
        let range = a.range.map(|v| if is_f64(to) { v } else { f64::from(v as f32) });
        Val::new(to, regs, a.varying).ranged(range)
    }

    /// Integers to floats.
    fn cast_to_float(&mut self, to: DType, a: Val) -> Val {
        let range = a.range.map(|v| if is_f64(to) { v } else { f64::from(v as f32) });
        let done = |regs| Val::new(to, regs, a.varying).ranged(range);
        let signed_32 = !a.is_wide() && a.range.fits_i32();
        if is_f64(to) {
            return done(match (a.is_wide(), a.dtype.kind()) {
                (false, _) if signed_32 => self.widened(Widening::ToFloat, a.reg()),
                (false, _) => self.unsigned_to_f64(a.reg()),
                (true, Kind::Unsigned) => self.u64_to_f64(a.regs),
                (true, _) => a.regs.map(|x| self.b.unary(UnaryOp::ToFloat, x)),
            });
        }
        done(Regs::one(match (a.is_wide(), a.dtype.kind()) {
            (false, _) if signed_32 => self.b.unary(UnaryOp::ToFloat, a.reg()),
            (false, _) => {
                // Exact as f64, so rounded once.
                let exact = self.unsigned_to_f64(a.reg());
                self.narrowed(Narrowing::Float, exact)
            }
            (true, Kind::Unsigned) => self.u64_to_f32(a.regs),
            (true, _) => self.narrowed(Narrowing::ToFloat, a.regs),
        }))
    }

    /// Unsigned integers of 32 bits, exactly.
    fn unsigned_to_f64(&mut self, a: Reg) -> Regs {
        let sign = self.b.constant(Class::I32, SIGN_32);
        let moved = self.b.binary(BinaryOp::Xor, a, sign);
        let half = self.b.constant(Class::F64, 2f64.powi(31).to_bits());
        self.widened(Widening::ToFloat, moved).map(|x| self.b.binary(BinaryOp::Add, x, half))
    }

    /// Both halves of the bits are exact, and so is the upper one moved to its place: the sum is rounded once.
    fn u64_to_f64(&mut self, a: Regs) -> Regs {
        let low_bits = self.b.constant(Class::I64, u64::from(u32::MAX));
        let (magic, base) = (self.b.constant(Class::I64, MAGIC), self.b.constant(Class::F64, MAGIC));
        let place = self.b.constant(Class::F64, 2f64.powi(32).to_bits());
        a.map(|x| {
            let upper = self.b.shift(ShiftOp::UnsignedRight, x, 32);
            let lower = self.b.binary(BinaryOp::And, x, low_bits);
            let [upper, lower] = [upper, lower].map(|half| {
                let bits = self.b.binary(BinaryOp::Or, half, magic);
                let number = self.b.unary(UnaryOp::FromBits, bits);
                self.b.binary(BinaryOp::Sub, number, base)
            });
            let upper = self.b.binary(BinaryOp::Mul, upper, place);
            self.b.binary(BinaryOp::Add, upper, lower)
        })
    }

    /// What has the upper bit is halved before, keeping the lowest bit as a sticky one, and doubled after.
    fn u64_to_f32(&mut self, a: Regs) -> Reg {
        let (zero, one) = (self.b.constant(Class::I64, 0u64), self.b.constant(Class::I64, 1u64));
        let large = a.map(|x| self.b.compare(Cmp::Lt, x, zero));
        let halves = a.map(|x| {
            let half = self.b.shift(ShiftOp::UnsignedRight, x, 1);
            let sticky = self.b.binary(BinaryOp::And, x, one);
            self.b.binary(BinaryOp::Or, half, sticky)
        });
        let mask = self.mask_of(large);
        let signed = self.select_regs(mask, halves, a);
        let number = self.narrowed(Narrowing::ToFloat, signed);
        let double = self.b.binary(BinaryOp::Add, number, number);
        self.b.select(mask, double, number)
    }

    /// Integers to integers: the low bits.
    fn between_integers(&mut self, to: DType, a: Val) -> Val {
        let done = |regs, range: Range| {
            let range = if range.within(Range::of(to)) { range } else { Range::of(to) };
            Val::new(to, regs, a.varying).ranged(range)
        };
        match to {
            DType::I64 if !a.is_wide() && a.range.fits_i32() => done(a.regs, a.range),
            DType::I64 | DType::U64 if a.is_wide() => done(a.regs, a.range),
            DType::I64 | DType::U64 => {
                let signed = a.range.fits_i32();
                let op = if signed { Widening::Signed } else { Widening::Unsigned };
                let regs = self.widened(op, a.reg());
                done(regs, a.range)
            }
            DType::I32 | DType::U32 | DType::I16 | DType::U16 | DType::I8 | DType::U8 => {
                let reg = if a.is_wide() { self.narrowed(Narrowing::Int, a.regs) } else { a.reg() };
                self.wrapped(to, reg, a.varying, a.range)
            }
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => a,
        }
    }

    /// The value of a type of at most 32 bits that has the low bits of a register, which may hold any integer of this range.
    pub(super) fn wrapped(&mut self, dtype: DType, reg: Reg, varying: bool, range: Range) -> Val {
        if range.within(Range::of(dtype)) {
            return Val::new(dtype, Regs::one(reg), varying).ranged(range);
        }
        let unused = 32 - 8 * dtype.size() as u8;
        let reg = match (unused, dtype.kind()) {
            (0, _) => reg,
            (_, Kind::Unsigned) => {
                let mask = self.b.constant(Class::I32, u32::MAX >> unused);
                self.b.binary(BinaryOp::And, reg, mask)
            }
            _ => {
                let up = self.b.shift(ShiftOp::Left, reg, unused);
                self.b.shift(ShiftOp::SignedRight, up, unused)
            }
        };
        Val::new(dtype, Regs::one(reg), varying)
    }

    /// Floats to integers.
    fn saturated(&mut self, to: DType, a: Val) -> Val {
        let limits = Range::of(to);
        let range = a.range.map(|v| v.trunc().clamp(limits.lo, limits.hi));
        let range = if a.range.nan { range.union(Range::point(0.0)) } else { range };
        let a = self.without_nan(to, a);
        let fits = a.range.within(limits);
        let done = |regs| Val::new(to, regs, a.varying).ranged(range);
        match to {
            DType::I8 | DType::U8 | DType::I16 | DType::U16 => {
                let a = self.cut(a, limits);
                done(Regs::one(self.cast_to_i32(a)))
            }
            DType::I32 if fits || is_f64(a.dtype) => {
                let a = self.cut(a, limits);
                done(Regs::one(self.cast_to_i32(a)))
            }
            DType::I32 => {
                // The largest integer is not an f32, so what is above is found before.
                let over = self.at_least(a, 2f64.powi(31));
                let a = self.cut_below(a, limits.lo);
                let number = self.cast_to_i32(a);
                let most = self.b.constant(Class::I32, i32::MAX as u32);
                done(Regs::one(self.b.select(over.low, most, number)))
            }
            DType::U32 if range.fits_i32() => {
                let a = self.cut_below(a, 0.0);
                done(Regs::one(self.cast_to_i32(a)))
            }
            DType::U32 => {
                let a = self.cut_below(a, 0.0);
                done(Regs::one(self.unsigned_32(a)))
            }
            DType::I64 | DType::U64 if range.fits_i32() && a.range.within(Range::of(DType::I32)) => {
                let reg = self.cast_to_i32(a);
                let narrow = Val::new(DType::I64, Regs::one(reg), a.varying).ranged(range);
                self.cast(to, narrow)
            }
            DType::I64 => {
                let wide = self.cast(DType::F64, a);
                let wide = self.cut_below(wide, limits.lo);
                let number = wide.regs.map(|x| self.b.unary(UnaryOp::ToInt, x));
                if wide.range.hi < 2f64.powi(63) {
                    return done(number);
                }
                let over = self.at_least(wide, 2f64.powi(63));
                let most = self.b.constant(Class::I64, i64::MAX as u64);
                let mask = self.mask_of(over);
                done(self.select_regs(mask, Regs::pair(most, most), number))
            }
            DType::U64 => {
                let wide = self.cast(DType::F64, a);
                let wide = self.cut_below(wide, 0.0);
                done(self.unsigned_pair(wide))
            }
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => a,
        }
    }

    /// The value with 0, or something that becomes 0 in this type, in place of NaN.
    fn without_nan(&mut self, to: DType, a: Val) -> Val {
        if !a.range.nan {
            return a;
        }
        let zero = self.constant_like(&a, 0);
        // The instruction yields the second operand if the first is NaN.
        let regs = if to.is_unsigned() {
            let regs = a.regs.zip(zero, |x, zero| self.b.binary(BinaryOp::Max, x, zero));
            let (lo, hi) = (a.range.lo.max(0.0), a.range.hi.max(0.0));
            return Val { regs, range: Range::new(lo.min(hi), hi), ..a };
        } else {
            let nan = a.regs.map(|x| self.b.compare(Cmp::Unordered, x, x));
            let mask = self.mask_of(nan);
            self.select_regs(mask, zero, a.regs)
        };
        let range = Range { nan: false, ..a.range.union(Range::point(0.0)) };
        Val { regs, range, ..a }
    }

    /// Cuts numbers to a range whose ends exist in their type.
    fn cut(&mut self, a: Val, to: Range) -> Val {
        let a = self.cut_below(a, to.lo);
        if a.range.hi <= to.hi {
            return a;
        }
        let hi = self.float_like(&a, to.hi);
        let regs = a.regs.zip(hi, |x, hi| self.b.binary(BinaryOp::Min, x, hi));
        Val { regs, range: a.range.map(|v| v.min(to.hi)), ..a }
    }

    fn cut_below(&mut self, a: Val, lo: f64) -> Val {
        if a.range.lo >= lo {
            return a;
        }
        let bound = self.float_like(&a, lo);
        let regs = a.regs.zip(bound, |x, lo| self.b.binary(BinaryOp::Max, x, lo));
        Val { regs, range: a.range.map(|v| v.max(lo)), ..a }
    }

    /// A floating-point constant of the type of a value.
    pub(super) fn float_like(&mut self, like: &Val, value: f64) -> Regs {
        constant(&mut self.b, Scalar::from_f64(like.dtype, value)).regs
    }

    fn at_least(&mut self, a: Val, bound: f64) -> Regs {
        let bound = self.float_like(&a, bound);
        a.regs.zip(bound, |x, bound| self.b.compare(Cmp::Ge, x, bound))
    }

    /// Floats that fit 32 bits.
    fn cast_to_i32(&mut self, a: Val) -> Reg {
        match is_f64(a.dtype) {
            true => self.narrowed(Narrowing::ToInt, a.regs),
            false => self.b.unary(UnaryOp::ToInt, a.reg()),
        }
    }

    /// `u32` from floats that are not negative: what has the upper bit is moved down before, and up after.
    pub(super) fn unsigned_32(&mut self, a: Val) -> Reg {
        if is_f64(a.dtype) {
            let a = self.cut(a, Range::of(DType::U32));
            let half = self.float_like(&a, 2f64.powi(31));
            // Towards zero, whatever the sign is then.
            let whole = a.regs.map(|x| self.b.unary(UnaryOp::Trunc, x));
            let moved = whole.zip(half, |x, half| self.b.binary(BinaryOp::Sub, x, half));
            let number = self.narrowed(Narrowing::ToInt, moved);
            let sign = self.b.constant(Class::I32, SIGN_32);
            return self.b.binary(BinaryOp::Xor, number, sign);
        }
        let (large, moved) = self.moved_down(a, 32);
        let number = self.b.unary(UnaryOp::ToInt, moved.low);
        let (sign, zero) = (self.b.constant(Class::I32, SIGN_32), self.b.constant(Class::I32, 0u32));
        let bit = self.b.select(large.low, sign, zero);
        let number = self.b.binary(BinaryOp::Xor, number, bit);
        if a.range.hi < 2f64.powi(32) {
            return number;
        }
        let over = self.at_least(a, 2f64.powi(32));
        let most = self.b.constant(Class::I32, u32::MAX);
        self.b.select(over.low, most, number)
    }

    /// The same for `u64` from `f64`.
    fn unsigned_pair(&mut self, a: Val) -> Regs {
        let (large, moved) = self.moved_down(a, 64);
        let number = moved.map(|x| self.b.unary(UnaryOp::ToInt, x));
        let (sign, zero) = (self.b.constant(Class::I64, SIGN_64), self.b.constant(Class::I64, 0u64));
        let large = self.mask_of(large);
        let bit = self.select_regs(large, Regs::pair(sign, sign), Regs::pair(zero, zero));
        let number = number.zip(bit, |x, bit| self.b.binary(BinaryOp::Xor, x, bit));
        if a.range.hi < 2f64.powi(64) {
            return number;
        }
        let over = self.at_least(a, 2f64.powi(64));
        let over = self.mask_of(over);
        let most = self.b.constant(Class::I64, u64::MAX);
        self.select_regs(over, Regs::pair(most, most), number)
    }

    /// Which numbers are at least half of 2^bits, and all of them with that taken off those.
    fn moved_down(&mut self, a: Val, bits: i32) -> (Regs, Regs) {
        let large = self.at_least(a, 2f64.powi(bits - 1));
        let (half, zero) = (self.float_like(&a, 2f64.powi(bits - 1)), self.float_like(&a, 0.0));
        let mask = self.mask_of(large);
        let off = self.select_regs(mask, half, zero);
        (large, a.regs.zip(off, |x, off| self.b.binary(BinaryOp::Sub, x, off)))
    }
}
