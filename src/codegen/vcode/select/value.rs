//! Values: the registers that hold one, its element type, and what is known about it.
//!
//! Every value of a kernel has the same number of lanes. What has 64 bits takes a pair of registers, unless it is an
//! `i64` that is known to fit 32 bits: that stays in one until a pair is needed, as indices mostly do.

use nestjit_ir::{DType, Kind, Scalar};

use super::Selector;
use crate::codegen::vcode::build::Builder;
use crate::codegen::vcode::{Class, MemType, Narrowing, Reg, Widening};

pub(super) const TRUE: u64 = u64::MAX;

/// The class of the registers that hold a type.
pub(super) fn class_of(dtype: DType) -> Class {
    match dtype {
        // A half is the number that it is.
        DType::F32 | DType::F16 | DType::BF16 => Class::F32,
        DType::F64 => Class::F64,
        DType::I64 | DType::U64 => Class::I64,
        DType::I32 | DType::I16 | DType::I8 | DType::U32 | DType::U16 | DType::U8 => Class::I32,
        DType::Bool => Class::Mask,
    }
}

/// How elements of a type lie in memory.
pub(super) fn mem_type(dtype: DType) -> MemType {
    match dtype {
        DType::F32 => MemType::F32,
        DType::F64 => MemType::F64,
        DType::I64 | DType::U64 => MemType::I64,
        DType::I32 | DType::U32 => MemType::I32,
        DType::I16 => MemType::I16,
        DType::U16 => MemType::U16,
        DType::F16 => MemType::F16,
        DType::BF16 => MemType::BF16,
        DType::I8 => MemType::I8,
        DType::U8 => MemType::U8,
        DType::Bool => MemType::Bool,
    }
}

/// The registers of a value. Where the upper half of the lanes is not in use, or all lanes are equal, one register may be
/// both halves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Regs {
    pub low: Reg,
    /// The upper half of the lanes, if they have 64 bits.
    pub high: Option<Reg>,
}

impl Regs {
    /// A value of lanes of 32 bits.
    pub fn one(low: Reg) -> Regs {
        Regs { low, high: None }
    }

    pub fn pair(low: Reg, high: Reg) -> Regs {
        Regs { low, high: Some(high) }
    }

    /// Applies a function to each register.
    pub fn map(self, mut f: impl FnMut(Reg) -> Reg) -> Regs {
        let low = f(self.low);
        let high = self.high.map(|h| if h == self.low { low } else { f(h) });
        Regs { low, high }
    }

    /// Applies a function to the registers of two values of one width.
    pub fn zip(self, other: Regs, mut f: impl FnMut(Reg, Reg) -> Reg) -> Regs {
        let low = f(self.low, other.low);
        let high = self.high.zip(other.high).map(
            |(a, b)| {
                if (a, b) == (self.low, other.low) { low } else { f(a, b) }
            },
        );
        Regs { low, high }
    }
}

/// Where values lie: integers exactly, those of 64 bits roughly.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Range {
    pub lo: f64,
    pub hi: f64,
    /// Whether it may be NaN.
    pub nan: bool,
}

impl Range {
    pub fn new(lo: f64, hi: f64) -> Range {
        Range { lo, hi, nan: false }
    }

    /// All values of a type.
    pub fn of(dtype: DType) -> Range {
        let bits = 8 * dtype.size() as i32;
        match dtype.kind() {
            Kind::Float => Range { lo: f64::NEG_INFINITY, hi: f64::INFINITY, nan: true },
            Kind::Signed => Range::new(-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0),
            Kind::Unsigned => Range::new(0.0, 2f64.powi(bits) - 1.0),
            Kind::Bool => Range::new(0.0, 1.0),
        }
    }

    /// One value.
    pub fn point(value: f64) -> Range {
        match value.is_nan() {
            true => Range { lo: f64::INFINITY, hi: f64::NEG_INFINITY, nan: true },
            false => Range::new(value, value),
        }
    }

    /// Whether all values, NaN aside, are within others.
    pub fn within(self, other: Range) -> bool {
        other.lo <= self.lo && self.hi <= other.hi
    }

    /// Whether all values are integers of 32 bits, if they are integers.
    pub fn fits_i32(self) -> bool {
        self.within(Range::of(DType::I32))
    }

    pub fn contains(self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    pub fn union(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi), nan: self.nan || other.nan }
    }

    /// The range of a function that never decreases.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Range {
        Range { lo: f(self.lo), hi: f(self.hi), nan: self.nan }
    }
}

/// A value in registers.
#[derive(Clone, Copy)]
pub(super) struct Val {
    pub dtype: DType,
    pub regs: Regs,
    /// Whether lanes differ.
    pub varying: bool,
    pub range: Range,
}

impl Val {
    /// A value of which nothing is known.
    pub fn new(dtype: DType, regs: Regs, varying: bool) -> Val {
        Val { dtype, regs, varying, range: Range::of(dtype) }
    }

    pub fn ranged(self, range: Range) -> Val {
        Val { range, ..self }
    }

    /// The only register of a value of 32-bit lanes.
    pub fn reg(&self) -> Reg {
        self.regs.low
    }

    /// Whether it takes a pair of registers.
    pub fn is_wide(&self) -> bool {
        self.regs.high.is_some()
    }
}

/// All lanes are this value.
pub(super) fn constant(b: &mut Builder, value: Scalar) -> Val {
    let dtype = value.dtype();
    let range = Range::point(match value {
        Scalar::F32(v) => f64::from(v),
        Scalar::F64(v) => v,
        Scalar::F16(v) => v.to_f64(),
        Scalar::BF16(v) => v.to_f64(),
        Scalar::I64(v) => v as f64,
        Scalar::I32(v) => f64::from(v),
        Scalar::I16(v) => f64::from(v),
        Scalar::I8(v) => f64::from(v),
        Scalar::U64(v) => v as f64,
        Scalar::U32(v) => f64::from(v),
        Scalar::U16(v) => f64::from(v),
        Scalar::U8(v) => f64::from(v),
        Scalar::Bool(v) => f64::from(u8::from(v)),
    });
    let regs = match value {
        Scalar::F32(v) => Regs::one(b.constant(Class::F32, v.to_bits())),
        Scalar::F16(v) => Regs::one(b.constant(Class::F32, v.to_f32().to_bits())),
        Scalar::BF16(v) => Regs::one(b.constant(Class::F32, v.to_f32().to_bits())),
        Scalar::F64(v) => wide_constant(b, Class::F64, v.to_bits()),
        Scalar::I64(v) => match i32::try_from(v) {
            Ok(v) => Regs::one(b.constant(Class::I32, v as u32)),
            Err(_) => wide_constant(b, Class::I64, v as u64),
        },
        Scalar::U64(v) => wide_constant(b, Class::I64, v),
        Scalar::I32(v) => Regs::one(b.constant(Class::I32, v as u32)),
        Scalar::I16(v) => Regs::one(b.constant(Class::I32, i32::from(v) as u32)),
        Scalar::I8(v) => Regs::one(b.constant(Class::I32, i32::from(v) as u32)),
        Scalar::U32(v) => Regs::one(b.constant(Class::I32, v)),
        Scalar::U16(v) => Regs::one(b.constant(Class::I32, u32::from(v))),
        Scalar::U8(v) => Regs::one(b.constant(Class::I32, u32::from(v))),
        Scalar::Bool(v) => Regs::one(b.constant(Class::Mask, if v { TRUE } else { 0 })),
    };
    Val { dtype, regs, varying: false, range }
}

fn wide_constant(b: &mut Builder, class: Class, bits: u64) -> Regs {
    let reg = b.constant(class, bits);
    Regs::pair(reg, reg)
}

impl Selector<'_> {
    /// Whether lanes of the current register of the group are in the upper half of a pair.
    pub(super) fn has_upper_half(&self) -> bool {
        2 * self.lanes() > self.b.lanes()
    }

    /// Converts lanes of 32 bits to a pair.
    pub(super) fn widened(&mut self, op: Widening, reg: Reg) -> Regs {
        let low = self.b.widen(op, reg, false);
        let high = if self.has_upper_half() { self.b.widen(op, reg, true) } else { low };
        Regs::pair(low, high)
    }

    /// Converts a pair to lanes of 32 bits.
    pub(super) fn narrowed(&mut self, op: Narrowing, pair: Regs) -> Reg {
        self.b.narrow(op, pair.low, pair.high.unwrap_or(pair.low))
    }

    /// A mask for lanes of 32 bits from one for a pair.
    pub(super) fn mask_of(&mut self, regs: Regs) -> Reg {
        if regs.high.is_none() {
            return regs.low;
        }
        let mask = self.narrowed(Narrowing::Mask, regs);
        self.wide_masks.insert(mask, regs);
        mask
    }

    /// A mask for lanes as wide as those of a value.
    pub(super) fn mask_like(&mut self, mask: Reg, like: Regs) -> Regs {
        if like.high.is_none() {
            return Regs::one(mask);
        }
        match self.wide_masks.get(&mask) {
            Some(regs) => *regs,
            None => self.widened(Widening::Mask, mask),
        }
    }

    /// `mask ? a : b` for values of one type, in registers of one width.
    pub(super) fn select_regs(&mut self, mask: Reg, a: Regs, b: Regs) -> Regs {
        let masks = self.mask_like(mask, a);
        let (low, same) = (self.b.select(masks.low, a.low, b.low), (masks.low, a.low, b.low));
        let high = match (masks.high, a.high, b.high) {
            (Some(m), Some(x), Some(y)) if (m, x, y) == same => Some(low),
            (Some(m), Some(x), Some(y)) => Some(self.b.select(m, x, y)),
            _ => None,
        };
        Regs { low, high }
    }

    /// The value as registers of the class of its type: an `i64` as a pair.
    pub(super) fn full(&mut self, a: Val) -> Val {
        match class_of(a.dtype).is_wide() && !a.is_wide() {
            true => Val { regs: self.widened(Widening::Signed, a.reg()), ..a },
            false => a,
        }
    }

    /// Two values of one type in registers of one width.
    pub(super) fn alike(&mut self, a: Val, b: Val) -> (Val, Val) {
        match a.is_wide() == b.is_wide() {
            true => (a, b),
            false => (self.full(a), self.full(b)),
        }
    }

    /// A constant of the type of a value, in registers of its width.
    pub(super) fn constant_like(&mut self, like: &Val, value: i64) -> Regs {
        let value = Scalar::from_i64(like.dtype, value);
        let value = constant(&mut self.b, value);
        if like.is_wide() { self.full(value).regs } else { value.regs }
    }
}
