//! Instructions on matrix tiles.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

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
                let mut release = Instruction::default();
                release.set_code(Code::VEX_Tilerelease);
                self.asm.put(Ok(release));
            }
            TileInst::Load { tile: number, from } => {
                let rows = self.tile_rows(from)?;
                self.asm.put(Instruction::with2(Code::VEX_Tileloadd_tmm_sibmem, tile(*number), rows));
            }
            TileInst::Store { tile: number, to } => {
                let rows = self.tile_rows(to)?;
                self.asm.put(Instruction::with2(Code::VEX_Tilestored_sibmem_tmm, rows, tile(*number)));
            }
            TileInst::Dot { of, sum, a, b } => {
                let code = match of {
                    TileProduct::UnsignedSigned => Code::VEX_Tdpbusd_tmm_tmm_tmm,
                    TileProduct::SignedUnsigned => Code::VEX_Tdpbsud_tmm_tmm_tmm,
                    TileProduct::Halves => Code::VEX_Tdpbf16ps_tmm_tmm_tmm,
                };
                self.asm.put(Instruction::with3(code, tile(*sum), tile(*a), tile(*b)));
            }
        }
        Ok(())
    }

    /// The rows of a tile in memory: an address, and their distance in a register.
    fn tile_rows(&mut self, access: &Access) -> Result<MemoryOperand, String> {
        let Place::At(base, offset) = self.place(access, 0)? else {
            return Err("a tile among constants".into());
        };
        self.set_constant(SCRATCH_2, access.stride);
        let offset = i64::from(offset);
        let size = if offset == 0 { 0 } else { 8 };
        Ok(MemoryOperand::with_base_index_scale_displ_size(base, SCRATCH_2, 1, offset, size))
    }
}
