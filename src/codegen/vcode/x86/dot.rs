//! Dot products of bytes and of halves, and what takes bytes apart for those of 16-bit numbers.

use super::assembler::Operand;
use super::codes;
use super::emit::Emitter;
use crate::codegen::vcode::{DotKind, Reg};

/// The even bytes.
const EVEN: u32 = 0x00ff_00ff;

impl Emitter<'_, '_> {
    /// `c` plus the products of what `a` and `b` are made of.
    pub fn dot(&mut self, kind: DotKind, to: u8, a: Reg, b: Reg, c: Reg) -> Result<(), String> {
        if !self.tier.has_dot(kind) {
            return Err(format!("a dot product of {kind:?} for a tier that has none"));
        }
        let code = match kind {
            DotKind::Bytes => codes::DOT,
            DotKind::Bf16 => codes::DOT_BF16,
        };
        let (a, b, c) = (self.vector(a)?, self.operand(b)?, self.number(c)?);
        // The sum is overwritten.
        let sum = if self.v(to) == a || b == self.v(to).into() { self.temporary(0)? } else { to };
        self.move_vector(sum, c);
        self.asm.op(code.of(self.tier), &[self.v(sum).into(), a.into(), b]);
        self.move_vector(to, sum);
        Ok(())
    }

    /// The even bytes or the odd ones as numbers of 16 bits.
    pub fn bytes(&mut self, to: Operand, a: Operand, odd: bool, signed: bool) {
        let (tier, by) = (self.tier, Operand::Imm(8));
        match (odd, signed) {
            (false, false) => {
                let even = self.constant_operand(EVEN);
                self.asm.op(codes::AND.of(tier, false), &[to, a, even]);
            }
            (false, true) => {
                self.asm.op(codes::SHIFT_LEFT_16.of(tier), &[to, a, by]);
                self.asm.op(codes::SHIFT_RIGHT_SIGNED_16.of(tier), &[to, to, by]);
            }
            (true, false) => self.asm.op(codes::SHIFT_RIGHT_16.of(tier), &[to, a, by]),
            (true, true) => self.asm.op(codes::SHIFT_RIGHT_SIGNED_16.of(tier), &[to, a, by]),
        }
    }
}
