//! Conversions between lanes of 32 and of 64 bits, and exchanges of lanes.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Emitter;
use crate::codegen::vcode::{Narrowing, Widening};

impl Emitter<'_, '_> {
    /// Lane `l` of the result is lane `l ^ distance`.
    pub(super) fn exchange(&mut self, a: Value, distance: usize) -> Value {
        let ty = self.type_of(a);
        // Lanes of 64 bits move as two parts.
        let distance = if self.is_wide(a) { 2 * distance } else { distance };
        self.pick(ty, a, a, [0, 1, 2, 3].map(|part| part ^ distance))
    }

    pub(super) fn widen(&mut self, op: Widening, a: Value, upper: bool) -> Value {
        let lower = |e: &mut Self, ty| if upper { e.pick(ty, a, a, [2, 3, 2, 3]) } else { a };
        match op {
            Widening::Float => {
                let half = lower(self, types::F32X4);
                self.b.ins().fvpromote_low(half)
            }
            Widening::ToFloat => {
                let half = lower(self, types::I32X4);
                let half = self.b.ins().swiden_low(half);
                self.b.ins().fcvt_from_sint(types::F64X2, half)
            }
            Widening::Signed | Widening::Mask if upper => self.b.ins().swiden_high(a),
            Widening::Signed | Widening::Mask => self.b.ins().swiden_low(a),
            Widening::Unsigned if upper => self.b.ins().uwiden_high(a),
            Widening::Unsigned => self.b.ins().uwiden_low(a),
        }
    }

    pub(super) fn narrow(&mut self, op: Narrowing, a: Value, b: Value) -> Value {
        match op {
            Narrowing::Float => {
                let [a, b] = [a, b].map(|v| self.b.ins().fvdemote(v));
                self.pick(types::F32X4, a, b, [0, 1, 4, 5])
            }
            Narrowing::Int | Narrowing::Mask => self.pick(types::I32X4, a, b, [0, 2, 4, 6]),
            Narrowing::ToInt => {
                self.each_lane_of_pair(types::I32X4, a, b, |e, x| e.b.ins().fcvt_to_sint_sat(types::I32, x))
            }
            Narrowing::ToFloat => {
                self.each_lane_of_pair(types::F32X4, a, b, |e, x| e.b.ins().fcvt_from_sint(types::F32, x))
            }
        }
    }
}
