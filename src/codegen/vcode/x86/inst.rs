//! Instructions on registers.

use iced_x86::{Code, Register};

use super::assembler::Operand;
use super::codes::{self, mask};
use super::emit::{Emitter, SCRATCH_LOW};
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Inst, Int, Reg, UnaryOp};

const SIGN: u32 = 1 << 31;
const ALL: u32 = u32::MAX;

impl<'k> Emitter<'_, 'k> {
    /// One instruction. Operands that cannot be in memory are in registers.
    pub fn inst(&mut self, inst: &'k Inst, dst: Option<Reg>) -> Result<(), String> {
        let dst = match (inst, dst) {
            (Inst::Store { src, to }, _) => {
                let src = self.number(*src)?;
                return self.store(src, to);
            }
            (Inst::Prefetch { at, to }, _) => return self.prefetch(at, *to),
            (_, Some(dst)) => dst,
            _ => return Err("an instruction without a result".into()),
        };
        let to = self.number(dst)?;
        match inst {
            Inst::Store { .. } | Inst::Prefetch { .. } | Inst::IfAny { .. } | Inst::Loop { .. } => {
                Err("a nested instruction".into())
            }
            Inst::Const { bits, .. } => {
                self.constant(dst, to, *bits as u32);
                Ok(())
            }
            Inst::Load { from, .. } => self.load(to, from),
            Inst::LoadGuarded { from, guards, otherwise, .. } => {
                let otherwise = self.number(*otherwise)?;
                self.load_guarded(to, from, guards, otherwise)
            }
            Inst::Copy { a, .. } => {
                let from = self.number(*a)?;
                self.copy(dst, to, from);
                Ok(())
            }
            Inst::Unary { op, a, .. } => self.unary(*op, dst, *a),
            Inst::Binary { op, a, b, .. } => self.binary(*op, dst, *a, *b),
            Inst::Shift { op, a, amount, .. } => {
                let a = self.vector(*a)?;
                let code = codes::shift(*op).of(self.tier);
                self.asm.op(code, &[self.v(to).into(), a.into(), Operand::Imm(*amount)]);
                Ok(())
            }
            Inst::Shuffle { op, a, b, .. } => {
                let (code, selector) = codes::shuffle(*op, self.tier);
                let (a, b) = (self.vector(*a)?, self.vector(*b)?);
                let operands = [self.v(to).into(), a.into(), b.into()];
                match selector {
                    Some(selector) => {
                        let [to, a, b] = operands;
                        self.asm.op(code, &[to, a, b, Operand::Imm(selector)]);
                    }
                    None => self.asm.op(code, &operands),
                }
                Ok(())
            }
            Inst::Fma { a, b, c, .. } => self.fma(to, *a, *b, *c),
            Inst::Dot { .. } | Inst::Widen { .. } | Inst::Narrow { .. } => todo!(),
            Inst::Compare { op, a, b, .. } => self.compare(*op, to, *a, *b),
            Inst::Select { mask, a, b, .. } => self.select(dst, *mask, *a, *b),
            Inst::Reduce { op, a, lanes, .. } => {
                let a = self.number(*a)?;
                self.reduce(*op, to, a, *lanes)
            }
            Inst::Iota { value, step, .. } => self.iota(to, value, *step),
            Inst::Call { function, args, .. } => self.call(*function, dst, args),
        }
    }

    /// Sets a register to a constant; for masks, any bit means true.
    pub fn constant(&mut self, reg: Reg, to: u8, bits: u32) {
        if self.in_mask_register(reg) {
            let code = if bits == 0 { Code::VEX_Kxorw_kr_kr_kr } else { Code::VEX_Kxnorw_kr_kr_kr };
            self.asm.op(code, &[mask(to).into(); 3]);
            return;
        }
        let v = self.v(to);
        if bits == 0 {
            self.asm.op(codes::XOR.of(self.tier), &[v.into(); 3]);
        } else {
            let place = super::assembler::Place::Constant(self.asm.constant(&[bits]));
            self.asm.op(codes::BROADCAST.of(self.tier), &[v.into(), place.into()]);
        }
    }

    /// Copies a register of the class of `reg`.
    fn copy(&mut self, reg: Reg, to: u8, from: u8) {
        if to == from {
        } else if self.in_mask_register(reg) {
            self.asm.op(Code::VEX_Kmovw_kr_km16, &[mask(to).into(), mask(from).into()]);
        } else {
            self.move_vector(to, from);
        }
    }

    /// Copies a vector register.
    pub fn move_vector(&mut self, to: u8, from: u8) {
        if to != from {
            self.asm.op(codes::MOVE.of(self.tier), &[self.v(to).into(), self.v(from).into()]);
        }
    }

    fn unary(&mut self, op: UnaryOp, dst: Reg, a: Reg) -> Result<(), String> {
        let to = self.number(dst)?;
        let v: Operand = self.v(to).into();
        let rounding = match op {
            UnaryOp::Round => 8,
            UnaryOp::Floor => 9,
            UnaryOp::Ceil => 10,
            UnaryOp::Trunc => 11,
            _ => 0,
        };
        match op {
            UnaryOp::Neg | UnaryOp::Abs => {
                let (pair, bits) = if op == UnaryOp::Neg { (codes::XOR, SIGN) } else { (codes::AND, !SIGN) };
                let (a, bits) = (self.vector(a)?, self.constant_operand(bits));
                self.asm.op(pair.of(self.tier), &[v, a.into(), bits]);
            }
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => {
                let a = self.operand(a)?;
                self.asm.op(codes::ROUND.of(self.tier), &[v, a, Operand::Imm(rounding)]);
            }
            UnaryOp::Sqrt => {
                let a = self.operand(a)?;
                self.asm.op(codes::SQRT.of(self.tier), &[v, a]);
            }
            UnaryOp::ToFloat => {
                let a = self.operand(a)?;
                self.asm.op(codes::TO_FLOAT.of(self.tier), &[v, a]);
            }
            UnaryOp::Bits | UnaryOp::FromBits => {
                let a = self.number(a)?;
                self.move_vector(to, a);
            }
            UnaryOp::ToInt | UnaryOp::Exchange { .. } => todo!(),
            UnaryOp::Not if self.in_mask_register(dst) => {
                let a = self.number(a)?;
                self.asm.op(Code::VEX_Knotw_kr_kr, &[mask(to).into(), mask(a).into()]);
            }
            UnaryOp::Not => {
                let (a, all) = (self.vector(a)?, self.constant_operand(ALL));
                self.asm.op(codes::XOR.of(self.tier), &[v, a.into(), all]);
            }
        }
        Ok(())
    }

    fn binary(&mut self, op: BinaryOp, dst: Reg, a: Reg, b: Reg) -> Result<(), String> {
        let to = self.number(dst)?;
        if self.in_mask_register(dst) {
            let code = codes::mask_binary(op).ok_or("arithmetic on masks")?;
            let (a, b) = (mask(self.number(a)?), mask(self.number(b)?));
            self.asm.op(code, &[mask(to).into(), a.into(), b.into()]);
            return Ok(());
        }
        let (mut a, mut b) = (self.operand(a)?, self.operand(b)?);
        if matches!(a, Operand::Mem(_)) && super::needs::commutes(op) {
            (a, b) = (b, a);
        }
        self.asm.op(codes::binary(op).of(self.tier), &[self.v(to).into(), a, b]);
        Ok(())
    }

    /// `a * b + c` in the form that needs no copy, if there is one.
    fn fma(&mut self, to: u8, a: Reg, b: Reg, c: Reg) -> Result<(), String> {
        let (mut a, mut b, c) = (self.operand(a)?, self.operand(b)?, self.operand(c)?);
        if matches!(a, Operand::Mem(_)) {
            (a, b) = (b, a);
        }
        // Only `b` or `c` may be in memory now.
        let dst: Operand = self.v(to).into();
        let tier = self.tier;
        if dst == c {
            self.asm.op(codes::FMA_231.of(tier), &[dst, a, b]);
        } else if dst == a {
            match c {
                Operand::Mem(_) => self.asm.op(codes::FMA_213.of(tier), &[dst, b, c]),
                _ => self.asm.op(codes::FMA_132.of(tier), &[dst, c, b]),
            }
        } else if dst == b {
            self.asm.op(codes::FMA_213.of(tier), &[dst, a, c]);
        } else if matches!(c, Operand::Mem(_)) {
            self.asm.op(codes::MOVE.of(tier), &[dst, a]);
            self.asm.op(codes::FMA_213.of(tier), &[dst, b, c]);
        } else {
            self.asm.op(codes::MOVE.of(tier), &[dst, c]);
            self.asm.op(codes::FMA_231.of(tier), &[dst, a, b]);
        }
        Ok(())
    }

    fn compare(&mut self, op: Cmp, to: u8, a: Reg, b: Reg) -> Result<(), String> {
        let float = self.flat.kernel.class(a) == Class::F32;
        let (a, b) = (self.operand(a)?, self.operand(b)?);
        let wide = self.tier.is_512();
        let dst: Operand = if wide { mask(to).into() } else { self.v(to).into() };
        if float {
            // The predicates that do not signal.
            let predicate = match op {
                Cmp::Eq => 0x00,
                Cmp::Ne => 0x04,
                Cmp::Lt => 0x11,
                Cmp::Le => 0x12,
                Cmp::Gt => 0x1e,
                Cmp::Ge => 0x1d,
                Cmp::Unordered => 0x03,
            };
            self.asm.op(codes::COMPARE.of(self.tier), &[dst, a, b, Operand::Imm(predicate)]);
            return Ok(());
        }
        if wide {
            let predicate = match op {
                Cmp::Eq => 0,
                Cmp::Lt => 1,
                Cmp::Le => 2,
                Cmp::Ne | Cmp::Unordered => 4,
                Cmp::Ge => 5,
                Cmp::Gt => 6,
            };
            let code = Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8;
            self.asm.op(code, &[dst, a, b, Operand::Imm(predicate)]);
            return Ok(());
        }
        // There is only "equal" and "greater", whose first operand is in a register.
        let (code, exchanged, negated) = match op {
            Cmp::Eq => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, false, false),
            Cmp::Ne | Cmp::Unordered => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, false, true),
            Cmp::Gt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, false, false),
            Cmp::Le => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, false, true),
            Cmp::Lt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, true, false),
            Cmp::Ge => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, true, true),
        };
        let (first, second) = if exchanged { (b, a) } else { (a, b) };
        self.asm.op(code, &[dst, first, second]);
        if negated {
            let all = self.constant_operand(ALL);
            self.asm.op(codes::XOR.of(self.tier), &[dst, dst, all]);
        }
        Ok(())
    }

    fn select(&mut self, dst: Reg, condition: Reg, a: Reg, b: Reg) -> Result<(), String> {
        let (to, condition) = (self.number(dst)?, self.number(condition)?);
        let (a, b) = (self.number(a)?, self.number(b)?);
        if self.in_mask_register(dst) {
            let t = self.mask_temporary()?;
            let (to, k) = (mask(to), mask(condition));
            self.asm.op(Code::VEX_Kandnw_kr_kr_kr, &[t.into(), k.into(), mask(b).into()]);
            self.asm.op(Code::VEX_Kandw_kr_kr_kr, &[to.into(), k.into(), mask(a).into()]);
            self.asm.op(Code::VEX_Korw_kr_kr_kr, &[to.into(), to.into(), t.into()]);
        } else if self.tier.is_512() {
            self.blend(to, mask(condition), a, b);
        } else {
            self.blend_by_sign(to, condition, a, b);
        }
        Ok(())
    }

    /// `k ? a : b`, for 512 bits.
    pub fn blend(&mut self, to: u8, k: Register, a: u8, b: u8) {
        let operands = [self.v(to).into(), self.v(b).into(), self.v(a).into()];
        self.asm.masked(Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, &operands, Some(k), false);
    }

    /// `condition ? a : b`, for 256 bits.
    pub fn blend_by_sign(&mut self, to: u8, condition: u8, a: u8, b: u8) {
        let operands = [self.v(to).into(), self.v(b).into(), self.v(a).into(), self.v(condition).into()];
        self.asm.op(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &operands);
    }

    fn iota(&mut self, to: u8, value: &Int, step: i64) -> Result<(), String> {
        self.int(value)?;
        self.broadcast_scratch(to);
        if step != 0 {
            let steps = self.lanes_operand(|l| (l as i64 * step) as u32);
            let v: Operand = self.v(to).into();
            self.asm.op(codes::ADD_INT.of(self.tier), &[v, v, steps]);
        }
        Ok(())
    }

    /// All lanes are the low half of [`SCRATCH`].
    pub fn broadcast_scratch(&mut self, to: u8) {
        let low = SCRATCH_LOW;
        if self.tier.is_512() {
            self.asm.op(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[self.v(to).into(), low.into()]);
        } else {
            self.asm.op(Code::VEX_Vmovd_xmm_rm32, &[self.x(to).into(), low.into()]);
            self.asm.op(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[self.v(to).into(), self.x(to).into()]);
        }
    }
}
