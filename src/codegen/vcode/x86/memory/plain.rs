//! Elements of 32 and 64 bits.

use iced_x86::Code;

use super::after;
use crate::codegen::vcode::Access;
use crate::codegen::vcode::x86::assembler::{Operand, Place};
use crate::codegen::vcode::x86::codes;
use crate::codegen::vcode::x86::emit::Emitter;
use crate::codegen::vcode::x86::needs::{X_BYTES, is_strided};

/// Bytes of a register of 128 bits.
const X: usize = X_BYTES as usize;

impl Emitter<'_, '_> {
    pub(super) fn load_plain(&mut self, to: u8, from: &Access) -> Result<(), String> {
        let (v, x): (Operand, Operand) = (self.v(to).into(), self.x(to).into());
        let (tier, wide) = (self.tier, from.ty.class().is_wide());
        if from.stride == 0 {
            let place = self.place(from, 0)?;
            self.asm.op(codes::BROADCAST.of(tier, wide), &[v, place.into()]);
            return Ok(());
        }
        if is_strided(from) {
            return self.load_strided(to, from);
        }
        let k = self.access_mask(from, false);
        let place: Operand = self.place(from, 0)?.into();
        match from.lanes * from.ty.bytes() as usize {
            4 => self.asm.op(codes::LOAD_4.of(tier), &[x, place]),
            8 => self.asm.op(codes::LOAD_8.of(tier), &[x, place]),
            16 => self.asm.op(codes::LOAD_X.of(tier), &[x, place]),
            32 if tier.is_512() => {
                self.asm.op(Code::EVEX_Vmovups_ymm_k1z_ymmm256, &[codes::ymm(to).into(), place]);
            }
            bytes if bytes == 4 * tier.lanes() => self.asm.op(codes::LOAD.of(tier), &[v, place]),
            _ if k.is_some() => self.asm.masked(codes::LOAD_LANES.of(tier, wide), &[v, place], k, true),
            bytes => {
                let existing = self.lanes_operand(|l| if 4 * l < bytes { u32::MAX } else { 0 });
                self.asm.op(codes::LOAD.of(tier), &[v, existing]);
                self.asm.op(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[v, v, place]);
            }
        }
        Ok(())
    }

    /// Element by element, in groups of a 128-bit register.
    fn load_strided(&mut self, to: u8, from: &Access) -> Result<(), String> {
        let (tier, wide) = (self.tier, from.ty.class().is_wide());
        let group_lanes = if wide { 2 } else { 4 };
        for first in (0..from.lanes).step_by(group_lanes) {
            let group = if first == 0 { to } else { self.temporary(0)? };
            let x: Operand = self.x(group).into();
            for lane in first..from.lanes.min(first + group_lanes) {
                let place: Operand = self.place(from, lane)?.into();
                match (lane == first, wide) {
                    (true, false) => self.asm.op(codes::LOAD_4.of(tier), &[x, place]),
                    (true, true) => self.asm.op(codes::LOAD_8.of(tier), &[x, place]),
                    (false, false) => {
                        let position = Operand::Imm(((lane - first) << 4) as u8);
                        self.asm.op(codes::INSERT_4.of(tier), &[x, x, place, position]);
                    }
                    (false, true) => self.asm.op(codes::LOAD_UPPER.of(tier), &[x, x, place]),
                }
            }
            if first > 0 {
                let v: Operand = self.v(to).into();
                let position = Operand::Imm((first / group_lanes) as u8);
                self.asm.op(codes::INSERT_X.of(tier), &[v, v, x, position]);
            }
        }
        Ok(())
    }

    pub(super) fn store_plain(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let (v, x): (Operand, Operand) = (self.v(src).into(), self.x(src).into());
        let (tier, wide) = (self.tier, to.ty.class().is_wide());
        if is_strided(to) {
            return self.store_strided(src, to);
        }
        let k = self.access_mask(to, true);
        let place = self.place(to, 0)?;
        let lanes = if to.stride == 0 { 1 } else { to.lanes };
        match lanes * to.ty.bytes() as usize {
            4 => self.asm.op(codes::STORE_4.of(tier), &[place.into(), x]),
            8 => self.asm.op(codes::STORE_8.of(tier), &[place.into(), x]),
            16 => self.asm.op(codes::STORE_X.of(tier), &[place.into(), x]),
            32 if tier.is_512() => {
                let operands = [place.into(), codes::ymm(src).into()];
                self.asm.op(Code::EVEX_Vmovups_ymmm256_k1z_ymm, &operands);
            }
            bytes if bytes == 4 * tier.lanes() => self.asm.op(codes::STORE.of(tier), &[place.into(), v]),
            _ if k.is_some() => {
                self.asm.masked(codes::STORE_LANES.of(tier, wide), &[place.into(), v], k, false)
            }
            bytes => self.store_few(src, place, bytes)?,
        }
        Ok(())
    }

    /// Stores a part of the lanes, for 256 bits, in parts: a masked store costs more than all of them.
    fn store_few(&mut self, src: u8, place: Place, bytes: usize) -> Result<(), String> {
        let (mut from, mut done) = (src, 0);
        if bytes > X {
            self.asm.op(codes::STORE_X.of(self.tier), &[place.into(), self.x(src).into()]);
            let high = self.temporary(0)?;
            let operands = [self.x(high).into(), self.v(src).into(), Operand::Imm(1)];
            self.asm.op(codes::EXTRACT_X.of(self.tier), &operands);
            (from, done) = (high, X);
        }
        match after(place, done) {
            Operand::Mem(rest) => self.store_bytes(from, rest.place, bytes - done),
            Operand::Reg(_) | Operand::Imm(_) | Operand::Number(_) => {
                return Err("a store to a register".into());
            }
        }
        Ok(())
    }

    fn store_strided(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let (tier, wide) = (self.tier, to.ty.class().is_wide());
        let group_lanes = if wide { 2 } else { 4 };
        for first in (0..to.lanes).step_by(group_lanes) {
            let x: Operand = self.quarter(src, first / group_lanes)?;
            for lane in first..to.lanes.min(first + group_lanes) {
                let place: Operand = self.place(to, lane)?.into();
                match (lane == first, wide) {
                    (true, false) => self.asm.op(codes::STORE_4.of(tier), &[place, x]),
                    (true, true) => self.asm.op(codes::STORE_8.of(tier), &[place, x]),
                    (false, false) => {
                        let position = Operand::Imm((lane - first) as u8);
                        self.asm.op(codes::EXTRACT_4.of(tier), &[place, x, position]);
                    }
                    (false, true) => self.asm.op(codes::STORE_UPPER.of(tier), &[place, x]),
                }
            }
        }
        Ok(())
    }

    /// 128 bits of a register, by their position: the lowest are where they are, others come into a temporary.
    pub(super) fn quarter(&mut self, src: u8, position: usize) -> Result<Operand, String> {
        if position == 0 {
            return Ok(self.x(src).into());
        }
        let x: Operand = self.x(self.temporary(0)?).into();
        let operands = [x, self.v(src).into(), Operand::Imm(position as u8)];
        self.asm.op(codes::EXTRACT_X.of(self.tier), &operands);
        Ok(x)
    }
}
