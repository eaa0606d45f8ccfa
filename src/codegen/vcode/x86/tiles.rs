//! Instructions on matrix tiles.

use iced_x86::{Code, Register};

use super::assembler::Place;
use super::emit::{Emitter, SCRATCH_2};
use crate::codegen::vcode::Access;
use crate::codegen::vcode::tiles::{TileInst, TileProduct};

fn tile(number: u8) -> Register {
    Register::TMM0 + u32::from(number)
}

impl Emitter<'_, '_> {
    pub fn tile_inst(&mut self, inst: &TileInst) -> Result<(), String> {
        if !self.tier.has_tiles() {
            return Err("a matrix tile for a tier that has none".into());
        }
        match inst {
            TileInst::Configure(shapes) => {
                let place = Place::Constant(self.asm.constant(&shapes.words()));
                self.asm.op(Code::VEX_Ldtilecfg_m512, &[place.into()]);
            }
            TileInst::Release => {
                self.asm.op(Code::VEX_Tilerelease, &[]);
            }
            TileInst::Load { tile: number, from } => {
                let rows = self.tile_rows(from)?;
                self.asm.op(Code::VEX_Tileloadd_tmm_sibmem, &[tile(*number).into(), rows.into()]);
            }
            TileInst::Store { tile: number, to } => {
                let rows = self.tile_rows(to)?;
                self.asm.op(Code::VEX_Tilestored_sibmem_tmm, &[rows.into(), tile(*number).into()]);
            }
            TileInst::Dot { of, sum, a, b } => {
                let code = match of {
                    TileProduct::UnsignedSigned => Code::VEX_Tdpbusd_tmm_tmm_tmm,
                    TileProduct::SignedUnsigned => Code::VEX_Tdpbsud_tmm_tmm_tmm,
                    TileProduct::Halves => Code::VEX_Tdpbf16ps_tmm_tmm_tmm,
                };
                self.asm.op(code, &[tile(*sum).into(), tile(*a).into(), tile(*b).into()]);
            }
        }
        Ok(())
    }

    /// The rows of a tile in memory: an address, and their distance in a register.
    fn tile_rows(&mut self, access: &Access) -> Result<Place, String> {
        let Place::At(base, offset) = self.place(access, 0)? else {
            return Err("a tile among constants".into());
        };
        self.set_constant(SCRATCH_2, access.stride);
        Ok(Place::Rows(base, SCRATCH_2, offset))
    }
}
