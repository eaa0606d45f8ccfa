//! Instructions on registers.

use iced_x86::{Code, Register};

use super::assembler::{Operand, Place};
use super::codes::{self, mask};
use super::emit::{Emitter, SCRATCH_LOW};
use super::flatten::constant_bits;
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Inst, Int, Reg, UnaryOp};

const SIGN: u32 = 1 << 31;
const WIDE_SIGN: u64 = 1 << 63;
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
            (Inst::Tile(tile), _) => return self.tile_inst(tile),
            (_, Some(dst)) => dst,
            _ => return Err("an instruction without a result".into()),
        };
        let to = self.number(dst)?;
        match inst {
            Inst::Store { .. }
            | Inst::Tile(_)
            | Inst::Prefetch { .. }
            | Inst::IfAny { .. }
            | Inst::Loop { .. } => Err("a nested instruction".into()),
            Inst::Const { bits, .. } => {
                self.constant(dst, to, constant_bits(self.flat.kernel.class(dst), *bits));
                Ok(())
            }
            Inst::Load { from, .. } => self.load(to, from),
            Inst::LoadGuarded { from, guards, otherwise, .. } => {
                let otherwise = self.number(*otherwise)?;
                self.load_guarded(to, from, guards, otherwise)
            }
            Inst::Copy { a, .. } => {
                let from = self.number(*a)?;
                self.copy_as(self.flat.kernel.class(dst), to, from);
                Ok(())
            }
            Inst::Unary { op, a, .. } => self.unary(*op, dst, *a),
            Inst::Binary { op, a, b, .. } => self.binary(*op, dst, *a, *b),
            Inst::Shift { op, a, amount, .. } => {
                let wide = self.is_wide(*a);
                let a = self.vector(*a)?;
                let code = codes::shift(*op, self.tier, wide).ok_or("a shift of this width")?;
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
            Inst::AndOr { a, b, c, .. } => self.and_or(to, *a, *b, *c),
            Inst::Dot { kind, a, b, c, .. } => self.dot(*kind, to, *a, *b, *c),
            Inst::Lookup { index, table, .. } => self.lookup(to, *index, table),
            Inst::Gather { offsets, from, first, .. } => self.gather(to, *offsets, from, *first),
            Inst::Widen { op, a, upper, .. } => self.widen(*op, to, *a, *upper),
            Inst::Narrow { op, a, b, .. } => self.narrow(*op, to, *a, *b),
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

    /// Whether the lanes of a register have 64 bits.
    pub fn is_wide(&self, reg: Reg) -> bool {
        self.flat.kernel.class(reg).is_wide()
    }

    /// Sets a register to a constant.
    pub fn constant(&mut self, reg: Reg, to: u8, bits: u64) {
        if self.in_mask_register(reg) {
            let code = if bits == 0 { Code::VEX_Kxorw_kr_kr_kr } else { Code::VEX_Kxnorw_kr_kr_kr };
            self.asm.op(code, &[mask(to).into(); 3]);
            return;
        }
        let (v, wide) = (self.v(to), self.is_wide(reg));
        let words = [bits as u32, (bits >> 32) as u32];
        let words = if wide { &words[..] } else { &words[..1] };
        if words.iter().all(|w| *w == 0) {
            self.asm.op(codes::XOR.of(self.tier, false), &[v.into(); 3]);
        } else {
            let place = Place::Constant(self.asm.constant(words));
            self.asm.op(codes::BROADCAST.of(self.tier, wide), &[v.into(), place.into()]);
        }
    }

    /// Copies a register of a class.
    pub fn copy_as(&mut self, class: Class, to: u8, from: u8) {
        if class.is_mask() && self.tier.is_512() {
            if to != from {
                self.asm.op(Code::VEX_Kmovw_kr_km16, &[mask(to).into(), mask(from).into()]);
            }
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
        let (to, wide, tier) = (self.number(dst)?, self.is_wide(a), self.tier);
        let v: Operand = self.v(to).into();
        match op {
            UnaryOp::Neg | UnaryOp::Abs => {
                let neg = op == UnaryOp::Neg;
                let a = self.vector(a)?;
                let bits = if wide {
                    self.wide_constant_operand(if neg { WIDE_SIGN } else { !WIDE_SIGN })
                } else {
                    self.constant_operand(if neg { SIGN } else { !SIGN })
                };
                let widths = if neg { codes::XOR } else { codes::AND };
                self.asm.op(widths.of(tier, wide), &[v, a.into(), bits]);
            }
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => {
                let rounding = match op {
                    UnaryOp::Round => 8,
                    UnaryOp::Floor => 9,
                    UnaryOp::Ceil => 10,
                    _ => 11,
                };
                let a = self.operand(a)?;
                self.asm.op(codes::ROUND.of(tier, wide), &[v, a, Operand::Imm(rounding)]);
            }
            UnaryOp::RoundF16 => {
                let (half, a) = (Operand::Reg(self.half(to)), self.vector(a)?);
                self.asm.op(codes::FLOAT_TO_HALF.of(tier), &[half, a.into(), Operand::Imm(0)]);
                self.asm.op(codes::HALF_TO_FLOAT.of(tier), &[v, half]);
            }
            UnaryOp::Sqrt => {
                let a = self.operand(a)?;
                self.asm.op(codes::SQRT.of(tier, wide), &[v, a]);
            }
            UnaryOp::ToFloat if wide && !tier.is_512() => {
                let a = self.vector(a)?;
                self.wide_to_float(to, a)?;
            }
            UnaryOp::ToInt if wide && !tier.is_512() => {
                let a = self.vector(a)?;
                self.wide_to_int(to, a)?;
            }
            UnaryOp::ToFloat => {
                let a = self.operand(a)?;
                self.asm.op(codes::TO_FLOAT.of(tier, wide), &[v, a]);
            }
            UnaryOp::RoundToInt => {
                let a = self.operand(a)?;
                self.asm.op(codes::ROUND_TO_INT.of(tier), &[v, a]);
            }
            UnaryOp::ToInt => {
                let a = self.operand(a)?;
                self.asm.op(codes::TO_INT.of(tier, wide), &[v, a]);
            }
            UnaryOp::Bits | UnaryOp::FromBits => {
                let a = self.number(a)?;
                self.move_vector(to, a);
            }
            UnaryOp::Exchange { distance } => {
                let a = self.vector(a)?;
                self.exchange(v, a.into(), usize::from(distance), wide)?;
            }
            UnaryOp::Bytes { odd, signed } => {
                let a = self.vector(a)?;
                self.bytes(v, a.into(), odd, signed);
            }
            UnaryOp::Not if self.in_mask_register(dst) => {
                let a = self.number(a)?;
                self.asm.op(Code::VEX_Knotw_kr_kr, &[mask(to).into(), mask(a).into()]);
            }
            UnaryOp::Not => {
                let (a, all) = (self.vector(a)?, self.constant_operand(ALL));
                self.asm.op(codes::XOR.of(tier, false), &[v, a.into(), all]);
            }
        }
        Ok(())
    }

    /// Exchanges lanes that are `distance` apart.
    fn exchange(&mut self, to: Operand, a: Operand, distance: usize, wide: bool) -> Result<(), String> {
        let tier = self.tier;
        // In lanes of 32 bits.
        match if wide { 2 * distance } else { distance } {
            2 if wide => self.asm.op(codes::PERMUTE.of(tier, true), &[to, a, Operand::Imm(0x55)]),
            1 => self.asm.op(codes::PERMUTE.of(tier, false), &[to, a, Operand::Imm(0xb1)]),
            2 => self.asm.op(codes::PERMUTE.of(tier, false), &[to, a, Operand::Imm(0x4e)]),
            4 => {
                let order = if tier.is_512() { 0xb1 } else { 0x01 };
                self.asm.op(codes::SHUFFLE_QUARTERS.of(tier), &[to, a, a, Operand::Imm(order)]);
            }
            8 if tier.is_512() => {
                self.asm.op(codes::SHUFFLE_QUARTERS.of(tier), &[to, a, a, Operand::Imm(0x4e)]);
            }
            _ => return Err(format!("an exchange of lanes {distance} apart")),
        }
        Ok(())
    }

    fn binary(&mut self, op: BinaryOp, dst: Reg, a: Reg, b: Reg) -> Result<(), String> {
        let (to, wide) = (self.number(dst)?, self.is_wide(a));
        if self.in_mask_register(dst) {
            let code = codes::mask_binary(op).ok_or("arithmetic on masks")?;
            let (a, b) = (mask(self.number(a)?), mask(self.number(b)?));
            self.asm.op(code, &[mask(to).into(), a.into(), b.into()]);
            return Ok(());
        }
        if op == BinaryOp::IntMul && wide && !self.tier.is_512() {
            let (a, b) = (self.vector(a)?, self.vector(b)?);
            return self.multiply_wide(to, a.into(), b.into());
        }
        let (mut a, mut b) = (self.operand(a)?, self.operand(b)?);
        if matches!(a, Operand::Mem(_)) && super::needs::commutes(op) {
            (a, b) = (b, a);
        }
        let code = codes::binary(op, self.tier, wide).ok_or_else(|| format!("{op:?} of this width"))?;
        self.asm.op(code, &[self.v(to).into(), a, b]);
        Ok(())
    }

    /// The low 64 bits of products, for 256 bits: those of the low halves, plus the mixed ones in the upper half.
    fn multiply_wide(&mut self, to: u8, a: Operand, b: Operand) -> Result<(), String> {
        let (v, t, u) = (self.v(to).into(), self.temporary(0)?, self.temporary(1)?);
        let (t, u): (Operand, Operand) = (self.v(t).into(), self.v(u).into());
        self.asm.op(Code::VEX_Vpshufd_ymm_ymmm256_imm8, &[t, b, Operand::Imm(0xb1)]);
        self.asm.op(Code::VEX_Vpmulld_ymm_ymm_ymmm256, &[t, t, a]);
        self.asm.op(Code::VEX_Vpsrlq_ymm_ymm_imm8, &[u, t, Operand::Imm(32)]);
        self.asm.op(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[t, t, u]);
        self.asm.op(Code::VEX_Vpsllq_ymm_ymm_imm8, &[t, t, Operand::Imm(32)]);
        self.asm.op(Code::VEX_Vpmuludq_ymm_ymm_ymmm256, &[v, a, b]);
        self.asm.op(Code::VEX_Vpaddq_ymm_ymm_ymmm256, &[v, v, t]);
        Ok(())
    }

    /// `a * b + c` in the form that needs no copy, if there is one.
    fn fma(&mut self, to: u8, a: Reg, b: Reg, c: Reg) -> Result<(), String> {
        let wide = self.is_wide(c);
        let (mut a, mut b, c) = (self.operand(a)?, self.operand(b)?, self.operand(c)?);
        if matches!(a, Operand::Mem(_)) {
            (a, b) = (b, a);
        }
        // Only `b` or `c` may be in memory now.
        let dst: Operand = self.v(to).into();
        let tier = self.tier;
        if dst == c {
            self.asm.op(codes::FMA_231.of(tier, wide), &[dst, a, b]);
        } else if dst == a {
            match c {
                Operand::Mem(_) => self.asm.op(codes::FMA_213.of(tier, wide), &[dst, b, c]),
                _ => self.asm.op(codes::FMA_132.of(tier, wide), &[dst, c, b]),
            }
        } else if dst == b {
            self.asm.op(codes::FMA_213.of(tier, wide), &[dst, a, c]);
        } else if matches!(c, Operand::Mem(_)) {
            self.asm.op(codes::MOVE.of(tier), &[dst, a]);
            self.asm.op(codes::FMA_213.of(tier, wide), &[dst, b, c]);
        } else {
            self.asm.op(codes::MOVE.of(tier), &[dst, c]);
            self.asm.op(codes::FMA_231.of(tier, wide), &[dst, a, b]);
        }
        Ok(())
    }

    /// `a & b | c`. The instruction overwrites its first operand; its table says what it computes of the three.
    fn and_or(&mut self, to: u8, a: Reg, b: Reg, c: Reg) -> Result<(), String> {
        if !self.tier.is_512() {
            return Err("a ternary operation for a tier that has none".into());
        }
        let (a, b, c) = (self.operand(a)?, self.operand(b)?, self.operand(c)?);
        let dst: Operand = self.v(to).into();
        let (second, third, table) = match () {
            () if dst == c => (a, b, 0xf8),
            () if dst == b => (a, c, 0xea),
            () => {
                if dst != a {
                    self.asm.op(codes::MOVE.of(self.tier), &[dst, a]);
                }
                if matches!(b, Operand::Mem(_)) { (c, b, 0xec) } else { (b, c, 0xea) }
            }
        };
        let code = Code::EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8;
        self.asm.op(code, &[dst, second, third, Operand::Imm(table)]);
        Ok(())
    }

    fn compare(&mut self, op: Cmp, to: u8, a: Reg, b: Reg) -> Result<(), String> {
        let class = self.flat.kernel.class(a);
        let lanes_64 = class.is_wide();
        let (a, b) = (self.operand(a)?, self.operand(b)?);
        let wide = self.tier.is_512();
        let dst: Operand = if wide { mask(to).into() } else { self.v(to).into() };
        if matches!(class, Class::F32 | Class::F64) {
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
            self.asm.op(codes::COMPARE.of(self.tier, lanes_64), &[dst, a, b, Operand::Imm(predicate)]);
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
            let code = codes::COMPARE_INT.of(self.tier, lanes_64);
            self.asm.op(code, &[dst, a, b, Operand::Imm(predicate)]);
            return Ok(());
        }
        // There is only "equal" and "greater", whose first operand is in a register.
        let equal = codes::COMPARE_INT.of(self.tier, lanes_64);
        let greater =
            if lanes_64 { Code::VEX_Vpcmpgtq_ymm_ymm_ymmm256 } else { Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256 };
        let (code, exchanged, negated) = match op {
            Cmp::Eq => (equal, false, false),
            Cmp::Ne | Cmp::Unordered => (equal, false, true),
            Cmp::Gt => (greater, false, false),
            Cmp::Le => (greater, false, true),
            Cmp::Lt => (greater, true, false),
            Cmp::Ge => (greater, true, true),
        };
        let (first, second) = if exchanged { (b, a) } else { (a, b) };
        self.asm.op(code, &[dst, first, second]);
        if negated {
            let all = self.constant_operand(ALL);
            self.asm.op(codes::XOR.of(self.tier, false), &[dst, dst, all]);
        }
        Ok(())
    }

    fn select(&mut self, dst: Reg, condition: Reg, a: Reg, b: Reg) -> Result<(), String> {
        let (to, condition, wide) = (self.number(dst)?, self.number(condition)?, self.is_wide(dst));
        let (a, b) = (self.number(a)?, self.number(b)?);
        if self.in_mask_register(dst) {
            let t = self.mask_temporary()?;
            let (to, k) = (mask(to), mask(condition));
            self.asm.op(Code::VEX_Kandnw_kr_kr_kr, &[t.into(), k.into(), mask(b).into()]);
            self.asm.op(Code::VEX_Kandw_kr_kr_kr, &[to.into(), k.into(), mask(a).into()]);
            self.asm.op(Code::VEX_Korw_kr_kr_kr, &[to.into(), to.into(), t.into()]);
        } else if self.tier.is_512() {
            self.blend(to, mask(condition), a, b, wide);
        } else {
            self.blend_by_sign(to, condition, a, b);
        }
        Ok(())
    }

    /// `k ? a : b`, for 512 bits.
    pub fn blend(&mut self, to: u8, k: Register, a: u8, b: u8, wide: bool) {
        let operands = [self.v(to).into(), self.v(b).into(), self.v(a).into()];
        self.asm.masked(codes::BLEND.of(self.tier, wide), &operands, Some(k), false);
    }

    /// `condition ? a : b`, for 256 bits: conditions of 64 bits are those of both halves.
    pub fn blend_by_sign(&mut self, to: u8, condition: u8, a: u8, b: u8) {
        let operands = [self.v(to).into(), self.v(b).into(), self.v(a).into(), self.v(condition).into()];
        self.asm.op(codes::BLEND.of(self.tier, false), &operands);
    }

    fn iota(&mut self, to: u8, value: &Int, step: i64) -> Result<(), String> {
        self.int(value)?;
        self.broadcast_scratch(to);
        if step != 0 {
            let steps = self.lanes_operand(|l| (l as i64 * step) as u32);
            let v: Operand = self.v(to).into();
            self.asm.op(codes::ADD_INT.of(self.tier, false), &[v, v, steps]);
        }
        Ok(())
    }

    /// All lanes are the low half of [`SCRATCH`].
    pub fn broadcast_scratch(&mut self, to: u8) {
        let low = SCRATCH_LOW;
        if self.tier.is_512() {
            self.asm.op(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[self.v(to).into(), low.into()]);
        } else {
            self.asm.op(codes::FROM_INTEGER.of(self.tier), &[self.x(to).into(), low.into()]);
            self.asm.op(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[self.v(to).into(), self.x(to).into()]);
        }
    }
}
