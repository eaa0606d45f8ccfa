//! Dot products, by instructions or, for bytes, by those that multiply pairs of 16-bit numbers.

use super::{Builder, Key};
use crate::codegen::vcode::{BinaryOp, DotKind, Inst, Reg, UnaryOp};

impl Builder {
    /// `c` plus the dot product of what each lane of `a` and of `b` is made of.
    pub fn dot(&mut self, kind: DotKind, a: Reg, b: Reg, c: Reg) -> Reg {
        if kind == DotKind::Bytes && !self.dot {
            return [false, true].into_iter().fold(c, |sum, odd| {
                let products = self.pair_dot(a, b, odd);
                self.binary(BinaryOp::IntAdd, sum, products)
            });
        }
        let key = Key::Dot(kind, self.version(a), self.version(b), self.version(c));
        self.value(kind.class(), key, |dst| Inst::Dot { kind, dst, a, b, c })
    }

    /// The dot product of the even bytes or of the odd ones, as numbers of 16 bits, whose products and sums are exact. To
    /// take bytes apart is done once for all products that they are in.
    fn pair_dot(&mut self, a: Reg, b: Reg, odd: bool) -> Reg {
        let a = self.unary(UnaryOp::Bytes { odd, signed: false }, a);
        let b = self.unary(UnaryOp::Bytes { odd, signed: true }, b);
        self.binary(BinaryOp::PairDot, a, b)
    }

    /// `dst = dst + dot(a, b)` for a variable.
    pub fn dot_accumulate(&mut self, kind: DotKind, dst: Reg, a: Reg, b: Reg) {
        if kind == DotKind::Bytes && !self.dot {
            for odd in [false, true] {
                let products = self.pair_dot(a, b, odd);
                self.update(BinaryOp::IntAdd, dst, products);
            }
            return;
        }
        self.push(Inst::Dot { kind, dst, a, b, c: dst });
        self.changed(dst);
    }
}
