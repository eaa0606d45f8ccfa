//! Loads of which lanes may not exist, decided at run time. Nothing is read for lanes that do not.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::assembler::{Jump, Label, Operand, Place};
use super::codes;
use super::emit::{Emitter, SCRATCH, SCRATCH_2, SCRATCH_LOW};
use super::needs::{by_lane, is_strided};
use crate::codegen::vcode::{Access, Guard};

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
        self.move_vector(to, otherwise);
        let done = self.asm.label();
        if guards.iter().any(|g| g.lo > g.hi) {
            // Never.
            self.asm.bind(done);
            return Ok(());
        }
        for guard in guards.iter().filter(|g| g.step == 0) {
            self.distance(guard)?;
            match i32::try_from(guard.hi - guard.lo) {
                Ok(span) => self.asm.put(Instruction::with2(Code::Cmp_rm64_imm32, SCRATCH, span)),
                Err(_) => {
                    self.set_constant(SCRATCH_2, guard.hi - guard.lo);
                    self.asm.put(Instruction::with2(Code::Cmp_r64_rm64, SCRATCH, SCRATCH_2));
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
            self.asm.put(Instruction::with2(Code::Cmp_r64_rm64, SCRATCH, SCRATCH_2));
            self.asm.put(Instruction::with2(cut, SCRATCH, SCRATCH_2));
        }
        self.broadcast_scratch(to);
        let v: Operand = self.v(to).into();
        let steps = self.lanes_operand(|l| (l as i64 * guard.step) as u32);
        self.asm.op(codes::ADD_INT.of(self.tier), &[v, v, steps]);
        Ok(self.constant_operand(span as u32))
    }

    /// Lanes decided by a mask register; see [`Emitter::load_by_vector`] for 256 bits.
    fn load_by_mask(&mut self, to: u8, from: &Access, guards: &[Guard], done: Label) -> Result<(), String> {
        let (k, t) = (self.mask_temporary()?, self.temporary(0)?);
        let all = from.stride == 0 || from.lanes == self.tier.lanes();
        let mut before = if all { None } else { Some(self.lane_mask(from.lanes)) };
        for guard in guards.iter().filter(|g| g.step != 0) {
            let span = self.distances(t, guard)?;
            // Unsigned "less or equal".
            let operands = [k.into(), self.v(t).into(), span, Operand::Imm(2)];
            self.asm.masked(Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8, &operands, before, false);
            before = Some(k);
        }
        if is_strided(from) {
            self.asm.op(Code::VEX_Kmovw_r32_kr, &[SCRATCH_LOW.into(), k.into()]);
            return self.load_strided_by_bits(to, from, done);
        }
        let place = self.place(from, 0)?;
        let load = if from.stride == 0 { codes::BROADCAST } else { codes::LOAD };
        self.asm.masked(load.of(self.tier), &[self.v(to).into(), place.into()], Some(k), false);
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
        let v = |number: u8| Operand::Reg(codes::ymm(number));
        let mut first = true;
        for guard in guards.iter().filter(|g| g.step != 0) {
            let span = self.distances(t, guard)?;
            let result = if first { m } else { other };
            // Unsigned "less or equal": being the minimum.
            self.asm.op(Code::VEX_Vpminud_ymm_ymm_ymmm256, &[v(result), v(t), span]);
            self.asm.op(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[v(result), v(result), v(t)]);
            if !first {
                self.asm.op(codes::AND.of(self.tier), &[v(m), v(m), v(other)]);
            }
            first = false;
        }
        if from.stride != 0 && from.lanes < self.tier.lanes() {
            let existing = self.lanes_operand(|l| if l < from.lanes { u32::MAX } else { 0 });
            self.asm.op(codes::AND.of(self.tier), &[v(m), v(m), existing]);
        }
        let bits = SCRATCH_LOW;
        if is_strided(from) {
            self.asm.op(Code::VEX_Vmovmskps_r32_ymm, &[bits.into(), v(m)]);
            return self.load_strided_by_bits(to, from, done);
        }
        if from.stride == 0 {
            self.asm.op(Code::VEX_Vmovmskps_r32_ymm, &[bits.into(), v(m)]);
            self.asm.put(Instruction::with2(Code::Test_rm32_r32, bits, bits));
            self.asm.jump(Jump::Zero, done);
            self.load(t, from)?;
        } else {
            let place = self.place(from, 0)?;
            self.asm.op(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[v(t), v(m), place.into()]);
        }
        self.blend_by_sign(to, m, t, otherwise);
        Ok(())
    }

    /// Loads the lanes whose bits are set in [`SCRATCH`]: all in one way if all are, else one by one into
    /// memory that holds the other lanes.
    fn load_strided_by_bits(&mut self, to: u8, from: &Access, done: Label) -> Result<(), String> {
        let bits = SCRATCH_LOW;
        let vector = self.tier.lanes() * 4;
        let Place::At(stack, offset) = self.working_place(0) else { return Err("no stack".into()) };
        let memory = |at: usize| MemoryOperand::with_base_displ(stack, i64::from(offset) + at as i64);
        let some = self.asm.label();
        self.asm.put(Instruction::with2(Code::Mov_rm32_r32, memory(vector), bits));
        let all = ((1u64 << from.lanes) - 1) as i32;
        self.asm.put(Instruction::with2(Code::Cmp_rm32_imm32, bits, all));
        self.asm.jump(Jump::NotZero, some);
        self.load_strided(to, from, from.lanes)?;
        self.asm.jump(Jump::Always, done);
        self.asm.bind(some);
        self.asm.op(codes::STORE.of(self.tier), &[self.working_place(0).into(), self.v(to).into()]);
        for lane in 0..from.lanes {
            let next = self.asm.label();
            self.asm.put(Instruction::with2(Code::Bt_rm32_imm8, memory(vector), lane as i32));
            self.asm.jump(Jump::NotCarry, next);
            let place = self.place(from, lane)?;
            self.asm.op(Code::Mov_r32_rm32, &[Register::ECX.into(), place.into()]);
            self.asm.put(Instruction::with2(Code::Mov_rm32_r32, memory(4 * lane), Register::ECX));
            self.asm.bind(next);
        }
        self.asm.op(codes::LOAD.of(self.tier), &[self.v(to).into(), self.working_place(0).into()]);
        Ok(())
    }
}
