//! Lanes that lie where lanes of another register say: loads of one element after the other, which take no longer than the
//! machines' own gathers.

use iced_x86::Code;

use crate::codegen::vcode::x86::assembler::{Operand, Place};
use crate::codegen::vcode::x86::codes::{self, mask, ymm};
use crate::codegen::vcode::x86::emit::{Emitter, SCRATCH_2_LOW};
use crate::codegen::vcode::x86::needs::X_BYTES;
use crate::codegen::vcode::{Access, MemType, Reg};

/// Offsets in a register of 128 bits.
const QUARTER: usize = 4;
/// How far the bits of `bf16` are above those of integers.
const UP: Operand = Operand::Imm(16);

impl Emitter<'_, '_> {
    /// The elements of an access that are so many bytes further on as lanes of `offsets` say: those from `first` on, or the first
    /// of them for all.
    pub fn gather(
        &mut self,
        to: u8,
        offsets: Reg,
        from: &Access,
        first: Option<usize>,
    ) -> Result<(), String> {
        let offsets = self.number(offsets)?;
        let Some(first) = first else {
            let x: Operand = self.x(offsets).into();
            self.asm.op(codes::TO_INTEGER.of(self.tier), &[SCRATCH_2_LOW.into(), x]);
            self.moved = true;
            let loaded = self.load(to, from);
            self.moved = false;
            return loaded;
        };
        let tier = self.tier;
        match from.ty {
            MemType::F32 | MemType::I32 | MemType::F64 | MemType::I64 => {
                self.gather_parts(to, (offsets, first), from)
            }
            MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 | MemType::F16 => {
                self.gather_parts(to, (offsets, first), from)?;
                self.extend(to, from.ty)
            }
            MemType::BF16 => {
                self.gather_parts(to, (offsets, first), from)?;
                self.extend(to, MemType::U16)?;
                let v: Operand = self.v(to).into();
                self.asm.op(codes::SHIFT_LEFT.of(tier, false), &[v, v, UP]);
                Ok(())
            }
            MemType::Bool if tier.is_512() => {
                let bytes = self.temporary(2)?;
                self.gather_parts(bytes, (offsets, first), from)?;
                self.test_bytes(mask(to), bytes, None);
                Ok(())
            }
            MemType::Bool => {
                self.gather_parts(to, (offsets, first), from)?;
                self.extend(to, MemType::U8)?;
                let (v, zero) = (Operand::Reg(ymm(to)), self.constant_operand(0));
                self.asm.op(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, &[v, v, zero]);
                Ok(())
            }
            MemType::SaturatedU8 => Err("a load of what is saturated when it is stored".into()),
        }
    }

    /// The elements next to each other from the low bytes of a register on; behind them are zeros.
    fn gather_parts(
        &mut self,
        to: u8,
        (offsets, from_lane): (u8, usize),
        from: &Access,
    ) -> Result<(), String> {
        let tier = self.tier;
        let bytes = from.ty.bytes();
        let group_lanes = (X_BYTES / bytes) as usize;
        let part = self.temporary(0)?;
        // The quarter of the offsets that is at hand.
        let mut at_hand = None;
        for first in (0..from.lanes).step_by(group_lanes) {
            let group = if first == 0 { to } else { part };
            let x: Operand = self.x(group).into();
            if bytes < 4 {
                self.asm.op(codes::XOR_X.of(tier), &[x; 3]);
            }
            for lane in first..from.lanes.min(first + group_lanes) {
                let place: Operand =
                    self.gathered(from, lane, (offsets, from_lane + lane), &mut at_hand)?.into();
                let position = lane - first;
                match bytes {
                    1 => self.asm.op(codes::INSERT_1.of(tier), &[x, x, place, Operand::Imm(position as u8)]),
                    2 => self.asm.op(codes::INSERT_2.of(tier), &[x, x, place, Operand::Imm(position as u8)]),
                    4 if position == 0 => self.asm.op(codes::LOAD_4.of(tier), &[x, place]),
                    4 => {
                        let position = Operand::Imm((position << 4) as u8);
                        self.asm.op(codes::INSERT_4.of(tier), &[x, x, place, position]);
                    }
                    _ if position == 0 => self.asm.op(codes::LOAD_8.of(tier), &[x, place]),
                    _ => self.asm.op(codes::LOAD_UPPER.of(tier), &[x, x, place]),
                }
            }
            if first > 0 {
                let position = Operand::Imm((first / group_lanes) as u8);
                let v: Operand = self.v(to).into();
                self.asm.op(codes::INSERT_X.of(tier), &[v, v, x, position]);
            }
        }
        Ok(())
    }

    /// The place of a lane, which is as many bytes further on as a lane of the offsets says.
    fn gathered(
        &mut self,
        from: &Access,
        lane: usize,
        (offsets, at): (u8, usize),
        at_hand: &mut Option<usize>,
    ) -> Result<Place, String> {
        let (tier, quarter) = (self.tier, at / QUARTER);
        let register = if quarter == 0 { offsets } else { self.temporary(1)? };
        let x: Operand = self.x(register).into();
        if quarter > 0 && *at_hand != Some(quarter) {
            let operands = [x, self.v(offsets).into(), Operand::Imm(quarter as u8)];
            self.asm.op(codes::EXTRACT_X.of(tier), &operands);
            *at_hand = Some(quarter);
        }
        let offset: Operand = SCRATCH_2_LOW.into();
        match at % QUARTER {
            0 => self.asm.op(codes::TO_INTEGER.of(tier), &[offset, x]),
            position => {
                self.asm.op(codes::EXTRACT_4.of(tier), &[offset, x, Operand::Imm(position as u8)]);
            }
        }
        self.moved = true;
        let place = self.place(from, lane);
        self.moved = false;
        place
    }
}
