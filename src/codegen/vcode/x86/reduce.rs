//! Combining the lanes of a register, in halves: lane `i` with lane `i + n / 2`, and so on.

use iced_x86::Code;

use super::assembler::{Jump, Operand, Place};
use super::codes::{self, ymm};
use super::emit::{Emitter, SCRATCH_LOW};
use crate::codegen::vcode::Combine;

const NAN: f32 = f32::NAN;

/// What changes nothing.
fn identity(op: Combine) -> f32 {
    match op {
        // Keeps the sign of zero.
        Combine::Add => -0.0,
        Combine::Mul => 1.0,
        Combine::Max => f32::NEG_INFINITY,
        Combine::Min => f32::INFINITY,
    }
}

impl Emitter<'_, '_> {
    /// All lanes of `to` become the combination of the first `lanes` of `a`.
    pub fn reduce(&mut self, op: Combine, to: u8, a: u8, lanes: usize) -> Result<(), String> {
        let (sum, part) = (self.temporary(0)?, self.temporary(1)?);
        let tier = self.tier;
        let all = lanes >= tier.lanes();
        let mut whole = a;
        if !all {
            self.broadcast_constant(sum, identity(op));
            if tier.is_512() {
                let k = self.lane_mask(lanes);
                self.blend(sum, k, a, sum, false);
            } else {
                let existing = self.existing(lanes);
                self.asm.op(codes::LOAD.of(tier), &[self.v(part).into(), existing]);
                self.blend_by_sign(sum, part, a, sum);
            }
            whole = sum;
        }
        let (narrow, wide) = codes::combine(op, tier);
        let (x, y) = (|e: &Self, n: u8| Operand::Reg(e.x(n)), |n: u8| Operand::Reg(ymm(n)));
        let extract = if tier.is_512() {
            let operands = [y(part), self.v(whole).into(), Operand::Imm(1)];
            self.asm.op(Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8, &operands);
            self.asm.op(wide, &[y(sum), y(whole), y(part)]);
            whole = sum;
            Code::EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8
        } else {
            Code::VEX_Vextractf128_xmmm128_ymm_imm8
        };
        self.asm.op(extract, &[x(self, part), y(whole), Operand::Imm(1)]);
        self.asm.op(narrow, &[x(self, sum), x(self, whole), x(self, part)]);
        // Exchanges halves, then neighbours.
        for order in [0x4e, 0xb1] {
            self.asm.op(codes::SHUFFLE_X.of(tier), &[x(self, part), x(self, sum), Operand::Imm(order)]);
            self.asm.op(narrow, &[x(self, sum), x(self, sum), x(self, part)]);
        }
        self.asm.op(codes::BROADCAST_X.of(tier, false), &[self.v(to).into(), x(self, sum)]);
        if matches!(op, Combine::Max | Combine::Min) {
            self.nan_if_any(to, a, lanes, part)?;
        }
        Ok(())
    }

    /// The instructions for maximum and minimum lose NaN in one operand.
    fn nan_if_any(&mut self, to: u8, a: u8, lanes: usize, part: u8) -> Result<(), String> {
        let a: Operand = self.v(a).into();
        let unordered = Operand::Imm(3);
        let all = lanes >= self.tier.lanes();
        let none = self.asm.label();
        if self.tier.is_512() {
            let k = self.mask_temporary()?;
            let existing = if all { None } else { Some(self.lane_mask(lanes)) };
            self.asm.masked(
                codes::COMPARE.of(self.tier, false),
                &[k.into(), a, a, unordered],
                existing,
                false,
            );
            self.asm.op(Code::VEX_Kortestw_kr_kr, &[k.into(), k.into()]);
        } else {
            let v: Operand = self.v(part).into();
            self.asm.op(codes::COMPARE.of(self.tier, false), &[v, a, a, unordered]);
            if !all {
                let existing = self.existing(lanes);
                self.asm.op(codes::AND.of(self.tier, false), &[v, v, existing]);
            }
            let bits = SCRATCH_LOW;
            self.asm.op(Code::VEX_Vmovmskps_r32_ymm, &[bits.into(), v]);
            self.asm.op(Code::Test_rm32_r32, &[bits.into(), bits.into()]);
        }
        self.asm.jump(Jump::Zero, none);
        self.broadcast_constant(to, NAN);
        self.asm.bind(none);
        Ok(())
    }

    /// All bits of the first lanes.
    fn existing(&mut self, lanes: usize) -> Operand {
        self.lanes_operand(|l| if l < lanes { u32::MAX } else { 0 })
    }

    fn broadcast_constant(&mut self, to: u8, value: f32) {
        let place = Place::Constant(self.asm.constant(&[value.to_bits()]));
        self.asm.op(codes::BROADCAST.of(self.tier, false), &[self.v(to).into(), place.into()]);
    }
}
