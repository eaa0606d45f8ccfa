//! Dot products of bytes: one instruction where the CPU has it, else products of 16-bit numbers, which are exact: the
//! instruction for products of bytes saturates their sums.

use super::assembler::Operand;
use super::codes;
use super::emit::Emitter;
use crate::codegen::vcode::Reg;

/// The even bytes.
const EVEN: u32 = 0x00ff_00ff;

impl Emitter<'_, '_> {
    /// `c` plus the products of the bytes of `a`, unsigned, and of `b`, signed.
    pub fn dot(&mut self, to: u8, a: Reg, b: Reg, c: Reg) -> Result<(), String> {
        let (a, c, tier) = (self.vector(a)?, self.number(c)?, self.tier);
        if !tier.has_dot() {
            let b = self.vector(b)?;
            return self.dot_in_pairs(to, a.into(), b.into(), c);
        }
        let b = self.operand(b)?;
        // The sum is overwritten.
        let sum = if self.v(to) == a || b == self.v(to).into() { self.temporary(0)? } else { to };
        self.move_vector(sum, c);
        self.asm.op(codes::DOT.of(tier), &[self.v(sum).into(), a.into(), b]);
        self.move_vector(to, sum);
        Ok(())
    }

    /// The same from products of the even bytes and of the odd ones, as numbers of 16 bits.
    fn dot_in_pairs(&mut self, to: u8, a: Operand, b: Operand, c: u8) -> Result<(), String> {
        let tier = self.tier;
        let [x, y] = [0, 1].map(|which| self.temporary(which));
        let (x, y): (Operand, Operand) = (self.v(x?).into(), self.v(y?).into());
        let v: Operand = self.v(to).into();
        // Operands must stay until all have been read.
        let (sum, first): (Operand, Operand) = if v == a || v == b {
            let t = self.temporary(2)?;
            (self.v(t).into(), self.v(c).into())
        } else {
            (v, self.v(c).into())
        };
        let even = self.constant_operand(EVEN);
        self.asm.op(codes::AND.of(tier, false), &[x, a, even]);
        self.asm.op(codes::SHIFT_LEFT_16.of(tier), &[y, b, Operand::Imm(8)]);
        self.asm.op(codes::SHIFT_RIGHT_SIGNED_16.of(tier), &[y, y, Operand::Imm(8)]);
        self.asm.op(codes::MULTIPLY_PAIRS.of(tier), &[x, x, y]);
        self.asm.op(codes::ADD_INT.of(tier, false), &[sum, first, x]);
        self.asm.op(codes::SHIFT_RIGHT_16.of(tier), &[x, a, Operand::Imm(8)]);
        self.asm.op(codes::SHIFT_RIGHT_SIGNED_16.of(tier), &[y, b, Operand::Imm(8)]);
        self.asm.op(codes::MULTIPLY_PAIRS.of(tier), &[x, x, y]);
        self.asm.op(codes::ADD_INT.of(tier, false), &[v, sum, x]);
        Ok(())
    }
}
