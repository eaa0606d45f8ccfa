//! Half types, which are `f32` in registers.

use iced_x86::{Code, Register};

use crate::codegen::vcode::x86::assembler::Operand;
use crate::codegen::vcode::x86::codes::{self, xmm, ymm, zmm};
use crate::codegen::vcode::x86::emit::{Emitter, SCRATCH_LOW};
use crate::codegen::vcode::x86::needs::{is_converted_store, is_strided, to_store};
use crate::codegen::vcode::{Access, MemType};

/// Rounding of conversions to `f16`: to nearest even, whatever the control register says.
const NEAREST: Operand = Operand::Imm(0);
/// Elements of 16 bits in a register of 128 bits.
const X_HALVES: usize = 8;
/// How far the bits of `bf16` are above those of integers.
const UP: Operand = Operand::Imm(16);

impl Emitter<'_, '_> {
    pub(super) fn load_half(&mut self, to: u8, from: &Access) -> Result<(), String> {
        let (v, tier, is_f16) = (Operand::Reg(self.v(to)), self.tier, from.ty == MemType::F16);
        if from.stride == 0 {
            let place: Operand = self.place(from, 0)?.into();
            let all = if is_f16 { self.half(to) } else { self.v(to) };
            let code = match (tier.is_512(), is_f16) {
                (false, true) => Code::VEX_Vpbroadcastw_xmm_xmmm16,
                (false, false) => Code::VEX_Vpbroadcastw_ymm_xmmm16,
                (true, true) => Code::EVEX_Vpbroadcastw_ymm_k1z_xmmm16,
                (true, false) => Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16,
            };
            self.asm.op(code, &[all.into(), place]);
            match is_f16 {
                true => self.asm.op(codes::HALF_TO_FLOAT.of(tier), &[v, all.into()]),
                false => self.asm.op(codes::SHIFT_LEFT.of(tier, false), &[v, v, UP]),
            }
            return Ok(());
        }
        match (is_f16, from.lanes) {
            (true, 1) => {
                self.load_one(from, 0, MemType::F16)?;
                self.f16_from_scratch(to);
            }
            (true, _) => self.load_narrow(to, from, MemType::F16)?,
            (false, _) => {
                self.load_narrow(to, from, MemType::U16)?;
                self.asm.op(codes::SHIFT_LEFT.of(tier, false), &[v, v, UP]);
            }
        }
        Ok(())
    }

    /// The `f16` whose bits are in the scratch register, in the first lane; the others become 0.
    fn f16_from_scratch(&mut self, to: u8) {
        let (x, tier) = (Operand::Reg(self.x(to)), self.tier);
        self.asm.op(codes::FROM_INTEGER.of(tier), &[x, SCRATCH_LOW.into()]);
        self.asm.op(codes::HALF_TO_FLOAT_X.of(tier), &[x, x]);
    }

    /// One element, as the bits of an `f32` in the low half of the scratch register. `f16` takes a vector register.
    pub(in super::super) fn load_one_half(
        &mut self,
        from: &Access,
        lane: usize,
        by: u8,
    ) -> Result<(), String> {
        self.load_one(from, lane, from.ty)?;
        let bits: Operand = SCRATCH_LOW.into();
        if from.ty == MemType::F16 {
            self.f16_from_scratch(by);
            self.asm.op(codes::TO_INTEGER.of(self.tier), &[bits, self.x(by).into()]);
        } else {
            self.asm.op(Code::Shl_rm32_imm8, &[bits, UP]);
        }
        Ok(())
    }

    /// The elements whose bits are set in a mask register, adjacent or one for all; the other lanes stay. One for all takes
    /// a vector register.
    pub(in super::super) fn load_half_by_mask(
        &mut self,
        to: u8,
        from: &Access,
        k: Register,
        by: u8,
    ) -> Result<(), String> {
        let v = Operand::Reg(zmm(to));
        if from.stride == 0 {
            self.load_one_half(from, 0, by)?;
            let operands = [v, SCRATCH_LOW.into()];
            self.asm.masked(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &operands, Some(k), false);
            return Ok(());
        }
        self.load_narrow_by_mask(to, from, k)?;
        if from.ty == MemType::BF16 {
            let code = codes::SHIFT_LEFT.of(self.tier, false);
            self.asm.masked(code, &[v, v, UP], Some(k), false);
        }
        Ok(())
    }

    pub(super) fn store_f16(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let tier = self.tier;
        if is_converted_store(to, tier) {
            let k = self.access_mask(to, true);
            let place: Operand = self.place(to, 0)?.into();
            let (code, register) = match (to.lanes, tier.is_512()) {
                (4, _) => (codes::FLOAT_TO_HALF_X.of(tier), self.x(src)),
                (8, false) => (codes::FLOAT_TO_HALF.of(tier), ymm(src)),
                (8, true) => (Code::EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8, ymm(src)),
                _ => (codes::FLOAT_TO_HALF.of(tier), self.v(src)),
            };
            self.asm.masked(code, &[place, register.into(), NEAREST], k, false);
            return Ok(());
        }
        let halves = self.temporary(0)?;
        let x: Operand = xmm(halves).into();
        let (half, v) = (self.half(halves).into(), self.v(src).into());
        self.asm.op(codes::FLOAT_TO_HALF.of(tier), &[half, v, NEAREST]);
        if to.stride != 0 && to.lanes > 1 && !is_strided(to) {
            let place = self.place(to, 0)?;
            self.store_bytes(halves, place, to.lanes * to.ty.bytes() as usize);
            return Ok(());
        }
        let lanes = if to.stride == 0 { 1 } else { to.lanes };
        for lane in 0..lanes {
            if lane == X_HALVES {
                let upper = Code::EVEX_Vextracti32x4_xmmm128_k1z_ymm_imm8;
                self.asm.op(upper, &[x, ymm(halves).into(), Operand::Imm(1)]);
            }
            let place: Operand = self.place(to, lane)?.into();
            self.asm.op(codes::EXTRACT_2.of(tier), &[place, x, Operand::Imm((lane % X_HALVES) as u8)]);
        }
        Ok(())
    }

    pub(super) fn store_bf16(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let integers = Access { ty: MemType::U16, ..to.clone() };
        let moved = self.temporary(to_store(&integers, self.tier))?;
        let operands = [self.v(moved).into(), self.v(src).into(), UP];
        self.asm.op(codes::SHIFT_RIGHT.of(self.tier, false), &operands);
        self.store_narrow(moved, &integers)
    }
}
