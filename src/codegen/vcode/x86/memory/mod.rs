//! Loads and stores: whole registers, a few lanes, one element for all, strided. `plain` has elements that are in
//! registers as they are in memory, `narrow` integers of 8 and 16 bits, `halves` the half types, `bools` the bytes of masks, `gather` lanes of any type
//! that lie where other lanes say.

mod bools;
mod gather;
mod halves;
mod narrow;
mod plain;

use iced_x86::{Code, Register};

use super::assembler::{Operand, Place};
use super::codes;
use super::emit::Emitter;
use super::needs::masked_lanes;
use crate::codegen::vcode::{Access, Cache, MemType};

impl Emitter<'_, '_> {
    /// Loads the lanes that exist; the others become 0.
    pub fn load(&mut self, to: u8, from: &Access) -> Result<(), String> {
        match from.ty {
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => self.load_plain(to, from),
            MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => self.load_narrow(to, from, from.ty),
            MemType::F16 | MemType::BF16 => self.load_half(to, from),
            MemType::Bool => self.load_bools(to, from),
            MemType::SaturatedU8 => Err("a load of what is saturated when it is stored".into()),
        }
    }

    /// Stores the lanes that exist.
    pub fn store(&mut self, src: u8, to: &Access) -> Result<(), String> {
        match to.ty {
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => self.store_plain(src, to),
            MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => self.store_narrow(src, to),
            MemType::SaturatedU8 => self.store_saturated(src, to),
            MemType::F16 => self.store_f16(src, to),
            MemType::BF16 => self.store_bf16(src, to),
            MemType::Bool => self.store_bools(src, to),
        }
    }

    /// The mask register for an access, if it needs one. It may take the scratch register, so it comes before the
    /// place.
    fn access_mask(&mut self, access: &Access, store: bool) -> Option<Register> {
        let lanes = masked_lanes(access, store).filter(|_| self.tier.is_512())?;
        Some(self.lane_mask(lanes))
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

    /// Loads so many bytes, at most 16, into the low ones of a register; the others become 0. For 256 bits.
    fn load_bytes(&mut self, to: u8, place: Place, bytes: usize) {
        let x: Operand = self.x(to).into();
        for (at, part) in parts(bytes) {
            let from = after(place, at);
            let position = Operand::Imm((at / part) as u8);
            match part {
                16 => self.asm.op(codes::LOAD_X.of(self.tier), &[x, from]),
                8 => self.asm.op(codes::LOAD_8.of(self.tier), &[x, from]),
                4 if at == 0 => self.asm.op(codes::LOAD_4.of(self.tier), &[x, from]),
                4 => self.asm.op(Code::VEX_Vpinsrd_xmm_xmm_rm32_imm8, &[x, x, from, position]),
                _ => {
                    if at == 0 {
                        self.asm.op(codes::XOR_X.of(self.tier), &[x; 3]);
                    }
                    let insert = if part == 2 { codes::INSERT_2 } else { codes::INSERT_1 };
                    self.asm.op(insert.of(self.tier), &[x, x, from, position]);
                }
            }
        }
    }

    /// Stores so many low bytes of a register, at most 16. For 256 bits.
    fn store_bytes(&mut self, src: u8, place: Place, bytes: usize) {
        let x: Operand = self.x(src).into();
        for (at, part) in parts(bytes) {
            let to = after(place, at);
            let position = Operand::Imm((at / part) as u8);
            match part {
                16 => self.asm.op(codes::STORE_X.of(self.tier), &[to, x]),
                8 => self.asm.op(codes::STORE_8.of(self.tier), &[to, x]),
                4 if at == 0 => self.asm.op(codes::STORE_4.of(self.tier), &[to, x]),
                4 => self.asm.op(codes::EXTRACT_4.of(self.tier), &[to, x, position]),
                2 => self.asm.op(codes::EXTRACT_2.of(self.tier), &[to, x, position]),
                _ => self.asm.op(codes::EXTRACT_1.of(self.tier), &[to, x, position]),
            }
        }
    }
}

/// The parts that so many bytes, at most 16, are moved in: where each is, and its bytes.
fn parts(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    [16, 8, 4, 2, 1].into_iter().filter_map(move |part| {
        let fits = bytes - at >= part;
        fits.then(|| {
            at += part;
            (at - part, part)
        })
    })
}

/// The place so many bytes behind another one.
fn after(place: Place, bytes: usize) -> Operand {
    match place {
        Place::At(register, offset) => Place::At(register, offset + bytes as i32).into(),
        Place::Rows(register, by, offset) => Place::Rows(register, by, offset + bytes as i32).into(),
        place @ (Place::Slot(..) | Place::Constant(_)) => place.into(),
    }
}
