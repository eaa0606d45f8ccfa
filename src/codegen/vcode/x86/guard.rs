//! Loads of which lanes may not exist, decided at run time. Nothing is read for lanes that do not.

use iced_x86::Code;

use super::assembler::{Jump, Label, Operand, Place};
use super::codes::{self, mask, xmm, ymm};
use super::emit::{Emitter, SCRATCH, SCRATCH_2, SCRATCH_LOW};
use super::needs::{by_lane, existing_lanes, lane_by_lane};
use crate::codegen::vcode::{Access, Class, Guard, MemType};

/// Lane positions are compared in 32 bits. Values are cut to this magnitude before: the same condition
/// holds, because limits and steps are well below.
const REACH: i64 = 4 * Guard::LIMIT;

impl Emitter<'_, '_> {
    pub fn load_guarded(
        &mut self,
        to: u8,
        from: &Access,
        guards: &[Guard],
        otherwise: u8,
    ) -> Result<(), String> {
        self.copy_as(from.ty.class(), to, otherwise);
        let done = self.asm.label();
        if guards.iter().any(|g| g.lo > g.hi) {
            // Never.
            self.asm.bind(done);
            return Ok(());
        }
        for guard in guards.iter().filter(|g| g.step == 0) {
            self.distance(guard)?;
            match i32::try_from(guard.hi - guard.lo) {
                Ok(span) => self.asm.op(Code::Cmp_rm64_imm32, &[SCRATCH.into(), span.into()]),
                Err(_) => {
                    self.set_constant(SCRATCH_2, guard.hi - guard.lo);
                    self.asm.op(Code::Cmp_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
                }
            }
            // Below is far above, without a sign.
            self.asm.jump(Jump::Above, done);
        }
        if !by_lane(guards) {
            self.load(to, from)?;
        } else if self.tier.is_512() {
            self.load_by_mask(to, from, guards, done)?;
        } else {
            self.load_by_vector(to, from, guards, otherwise, done)?;
        }
        self.asm.bind(done);
        Ok(())
    }

    /// The guarded value minus its lower limit, in [`SCRATCH`].
    fn distance(&mut self, guard: &Guard) -> Result<(), String> {
        self.int(&guard.value)?;
        self.add_constant(SCRATCH, guard.lo.wrapping_neg());
        Ok(())
    }

    /// How far each lane is from the lower limit, in a vector register.
    fn distances(&mut self, to: u8, guard: &Guard) -> Result<Operand, String> {
        let span = guard.hi - guard.lo;
        if !guard.fits() {
            return Err("a guard whose limits are too far apart".into());
        }
        self.distance(guard)?;
        for (limit, cut) in [(REACH, Code::Cmovg_r64_rm64), (-REACH, Code::Cmovl_r64_rm64)] {
            self.set_constant(SCRATCH_2, limit);
            self.asm.op(Code::Cmp_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
            self.asm.op(cut, &[SCRATCH.into(), SCRATCH_2.into()]);
        }
        self.broadcast_scratch(to);
        let v: Operand = self.v(to).into();
        let steps = self.lanes_operand(|l| (l as i64 * guard.step) as u32);
        self.asm.op(codes::ADD_INT.of(self.tier, false), &[v, v, steps]);
        Ok(self.constant_operand(span as u32))
    }

    /// Lanes decided by a mask register; see [`Emitter::load_by_vector`] for 256 bits.
    fn load_by_mask(&mut self, to: u8, from: &Access, guards: &[Guard], done: Label) -> Result<(), String> {
        let (k, t, tier) = (self.mask_temporary()?, self.temporary(0)?, self.tier);
        let mut before = existing_lanes(from, tier).map(|lanes| self.lane_mask(lanes));
        for guard in guards.iter().filter(|g| g.step != 0) {
            let span = self.distances(t, guard)?;
            // Unsigned "less or equal".
            let operands = [k.into(), self.v(t).into(), span, Operand::Imm(2)];
            self.asm.masked(Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8, &operands, before, false);
            before = Some(k);
        }
        if lane_by_lane(from, tier) {
            self.asm.op(Code::VEX_Kmovw_r32_kr, &[SCRATCH_LOW.into(), k.into()]);
            return self.load_by_bits(to, from, done);
        }
        if from.stride == 0 && !from.ty.is_plain() {
            // Not read by an instruction that takes a mask.
            self.asm.op(Code::VEX_Kortestw_kr_kr, &[k.into(), k.into()]);
            self.asm.jump(Jump::Zero, done);
        }
        match from.ty {
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => {
                let place = self.place(from, 0)?;
                let load = if from.stride == 0 { codes::BROADCAST } else { codes::LOAD_LANES };
                let code = load.of(tier, from.ty.class().is_wide());
                self.asm.masked(code, &[self.v(to).into(), place.into()], Some(k), false);
            }
            MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => {
                self.load_narrow_by_mask(to, from, k)?
            }
            MemType::F16 | MemType::BF16 => self.load_half_by_mask(to, from, k, t)?,
            MemType::SaturatedU8 => return Err("a load of what is saturated when it is stored".into()),
            MemType::Bool => {
                let to: Operand = mask(to).into();
                self.asm.op(Code::VEX_Kandnw_kr_kr_kr, &[to, k.into(), to]);
                self.load_bools_by_mask(k, from, Some(k))?;
                self.asm.op(Code::VEX_Korw_kr_kr_kr, &[to, to, k.into()]);
            }
        }
        Ok(())
    }

    /// Lanes decided by the signs of a vector register.
    fn load_by_vector(
        &mut self,
        to: u8,
        from: &Access,
        guards: &[Guard],
        otherwise: u8,
        done: Label,
    ) -> Result<(), String> {
        let (t, m, other) = (self.temporary(0)?, self.temporary(1)?, self.temporary(2)?);
        let v = |number: u8| Operand::Reg(ymm(number));
        let mut first = true;
        for guard in guards.iter().filter(|g| g.step != 0) {
            let span = self.distances(t, guard)?;
            let result = if first { m } else { other };
            // Unsigned "less or equal": being the minimum.
            self.asm.op(Code::VEX_Vpminud_ymm_ymm_ymmm256, &[v(result), v(t), span]);
            self.asm.op(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[v(result), v(result), v(t)]);
            if !first {
                self.asm.op(codes::AND.of(self.tier, false), &[v(m), v(m), v(other)]);
            }
            first = false;
        }
        if let Some(lanes) = existing_lanes(from, self.tier) {
            let existing = self.lanes_operand(|l| if l < lanes { u32::MAX } else { 0 });
            self.asm.op(codes::AND.of(self.tier, false), &[v(m), v(m), existing]);
        }
        let wide = from.ty.class().is_wide();
        let bits = SCRATCH_LOW;
        if from.stride == 0 || lane_by_lane(from, self.tier) {
            self.asm.op(Code::VEX_Vmovmskps_r32_ymm, &[bits.into(), v(m)]);
            if from.stride != 0 {
                return self.load_by_bits(to, from, done);
            }
            if wide {
                // The upper lanes stand for none.
                self.asm.op(Code::And_rm32_imm8, &[bits.into(), 0xfi32.into()]);
            }
            self.asm.op(Code::Test_rm32_r32, &[bits.into(), bits.into()]);
            self.asm.jump(Jump::Zero, done);
        }
        if wide {
            self.asm.op(codes::EXTEND_SIGNED.of(self.tier), &[v(m), xmm(m).into()]);
        }
        if from.stride == 0 {
            self.load(t, from)?;
        } else {
            let place = self.place(from, 0)?;
            let code =
                if wide { Code::VEX_Vmaskmovpd_ymm_ymm_m256 } else { Code::VEX_Vmaskmovps_ymm_ymm_m256 };
            self.asm.op(code, &[v(t), v(m), place.into()]);
        }
        self.blend_by_sign(to, m, t, otherwise);
        Ok(())
    }

    /// Loads the lanes whose bits are set in [`SCRATCH`]: all in one way if all are, else one by one into
    /// memory that holds the other lanes.
    fn load_by_bits(&mut self, to: u8, from: &Access, done: Label) -> Result<(), String> {
        let bits = SCRATCH_LOW;
        let vector = self.tier.lanes() * 4;
        let wide = from.ty.class().is_wide();
        let Place::At(stack, offset) = self.working_place(0) else { return Err("no stack".into()) };
        let memory = |at: usize| Place::Slot(stack, offset + at as i32);
        let some = self.asm.label();
        self.asm.op(Code::Mov_rm32_r32, &[memory(vector).into(), bits.into()]);
        let all = ((1u64 << from.lanes) - 1) as i32;
        self.asm.op(Code::Cmp_rm32_imm32, &[bits.into(), all.into()]);
        self.asm.jump(Jump::NotZero, some);
        self.load(to, from)?;
        self.asm.jump(Jump::Always, done);
        self.asm.bind(some);
        // A mask register is a vector meanwhile.
        let in_mask = from.ty.class() == Class::Mask && self.tier.is_512();
        let lanes = if in_mask { self.temporary(0)? } else { to };
        let v: Operand = self.v(lanes).into();
        if in_mask {
            self.asm.op(Code::EVEX_Vpmovm2d_zmm_kr, &[v, mask(to).into()]);
        }
        self.asm.op(codes::STORE.of(self.tier), &[self.working_place(0).into(), v]);
        for lane in 0..from.lanes {
            let next = self.asm.label();
            self.asm.op(Code::Bt_rm32_imm8, &[memory(vector).into(), (lane as i32).into()]);
            self.asm.jump(Jump::NotCarry, next);
            if wide {
                let place = self.place(from, lane)?;
                self.asm.op(Code::Mov_r64_rm64, &[SCRATCH.into(), place.into()]);
                self.asm.op(Code::Mov_rm64_r64, &[memory(8 * lane).into(), SCRATCH.into()]);
            } else {
                match from.ty {
                    MemType::F16 | MemType::BF16 => {
                        let by = self.temporary(0)?;
                        self.load_one_half(from, lane, by)?;
                    }
                    MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 | MemType::Bool => {
                        self.load_one(from, lane, from.ty)?;
                    }
                    MemType::I8 | MemType::U8 | MemType::SaturatedU8 | MemType::I16 | MemType::U16 => {
                        self.load_one(from, lane, from.ty)?;
                    }
                }
                if from.ty == MemType::Bool {
                    // All bits of what is not 0.
                    self.asm.op(Code::Neg_rm32, &[bits.into()]);
                    self.asm.op(Code::Sbb_rm32_r32, &[bits.into(), bits.into()]);
                }
                self.asm.op(Code::Mov_rm32_r32, &[memory(4 * lane).into(), bits.into()]);
            }
            self.asm.bind(next);
        }
        self.asm.op(codes::LOAD.of(self.tier), &[v, self.working_place(0).into()]);
        if in_mask {
            self.asm.op(Code::EVEX_Vpmovd2m_kr_zmm, &[mask(to).into(), v]);
        }
        Ok(())
    }
}
