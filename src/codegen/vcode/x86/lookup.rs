//! Tables of bytes: permutations of the table's doublewords, of which each lane takes one, and then a byte of that.
//!
//! There is no gather in it, which would be a load for each lane.

use iced_x86::Code;

use super::Tier;
use super::assembler::Operand;
use super::codes;
use super::emit::Emitter;
use crate::codegen::vcode::{Access, Reg, ShiftOp};

/// Temporary vector registers that a lookup takes: the count of the doubleword, and what is selected from.
pub(super) fn temporaries(tier: Tier) -> usize {
    if tier.is_512() { 2 } else { 5 }
}

impl Emitter<'_, '_> {
    /// The bytes of a table that the low 8 bits of the lanes of `index` count.
    pub fn lookup(&mut self, to: u8, index: Reg, table: &Access) -> Result<(), String> {
        let tier = self.tier;
        let index: Operand = self.vector(index)?.into();
        let v: Operand = self.v(to).into();
        let count = self.temporary(0)?;
        let t: Operand = self.v(count).into();
        let right = codes::shift(ShiftOp::UnsignedRight, tier, false).ok_or("a shift of 32 bits")?;
        let left = codes::shift(ShiftOp::Left, tier, false).ok_or("a shift of 32 bits")?;
        self.asm.op(right, &[t, index, Operand::Imm(2)]);
        if tier.is_512() {
            let upper = self.temporary(1)?;
            self.half_table(to, t, table, 0)?;
            self.half_table(upper, t, table, 2)?;
            let k = self.mask_temporary()?;
            let bit = self.constant_operand(0x80);
            self.asm.op(Code::EVEX_Vptestmd_kr_k1_zmm_zmmm512b32, &[k.into(), index, bit]);
            self.blend(to, k, upper, to, false);
            // What a rotation counts is taken modulo 32.
            self.asm.op(left, &[t, index, Operand::Imm(3)]);
            self.asm.op(Code::EVEX_Vprorvd_zmm_k1z_zmm_zmmm512b32, &[v, v, t]);
        } else {
            self.part_of_table(to, (count, index), table, (0, 3))?;
            let (bits, by) = (self.constant_operand(0x18), t);
            self.asm.op(left, &[by, index, Operand::Imm(3)]);
            self.asm.op(codes::AND.of(tier, false), &[by, by, bits]);
            self.asm.op(Code::VEX_Vpsrlvd_ymm_ymm_ymmm256, &[v, v, by]);
        }
        let byte = self.constant_operand(0xff);
        self.asm.op(codes::AND.of(tier, false), &[v, v, byte]);
        Ok(())
    }

    /// The doublewords of two registers' worth of the table, from a register on, that the low 5 bits of the lanes of
    /// `count` count.
    fn half_table(&mut self, to: u8, count: Operand, table: &Access, from: i64) -> Result<(), String> {
        let lower = self.table_part(table, from)?;
        self.asm.op(codes::LOAD.of(self.tier), &[self.v(to).into(), lower]);
        let upper = self.table_part(table, from + 1)?;
        self.asm.op(Code::EVEX_Vpermt2d_zmm_k1z_zmm_zmmm512b32, &[self.v(to).into(), count, upper]);
        Ok(())
    }

    /// The doublewords of `2^levels` registers' worth of the table, from a register on, that the low `3 + levels` bits of the
    /// lanes of `count` count: those bits are also in `index`, two places higher.
    fn part_of_table(
        &mut self,
        to: u8,
        (count, index): (u8, Operand),
        table: &Access,
        (from, levels): (i64, usize),
    ) -> Result<(), String> {
        let Some(below) = levels.checked_sub(1) else {
            let part = self.table_part(table, from)?;
            let operands = [self.v(to).into(), self.v(count).into(), part];
            self.asm.op(Code::VEX_Vpermd_ymm_ymm_ymmm256, &operands);
            return Ok(());
        };
        let upper = self.temporary(1 + levels)?;
        self.part_of_table(to, (count, index), table, (from, below))?;
        self.part_of_table(upper, (count, index), table, (from + (1 << below), below))?;
        // The bit that tells them apart becomes the sign.
        let sign = self.temporary(1)?;
        let left = codes::shift(ShiftOp::Left, self.tier, false).ok_or("a shift of 32 bits")?;
        self.asm.op(left, &[self.v(sign).into(), index, Operand::Imm((27 - levels) as u8)]);
        self.blend_by_sign(to, sign, upper, to);
        Ok(())
    }

    /// A register's worth of the table.
    fn table_part(&mut self, table: &Access, number: i64) -> Result<Operand, String> {
        let mut part = table.clone();
        part.address.offset += number * 4 * self.tier.lanes() as i64;
        Ok(self.place(&part, 0)?.into())
    }
}
