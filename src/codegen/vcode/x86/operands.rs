//! Where operands are: machine registers, temporaries, memory operands, constants, masks of lanes.

use iced_x86::{Code, Register};

use super::assembler::{Mem, Operand, Place};
use super::codes::{mask, xmm, ymm, zmm};
use super::emit::Emitter;
use crate::codegen::vcode::Reg;

/// Mask registers for values; the others are [`LANE_MASK`] and [`LANE_MASK_2`].
pub(super) const MASKS: usize = 5;
/// Holds the most important lane mask.
const LANE_MASK: Register = Register::K7;
/// Holds the second one, or whichever is needed if there are more than two.
const LANE_MASK_2: Register = Register::K6;

impl Emitter<'_, '_> {
    /// The stack slot of a vector register.
    pub fn vector_slot(&self, slot: usize) -> Place {
        Place::At(Register::RSP, (slot * self.tier.lanes() * 4) as i32)
    }

    /// The memory that instructions work with, plus `offset` bytes.
    pub fn working_place(&self, offset: usize) -> Place {
        Place::At(Register::RSP, (self.working + offset) as i32)
    }

    /// Whether a register is in a mask register, if it is in one at all.
    pub fn in_mask_register(&self, reg: Reg) -> bool {
        self.tier.is_512() && self.flat.kernel.class(reg).is_mask()
    }

    /// The number of the machine register that a register has at the current node.
    pub fn number(&self, reg: Reg) -> Result<u8, String> {
        self.placed(reg).ok_or_else(|| format!("{reg} has no machine register at {}", self.at))
    }

    /// The same, if it has one.
    fn placed(&self, reg: Reg) -> Option<u8> {
        let number = match self.allocation.whole[reg.0 as usize] {
            Some(number) => number,
            None => *self.allocation.brief.get(&(reg, self.at))?,
        };
        // Mask register 0 means that there is no mask.
        Some(if self.in_mask_register(reg) { number + 1 } else { number })
    }

    /// A whole vector register.
    pub fn v(&self, number: u8) -> Register {
        if self.tier.is_512() { zmm(number) } else { ymm(number) }
    }

    /// The low half of a vector register.
    pub fn half(&self, number: u8) -> Register {
        if self.tier.is_512() { ymm(number) } else { xmm(number) }
    }

    /// The low 128 bits of a vector register.
    pub fn x(&self, number: u8) -> Register {
        xmm(number)
    }

    /// The vector register of an operand.
    pub fn vector(&self, reg: Reg) -> Result<Register, String> {
        Ok(self.v(self.number(reg)?))
    }

    /// A temporary vector register of the current node.
    pub fn temporary(&self, which: usize) -> Result<u8, String> {
        let list = self.allocation.temporaries.get(&self.at);
        list.and_then(|l| l.get(which)).copied().ok_or_else(|| "a temporary is missing".into())
    }

    /// A temporary mask register of the current node.
    pub fn mask_temporary(&self) -> Result<Register, String> {
        let list = self.allocation.mask_temporaries.get(&self.at);
        list.and_then(|l| l.first()).map(|k| mask(k + 1)).ok_or_else(|| "a temporary is missing".into())
    }

    /// An operand that may be in memory.
    pub fn operand(&mut self, reg: Reg) -> Result<Operand, String> {
        if let Some(access) = self.flat.folded(reg) {
            let place = self.place(access, 0)?;
            return Ok(Operand::Mem(Mem { place, broadcast: access.stride == 0 }));
        }
        if let Some(number) = self.placed(reg) {
            return Ok(self.v(number).into());
        }
        if let Some(bits) = self.flat.constant(reg) {
            let wide = self.flat.kernel.class(reg).is_wide();
            return Ok(if wide {
                self.wide_constant_operand(bits)
            } else {
                self.constant_operand(bits as u32)
            });
        }
        if let Some(access) = self.flat.reloadable(reg) {
            return Ok(self.place(access, 0)?.into());
        }
        match self.allocation.slots.get(&reg) {
            Some(&slot) => Ok(self.vector_slot(slot).into()),
            None => Err(format!("{reg} is nowhere")),
        }
    }

    /// A constant in all lanes of 32 bits, as a memory operand.
    pub fn constant_operand(&mut self, bits: u32) -> Operand {
        if self.tier.is_512() {
            let place = Place::Constant(self.asm.constant(&[bits]));
            Operand::Mem(Mem { place, broadcast: true })
        } else {
            Place::Constant(self.asm.constant(&[bits; 8])).into()
        }
    }

    /// A constant in all lanes of 64 bits, as a memory operand.
    pub fn wide_constant_operand(&mut self, bits: u64) -> Operand {
        let words = [bits as u32, (bits >> 32) as u32];
        if self.tier.is_512() {
            let place = Place::Constant(self.asm.constant(&words));
            Operand::Mem(Mem { place, broadcast: true })
        } else {
            Place::Constant(self.asm.constant(&words.repeat(4))).into()
        }
    }

    /// A constant that differs between lanes of 32 bits, as a memory operand.
    pub fn lanes_operand(&mut self, value: impl Fn(usize) -> u32) -> Operand {
        let words: Vec<u32> = (0..self.tier.lanes()).map(value).collect();
        Place::Constant(self.asm.constant(&words)).into()
    }

    /// The mask of the first lanes. Only for 512 bits.
    pub fn lane_mask(&mut self, lanes: usize) -> Register {
        match self.lane_masks.iter().position(|l| *l == lanes) {
            Some(0) => LANE_MASK,
            Some(1) if self.lane_masks.len() == 2 => LANE_MASK_2,
            _ => {
                self.set_lane_mask(LANE_MASK_2, lanes);
                LANE_MASK_2
            }
        }
    }

    /// Sets the mask registers that keep their value throughout.
    pub fn set_lane_masks(&mut self) {
        match *self.lane_masks {
            [] => {}
            [first, second] => {
                self.set_lane_mask(LANE_MASK, first);
                self.set_lane_mask(LANE_MASK_2, second);
            }
            [first, ..] => self.set_lane_mask(LANE_MASK, first),
        }
    }

    fn set_lane_mask(&mut self, register: Register, lanes: usize) {
        self.asm.op(Code::Mov_r32_imm32, &[Register::EAX.into(), ((1i64 << lanes) - 1).into()]);
        self.asm.op(Code::VEX_Kmovw_kr_r32, &[register.into(), Register::EAX.into()]);
    }
}
