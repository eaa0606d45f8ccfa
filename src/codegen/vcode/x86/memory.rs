//! Loads and stores: whole registers, a few lanes, one element for all, strided.

use iced_x86::{Code, Register};

use super::assembler::{Operand, Place};
use super::codes;
use super::emit::Emitter;
use super::needs::{ELEMENT, QUARTER, has_own_move};
use crate::codegen::vcode::{Access, Cache};

impl Emitter<'_, '_> {
    /// Loads the lanes that exist; the others become 0.
    pub fn load(&mut self, to: u8, from: &Access) -> Result<(), String> {
        let (v, x): (Operand, Operand) = (self.v(to).into(), self.x(to).into());
        match (from.stride, from.lanes) {
            (0, _) => {
                let place = self.place(from, 0)?;
                self.asm.op(codes::BROADCAST.of(self.tier), &[v, place.into()]);
            }
            (ELEMENT, lanes) | (_, lanes @ 1) => {
                // First the mask: it may need the scratch register.
                let k = self.partial_mask(lanes);
                let place: Operand = self.place(from, 0)?.into();
                if has_own_move(lanes, self.tier) {
                    let (code, register) = match lanes {
                        1 => (codes::LOAD_1.of(self.tier), x),
                        2 => (codes::LOAD_2.of(self.tier), x),
                        4 => (codes::LOAD_X.of(self.tier), x),
                        8 if self.tier.is_512() => {
                            (Code::EVEX_Vmovups_ymm_k1z_ymmm256, codes::ymm(to).into())
                        }
                        _ => (codes::LOAD.of(self.tier), v),
                    };
                    self.asm.op(code, &[register, place]);
                } else if k.is_some() {
                    self.asm.masked(codes::LOAD.of(self.tier), &[v, place], k, true);
                } else {
                    let existing = self.lanes_operand(|l| if l < lanes { u32::MAX } else { 0 });
                    self.asm.op(codes::LOAD.of(self.tier), &[v, existing]);
                    self.asm.op(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[v, v, place]);
                }
            }
            (_, lanes) => self.load_strided(to, from, lanes)?,
        }
        Ok(())
    }

    /// The mask register for an access to this many adjacent lanes, if it needs one.
    fn partial_mask(&mut self, lanes: usize) -> Option<Register> {
        (self.tier.is_512() && !has_own_move(lanes, self.tier)).then(|| self.lane_mask(lanes))
    }

    /// Element by element, in groups of a 128-bit register.
    pub fn load_strided(&mut self, to: u8, from: &Access, lanes: usize) -> Result<(), String> {
        for first in (0..lanes).step_by(QUARTER) {
            let group = if first == 0 { to } else { self.temporary(0)? };
            let x: Operand = self.x(group).into();
            for lane in first..lanes.min(first + QUARTER) {
                let place: Operand = self.place(from, lane)?.into();
                if lane == first {
                    self.asm.op(codes::LOAD_1.of(self.tier), &[x, place]);
                } else {
                    let position = Operand::Imm(((lane - first) << 4) as u8);
                    self.asm.op(codes::INSERT_1.of(self.tier), &[x, x, place, position]);
                }
            }
            if first > 0 {
                let v: Operand = self.v(to).into();
                let position = Operand::Imm((first / QUARTER) as u8);
                self.asm.op(codes::INSERT_X.of(self.tier), &[v, v, x, position]);
            }
        }
        Ok(())
    }

    /// Brings a line into a cache.
    pub fn prefetch(&mut self, at: &Access, to: Cache) -> Result<(), String> {
        let code = match to {
            Cache::First => Code::Prefetcht0_m8,
            Cache::Second => Code::Prefetcht1_m8,
        };
        let place = self.place(at, 0)?;
        self.asm.op(code, &[place.into()]);
        Ok(())
    }

    /// Stores the lanes that exist.
    pub fn store(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let (v, x): (Operand, Operand) = (self.v(src).into(), self.x(src).into());
        match (to.stride, to.lanes) {
            (0, _) | (_, 1) => {
                let place = self.place(to, 0)?;
                self.asm.op(codes::STORE_1.of(self.tier), &[place.into(), x]);
            }
            (ELEMENT, lanes) => {
                let k = self.partial_mask(lanes);
                let place = self.place(to, 0)?;
                if has_own_move(lanes, self.tier) {
                    let (code, register) = match lanes {
                        2 => (codes::STORE_2.of(self.tier), x),
                        4 => (codes::STORE_X.of(self.tier), x),
                        8 if self.tier.is_512() => {
                            (Code::EVEX_Vmovups_ymmm256_k1z_ymm, codes::ymm(src).into())
                        }
                        _ => (codes::STORE.of(self.tier), v),
                    };
                    self.asm.op(code, &[place.into(), register]);
                } else if k.is_some() {
                    self.asm.masked(codes::STORE.of(self.tier), &[place.into(), v], k, false);
                } else {
                    self.store_few(src, place, lanes)?;
                }
            }
            (_, lanes) => self.store_strided(src, to, lanes)?,
        }
        Ok(())
    }

    /// Stores 3 or 5 to 7 lanes of 8, in parts: a masked store costs more than all of them.
    fn store_few(&mut self, src: u8, place: Place, lanes: usize) -> Result<(), String> {
        let (mut from, mut done) = (src, 0);
        if lanes > QUARTER {
            self.asm.op(codes::STORE_X.of(self.tier), &[place.into(), self.x(src).into()]);
            let high = self.temporary(0)?;
            let operands = [self.x(high).into(), self.v(src).into(), Operand::Imm(1)];
            self.asm.op(codes::EXTRACT_X.of(self.tier), &operands);
            (from, done) = (high, QUARTER);
        }
        let x: Operand = self.x(from).into();
        let at = |lane: usize| -> Operand {
            match place {
                Place::At(register, offset) => {
                    Place::At(register, offset + (lane as i64 * ELEMENT) as i32).into()
                }
                place => place.into(),
            }
        };
        if lanes - done >= 2 {
            self.asm.op(codes::STORE_2.of(self.tier), &[at(done), x]);
        }
        match lanes - done {
            1 => self.asm.op(codes::STORE_1.of(self.tier), &[at(done), x]),
            3 => self.asm.op(codes::EXTRACT_1.of(self.tier), &[at(done + 2), x, Operand::Imm(2)]),
            _ => {}
        }
        Ok(())
    }

    fn store_strided(&mut self, src: u8, to: &Access, lanes: usize) -> Result<(), String> {
        for first in (0..lanes).step_by(QUARTER) {
            let group = if first == 0 { src } else { self.temporary(0)? };
            let x: Operand = self.x(group).into();
            if first > 0 {
                let position = Operand::Imm((first / QUARTER) as u8);
                self.asm.op(codes::EXTRACT_X.of(self.tier), &[x, self.v(src).into(), position]);
            }
            for lane in first..lanes.min(first + QUARTER) {
                let place: Operand = self.place(to, lane)?.into();
                if lane == first {
                    self.asm.op(codes::STORE_1.of(self.tier), &[place, x]);
                } else {
                    let position = Operand::Imm((lane - first) as u8);
                    self.asm.op(codes::EXTRACT_1.of(self.tier), &[place, x, position]);
                }
            }
        }
        Ok(())
    }
}
