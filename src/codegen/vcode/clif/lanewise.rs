//! What is computed lane by lane, because no instruction of the machines that Cranelift compiles for has it: shifts by
//! different amounts, some conversions, calls. And dot products of bytes and of pairs, which take several instructions.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::{Emitter, LANES};
use crate::codegen::vcode::{BinaryOp, Reg, ShiftOp};

impl Emitter<'_, '_> {
    /// A vector of this type, computed of the lanes of vectors of as many lanes.
    pub(super) fn each_lane(
        &mut self,
        ty: Type,
        args: &[Value],
        mut f: impl FnMut(&mut Self, &[Value]) -> Value,
    ) -> Value {
        let lanes = ty.lane_count() as u8;
        let mut results = Vec::with_capacity(LANES);
        for lane in 0..lanes {
            let args: Vec<Value> = args.iter().map(|a| self.b.ins().extractlane(*a, lane)).collect();
            results.push(f(self, &args));
        }
        self.of_lanes(ty, &results)
    }

    /// The same of a vector of four lanes from two of two lanes.
    pub(super) fn each_lane_of_pair(
        &mut self,
        ty: Type,
        a: Value,
        b: Value,
        f: impl Fn(&mut Self, Value) -> Value,
    ) -> Value {
        let mut results = Vec::with_capacity(LANES);
        for from in [a, b] {
            for lane in 0..2 {
                let x = self.b.ins().extractlane(from, lane);
                results.push(f(self, x));
            }
        }
        self.of_lanes(ty, &results)
    }

    /// A vector of scalars.
    pub(super) fn of_lanes(&mut self, ty: Type, lanes: &[Value]) -> Value {
        let mut v = self.b.ins().scalar_to_vector(ty, lanes[0]);
        for (lane, x) in lanes.iter().enumerate().skip(1) {
            v = self.b.ins().insertlane(v, *x, lane as u8);
        }
        v
    }

    /// A shift by a constant.
    pub(super) fn shift_by(&mut self, op: ShiftOp, a: Reg, amount: u8) -> Value {
        let a = self.get(a);
        let amount = self.b.ins().iconst(types::I32, i64::from(amount));
        match op {
            ShiftOp::Left => self.b.ins().ishl(a, amount),
            ShiftOp::SignedRight => self.b.ins().sshr(a, amount),
            ShiftOp::UnsignedRight => self.b.ins().ushr(a, amount),
        }
    }

    /// A shift by the amounts of another vector; those that are too large leave zeros, or the sign.
    pub(super) fn shift(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        let ty = self.type_of(a);
        let bits = i64::from(ty.lane_bits());
        self.each_lane(ty, &[a, b], |e, x| {
            let (x, by) = (x[0], x[1]);
            let fits = e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, by, bits);
            // Cranelift takes the amount modulo the width.
            let (shifted, beyond) = match op {
                BinaryOp::ShiftLeft => (e.b.ins().ishl(x, by), e.b.ins().iconst(ty.lane_type(), 0)),
                BinaryOp::ShiftRightSigned => (e.b.ins().sshr(x, by), e.b.ins().sshr_imm_u(x, bits - 1)),
                _ => (e.b.ins().ushr(x, by), e.b.ins().iconst(ty.lane_type(), 0)),
            };
            e.b.ins().select(fits, shifted, beyond)
        })
    }

    /// The even bytes or the odd ones as numbers of 16 bits.
    pub(super) fn bytes(&mut self, a: Value, odd: bool, signed: bool) -> Value {
        let mut pairs = self.vector_bitcast(types::I16X8, a);
        let by = self.b.ins().iconst(types::I32, 8);
        if !odd {
            pairs = self.b.ins().ishl(pairs, by);
        }
        let pairs = if signed { self.b.ins().sshr(pairs, by) } else { self.b.ins().ushr(pairs, by) };
        self.vector_bitcast(types::I32X4, pairs)
    }

    /// The sums of the products of pairs of numbers of 16 bits.
    pub(super) fn pair_dot(&mut self, a: Value, b: Value) -> Value {
        let [a, b] = [a, b].map(|v| self.vector_bitcast(types::I16X8, v));
        let low = [a, b].map(|v| self.b.ins().swiden_low(v));
        let high = [a, b].map(|v| self.b.ins().swiden_high(v));
        // The shape that x86's pmaddwd is recognised by.
        let (low, high) = (self.b.ins().imul(low[0], low[1]), self.b.ins().imul(high[0], high[1]));
        self.b.ins().iadd_pairwise(low, high)
    }

    /// `c` plus the products of four unsigned bytes with four signed ones, in each lane.
    pub(super) fn dot(&mut self, a: Value, b: Value, c: Value) -> Value {
        [false, true].into_iter().fold(c, |sum, odd| {
            let (a, b) = (self.bytes(a, odd, false), self.bytes(b, odd, true));
            let products = self.pair_dot(a, b);
            self.b.ins().iadd(sum, products)
        })
    }
}
