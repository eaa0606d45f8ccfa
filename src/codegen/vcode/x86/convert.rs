//! Conversions between lanes of 32 and 64 bits, and those between integers and floating-point numbers for which
//! there is no instruction.

use iced_x86::{Code, Register};

use super::assembler::{Operand, Place};
use super::codes::{self, mask};
use super::emit::{Emitter, SCRATCH};
use crate::codegen::vcode::{Narrowing, Reg, Widening};

impl Emitter<'_, '_> {
    /// Half of the lanes of `a`, twice as wide.
    pub fn widen(&mut self, op: Widening, to: u8, a: Reg, upper: bool) -> Result<(), String> {
        let (a, tier) = (self.number(a)?, self.tier);
        if op == Widening::Mask && tier.is_512() {
            match upper {
                true => {
                    let operands = [mask(to).into(), mask(a).into(), Operand::Imm(8)];
                    self.asm.op(Code::VEX_Kshiftrw_kr_kr_imm8, &operands);
                }
                false if to == a => {}
                false => self.asm.op(Code::VEX_Kmovw_kr_km16, &[mask(to).into(), mask(a).into()]),
            }
            return Ok(());
        }
        let mut half = self.half(a);
        if upper {
            half = self.half(to);
            let whole = self.v(a).into();
            self.asm.op(EXTRACT_HALF.of(tier), &[half.into(), whole, Operand::Imm(1)]);
        }
        let code = match op {
            Widening::Float => codes::FLOAT_TO_DOUBLE,
            Widening::Signed | Widening::Mask => codes::EXTEND_SIGNED,
            Widening::Unsigned => codes::EXTEND_UNSIGNED,
            Widening::ToFloat => codes::INT_TO_DOUBLE,
        };
        self.asm.op(code.of(tier), &[self.v(to).into(), half.into()]);
        Ok(())
    }

    /// The lanes of `a` and `b`, half as wide.
    pub fn narrow(&mut self, op: Narrowing, to: u8, a: Reg, b: Reg) -> Result<(), String> {
        let (a, b, tier) = (self.number(a)?, self.number(b)?, self.tier);
        match op {
            Narrowing::Mask if tier.is_512() => {
                // The upper half is the first operand.
                let operands = [mask(to).into(), mask(b).into(), mask(a).into()];
                self.asm.op(Code::VEX_Kunpckbw_kr_kr_kr, &operands);
            }
            Narrowing::Int if tier.is_512() => self.narrow_int(to, a, b)?,
            Narrowing::Int | Narrowing::Mask => {
                // The low halves, `a` and `b` in turn by quarters.
                let v = |n: u8| Operand::Reg(codes::ymm(n));
                let operands = [v(to), v(a), v(b), Operand::Imm(0x88)];
                self.asm.op(Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8, &operands);
                self.asm.op(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[v(to), v(to), Operand::Imm(0xd8)]);
            }
            Narrowing::Float => self.narrow_halves(codes::DOUBLE_TO_FLOAT.of(tier), to, a, b)?,
            Narrowing::ToInt => self.narrow_halves(codes::DOUBLE_TO_INT.of(tier), to, a, b)?,
            Narrowing::ToFloat if tier.is_512() => {
                self.narrow_halves(Code::EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er, to, a, b)?;
            }
            Narrowing::ToFloat => self.narrow_to_float(to, a, b)?,
        }
        Ok(())
    }

    /// With an instruction that makes half a register of a whole one.
    fn narrow_halves(&mut self, code: Code, to: u8, a: u8, b: u8) -> Result<(), String> {
        let upper = self.temporary(0)?;
        let (half, v) = (|e: &Self, n: u8| Operand::Reg(e.half(n)), |e: &Self, n: u8| Operand::Reg(e.v(n)));
        self.asm.op(code, &[half(self, upper), v(self, b)]);
        self.asm.op(code, &[half(self, to), v(self, a)]);
        let operands = [v(self, to), v(self, to), half(self, upper), Operand::Imm(1)];
        self.asm.op(INSERT_HALF.of(self.tier), &operands);
        Ok(())
    }

    /// The even ones of all lanes of 32 bits, for 512 bits.
    fn narrow_int(&mut self, to: u8, a: u8, b: u8) -> Result<(), String> {
        // The register of positions is overwritten.
        let result = if to == a || to == b { self.temporary(0)? } else { to };
        let positions = self.lanes_operand(|l| 2 * l as u32);
        let v: Operand = self.v(result).into();
        self.asm.op(codes::LOAD.of(self.tier), &[v, positions]);
        let operands = [v, self.v(a).into(), self.v(b).into()];
        self.asm.op(Code::EVEX_Vpermi2d_zmm_k1z_zmm_zmmm512b32, &operands);
        self.move_vector(to, result);
        Ok(())
    }

    /// `i64` to `f32` lane by lane, for 256 bits.
    fn narrow_to_float(&mut self, to: u8, a: u8, b: u8) -> Result<(), String> {
        let (upper, one) = (self.temporary(0)?, self.temporary(1)?);
        for (i, operand) in [a, b].into_iter().enumerate() {
            let place = self.working_place(32 * i);
            self.asm.op(codes::STORE.of(self.tier), &[place.into(), self.v(operand).into()]);
        }
        let one: Operand = self.x(one).into();
        for (i, half) in [to, upper].into_iter().enumerate() {
            let x: Operand = self.x(half).into();
            for lane in 0..4 {
                let place = self.working_place(32 * i + 8 * lane).into();
                let converted = if lane == 0 { x } else { one };
                self.asm.op(Code::VEX_Vcvtsi2ss_xmm_xmm_rm64, &[converted, converted, place]);
                if lane > 0 {
                    self.asm.op(codes::INSERT_4.of(self.tier), &[x, x, one, Operand::Imm((lane << 4) as u8)]);
                }
            }
        }
        let operands = [self.v(to).into(), self.v(to).into(), self.x(upper).into(), Operand::Imm(1)];
        self.asm.op(INSERT_HALF.of(self.tier), &operands);
        Ok(())
    }

    /// `i64` to `f64`, for 256 bits: the halves become the low bits of `f64` numbers with known exponents, which are
    /// subtracted exactly. Only the last addition rounds.
    pub fn wide_to_float(&mut self, to: u8, a: Register) -> Result<(), String> {
        let low: Operand = {
            let t = self.temporary(0)?;
            self.v(t).into()
        };
        let v: Operand = self.v(to).into();
        // 2^52 plus the low half; 2^84 + 2^63 plus the upper half times 2^32, whose sign bit is turned.
        let exponent = self.wide_constant_operand(0x4330_0000_0000_0000);
        self.asm.op(Code::VEX_Vpblendd_ymm_ymm_ymmm256_imm8, &[low, a.into(), exponent, Operand::Imm(0xaa)]);
        self.asm.op(Code::VEX_Vpsrlq_ymm_ymm_imm8, &[v, a.into(), Operand::Imm(32)]);
        let exponent = self.wide_constant_operand(0x4530_0000_8000_0000);
        self.asm.op(codes::XOR.of(self.tier, true), &[v, v, exponent]);
        // 2^84 + 2^63 + 2^52.
        let both = self.wide_constant_operand(0x4530_0000_8010_0000);
        self.asm.op(codes::SUB.of(self.tier, true), &[v, v, both]);
        self.asm.op(codes::ADD.of(self.tier, true), &[v, v, low]);
        Ok(())
    }

    /// `f64` to `i64` lane by lane, for 256 bits.
    pub fn wide_to_int(&mut self, to: u8, a: Register) -> Result<(), String> {
        let upper = self.temporary(0)?;
        let place = self.working_place(0);
        self.asm.op(codes::STORE.of(self.tier), &[place.into(), a.into()]);
        for (i, half) in [to, upper].into_iter().enumerate() {
            let x: Operand = self.x(half).into();
            for lane in 0..2 {
                let place: Place = self.working_place(16 * i + 8 * lane);
                self.asm.op(Code::VEX_Vcvttsd2si_r64_xmmm64, &[SCRATCH.into(), place.into()]);
                if lane == 0 {
                    self.asm.op(Code::VEX_Vmovq_xmm_rm64, &[x, SCRATCH.into()]);
                } else {
                    self.asm
                        .op(Code::VEX_Vpinsrq_xmm_xmm_rm64_imm8, &[x, x, SCRATCH.into(), Operand::Imm(1)]);
                }
            }
        }
        let operands = [self.v(to).into(), self.v(to).into(), self.x(upper).into(), Operand::Imm(1)];
        self.asm.op(INSERT_HALF.of(self.tier), &operands);
        Ok(())
    }
}

const EXTRACT_HALF: codes::Pair =
    codes::Pair(Code::VEX_Vextractf128_xmmm128_ymm_imm8, Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8);
const INSERT_HALF: codes::Pair =
    codes::Pair(Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, Code::EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8);
