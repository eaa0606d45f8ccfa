//! Integers of 8 and 16 bits, which are extended to 32 when they are loaded, and cut when they are stored.

use iced_x86::{Code, Register};

use crate::codegen::vcode::x86::assembler::Operand;
use crate::codegen::vcode::x86::codes::{self, Pair, xmm, ymm, zmm};
use crate::codegen::vcode::x86::emit::{Emitter, SCRATCH_LOW};
use crate::codegen::vcode::x86::needs::{X_BYTES, is_strided};
use crate::codegen::vcode::{Access, MemType};

/// Lanes of 32 bits in a register of 128 bits.
const QUARTER: usize = 4;

/// What extends elements to lanes of 32 bits, in registers of 128, 256 and 512 bits.
struct Extend(Pair, Pair, Code);

impl Extend {
    fn of(ty: MemType) -> Option<Extend> {
        Some(match ty {
            MemType::I8 => Extend(
                Pair(Code::VEX_Vpmovsxbd_xmm_xmmm32, Code::EVEX_Vpmovsxbd_xmm_k1z_xmmm32),
                Pair(Code::VEX_Vpmovsxbd_ymm_xmmm64, Code::EVEX_Vpmovsxbd_ymm_k1z_xmmm64),
                Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
            ),
            MemType::U8 => Extend(
                Pair(Code::VEX_Vpmovzxbd_xmm_xmmm32, Code::EVEX_Vpmovzxbd_xmm_k1z_xmmm32),
                Pair(Code::VEX_Vpmovzxbd_ymm_xmmm64, Code::EVEX_Vpmovzxbd_ymm_k1z_xmmm64),
                Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
            ),
            MemType::I16 => Extend(
                Pair(Code::VEX_Vpmovsxwd_xmm_xmmm64, Code::EVEX_Vpmovsxwd_xmm_k1z_xmmm64),
                Pair(Code::VEX_Vpmovsxwd_ymm_xmmm128, Code::EVEX_Vpmovsxwd_ymm_k1z_xmmm128),
                Code::EVEX_Vpmovsxwd_zmm_k1z_ymmm256,
            ),
            MemType::U16 => Extend(
                Pair(Code::VEX_Vpmovzxwd_xmm_xmmm64, Code::EVEX_Vpmovzxwd_xmm_k1z_xmmm64),
                Pair(Code::VEX_Vpmovzxwd_ymm_xmmm128, Code::EVEX_Vpmovzxwd_ymm_k1z_xmmm128),
                Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
            ),
            MemType::F16 => Extend(
                Pair(Code::VEX_Vcvtph2ps_xmm_xmmm64, Code::EVEX_Vcvtph2ps_xmm_k1z_xmmm64),
                Pair(Code::VEX_Vcvtph2ps_ymm_xmmm128, Code::EVEX_Vcvtph2ps_ymm_k1z_xmmm128),
                Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
            ),
            // The bits, which are moved up then.
            MemType::BF16 => return Extend::of(MemType::U16),
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 | MemType::Bool => return None,
            MemType::SaturatedU8 => return None,
        })
    }
}

impl Emitter<'_, '_> {
    /// Loads elements as if they were integers of the type `ty`, or [`MemType::F16`] of which several are adjacent or strided.
    pub(super) fn load_narrow(&mut self, to: u8, from: &Access, ty: MemType) -> Result<(), String> {
        let (x, tier) = (Operand::Reg(self.x(to)), self.tier);
        if from.stride == 0 {
            self.load_one(from, 0, ty)?;
            self.broadcast_scratch(to);
            return Ok(());
        }
        if from.lanes == 1 {
            self.load_one(from, 0, ty)?;
            self.asm.op(codes::FROM_INTEGER.of(tier), &[x, SCRATCH_LOW.into()]);
            return Ok(());
        }
        if is_strided(from) {
            self.load_apart(to, from)?;
            return self.extend(to, ty);
        }
        let Extend(quarter, half, whole) = Extend::of(ty).ok_or("an element that is not narrow")?;
        let k = self.access_mask(from, false);
        let place = self.place(from, 0)?;
        match from.lanes {
            4 => self.asm.op(quarter.of(tier), &[x, place.into()]),
            8 => self.asm.op(half.of(tier), &[ymm(to).into(), place.into()]),
            _ if tier.is_512() => self.asm.masked(whole, &[zmm(to).into(), place.into()], k, true),
            lanes => {
                self.load_bytes(to, place, lanes * ty.bytes() as usize);
                self.extend(to, ty)?;
            }
        }
        Ok(())
    }

    /// Extends the elements in the low bytes of a register to all lanes.
    pub(super) fn extend(&mut self, to: u8, ty: MemType) -> Result<(), String> {
        let Extend(_, half, whole) = Extend::of(ty).ok_or("an element that is not narrow")?;
        let packed = if self.tier.is_512() && ty.bytes() == 2 { ymm(to) } else { xmm(to) };
        let code = if self.tier.is_512() { whole } else { half.of(self.tier) };
        self.asm.op(code, &[self.v(to).into(), packed.into()]);
        Ok(())
    }

    /// The elements whose bits are set in a mask register, adjacent or one for all; the other lanes stay. Integers, or adjacent
    /// [`MemType::F16`].
    pub(in super::super) fn load_narrow_by_mask(
        &mut self,
        to: u8,
        from: &Access,
        k: Register,
    ) -> Result<(), String> {
        let v = Operand::Reg(zmm(to));
        if from.stride == 0 {
            self.load_one(from, 0, from.ty)?;
            let operands = [v, SCRATCH_LOW.into()];
            self.asm.masked(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &operands, Some(k), false);
            return Ok(());
        }
        let Extend(_, _, whole) = Extend::of(from.ty).ok_or("an element that is not narrow")?;
        let place = self.place(from, 0)?;
        self.asm.masked(whole, &[v, place.into()], Some(k), false);
        Ok(())
    }

    /// One element, extended, into the low half of the scratch register; of half types their bits.
    pub(in super::super) fn load_one(
        &mut self,
        from: &Access,
        lane: usize,
        ty: MemType,
    ) -> Result<(), String> {
        let place: Operand = self.place(from, lane)?.into();
        let code = match ty {
            MemType::I8 => Code::Movsx_r32_rm8,
            MemType::U8 | MemType::Bool => Code::Movzx_r32_rm8,
            MemType::I16 => Code::Movsx_r32_rm16,
            MemType::U16 | MemType::F16 | MemType::BF16 => Code::Movzx_r32_rm16,
            MemType::F32 | MemType::I32 => Code::Mov_r32_rm32,
            MemType::F64 | MemType::I64 => return Err("an element of more than 32 bits".into()),
            MemType::SaturatedU8 => return Err("a load of what is saturated when it is stored".into()),
        };
        self.asm.op(code, &[SCRATCH_LOW.into(), place]);
        Ok(())
    }

    /// Strided elements into the low bytes of a register; the others of its lowest half become 0.
    pub(super) fn load_apart(&mut self, to: u8, from: &Access) -> Result<(), String> {
        let tier = self.tier;
        let bytes = from.ty.bytes();
        let group_lanes = (X_BYTES / bytes) as usize;
        let insert = if bytes == 2 { codes::INSERT_2 } else { codes::INSERT_1 };
        for first in (0..from.lanes).step_by(group_lanes) {
            let group = if first == 0 { to } else { self.temporary(0)? };
            let x: Operand = self.x(group).into();
            self.asm.op(codes::XOR_X.of(tier), &[x; 3]);
            for lane in first..from.lanes.min(first + group_lanes) {
                let place: Operand = self.place(from, lane)?.into();
                self.asm.op(insert.of(tier), &[x, x, place, Operand::Imm((lane - first) as u8)]);
            }
            if first > 0 {
                let y: Operand = ymm(to).into();
                let code = Code::EVEX_Vinserti32x4_ymm_k1z_ymm_xmmm128_imm8;
                self.asm.op(code, &[y, y, x, Operand::Imm((first / group_lanes) as u8)]);
            }
        }
        Ok(())
    }

    pub(super) fn store_narrow(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let (bytes, tier) = (to.ty.bytes() as usize, self.tier);
        let extract = if bytes == 2 { codes::EXTRACT_2 } else { codes::EXTRACT_1 }.of(tier);
        if to.stride == 0 || to.lanes == 1 {
            let place: Operand = self.place(to, 0)?.into();
            self.asm.op(extract, &[place, self.x(src).into(), Operand::Imm(0)]);
            return Ok(());
        }
        if is_strided(to) {
            for first in (0..to.lanes).step_by(QUARTER) {
                let x = self.quarter(src, first / QUARTER)?;
                for lane in first..to.lanes.min(first + QUARTER) {
                    let place: Operand = self.place(to, lane)?.into();
                    let position = Operand::Imm(((lane - first) * 4 / bytes) as u8);
                    self.asm.op(extract, &[place, x, position]);
                }
            }
            return Ok(());
        }
        if !tier.is_512() {
            let packed = self.pack(src, bytes, to.lanes)?;
            let place = self.place(to, 0)?;
            self.store_bytes(packed, place, to.lanes * bytes);
            return Ok(());
        }
        let k = self.access_mask(to, true);
        let place: Operand = self.place(to, 0)?.into();
        let (code, register) = match (to.lanes, bytes) {
            (4, 1) => (Code::EVEX_Vpmovdb_xmmm32_k1z_xmm, xmm(src)),
            (8, 1) => (Code::EVEX_Vpmovdb_xmmm64_k1z_ymm, ymm(src)),
            (_, 1) => (Code::EVEX_Vpmovdb_xmmm128_k1z_zmm, zmm(src)),
            (4, _) => (Code::EVEX_Vpmovdw_xmmm64_k1z_xmm, xmm(src)),
            (8, _) => (Code::EVEX_Vpmovdw_xmmm128_k1z_ymm, ymm(src)),
            _ => (Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, zmm(src)),
        };
        self.asm.masked(code, &[place, register.into()], k, false);
        Ok(())
    }

    /// Adjacent bytes, 255 where the number is larger.
    pub(super) fn store_saturated(&mut self, src: u8, to: &Access) -> Result<(), String> {
        if !self.tier.is_512() || !to.is_contiguous() || to.lanes == 1 {
            return Err("a saturated store of lanes that are not adjacent".into());
        }
        let k = self.access_mask(to, true);
        let place: Operand = self.place(to, 0)?.into();
        let (code, register) = match to.lanes {
            4 => (Code::EVEX_Vpmovusdb_xmmm32_k1z_xmm, xmm(src)),
            8 => (Code::EVEX_Vpmovusdb_xmmm64_k1z_ymm, ymm(src)),
            _ => (Code::EVEX_Vpmovusdb_xmmm128_k1z_zmm, zmm(src)),
        };
        self.asm.masked(code, &[place, register.into()], k, false);
        Ok(())
    }

    /// The low bytes of the first lanes, 1 or 2 of each, next to each other in a temporary register. For 256 bits.
    fn pack(&mut self, src: u8, bytes: usize, lanes: usize) -> Result<u8, String> {
        let packed = self.temporary(0)?;
        // In each half, the bytes of its four lanes come first.
        let order = |l: usize| {
            let byte = |i: usize| -> u32 {
                let at = 4 * (l % 4) + i;
                if at < 4 * bytes { (at / bytes * 4 + at % bytes) as u32 } else { 0x80 }
            };
            byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24
        };
        let order = self.lanes_operand(order);
        let (v, x) = (Operand::Reg(ymm(packed)), Operand::Reg(xmm(packed)));
        self.asm.op(Code::VEX_Vpshufb_ymm_ymm_ymmm256, &[v, ymm(src).into(), order]);
        if lanes <= QUARTER {
        } else if bytes == 2 {
            self.asm.op(Code::VEX_Vpermq_ymm_ymmm256_imm8, &[v, v, Operand::Imm(0x08)]);
        } else {
            let high: Operand = xmm(self.temporary(1)?).into();
            self.asm.op(Code::VEX_Vextracti128_xmmm128_ymm_imm8, &[high, v, Operand::Imm(1)]);
            self.asm.op(Code::VEX_Vpunpckldq_xmm_xmm_xmmm128, &[x, x, high]);
        }
        Ok(packed)
    }
}
