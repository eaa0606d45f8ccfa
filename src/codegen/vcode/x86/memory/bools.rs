//! Truth values: a byte in memory that is 0 or 1, a mask in registers. Any other byte counts as 1.

use iced_x86::{Code, Register};

use crate::codegen::vcode::x86::assembler::{Operand, Place};
use crate::codegen::vcode::x86::codes::{self, mask, xmm, ymm};
use crate::codegen::vcode::x86::emit::{Emitter, SCRATCH_2};
use crate::codegen::vcode::x86::needs::is_strided;
use crate::codegen::vcode::{Access, MemType};

/// The condition "not equal" of comparisons of integers.
const NOT_EQUAL: u8 = 4;
/// Four bytes that are 1.
const ONES: u32 = 0x0101_0101;

impl Emitter<'_, '_> {
    pub(super) fn load_bools(&mut self, to: u8, from: &Access) -> Result<(), String> {
        if !self.tier.is_512() {
            self.load_narrow(to, from, MemType::U8)?;
            let (v, zero) = (Operand::Reg(ymm(to)), self.constant_operand(0));
            self.asm.op(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, &[v, v, zero]);
            return Ok(());
        }
        if is_strided(from) {
            let bytes = self.temporary(0)?;
            self.load_apart(bytes, from)?;
            self.test_bytes(mask(to), bytes, None);
            return Ok(());
        }
        let k = self.access_mask(from, false);
        self.load_bools_by_mask(mask(to), from, k)
    }

    /// The elements whose bits are set in a mask register, adjacent or one for all; the other lanes become false. One
    /// for all is read in any case.
    pub(in super::super) fn load_bools_by_mask(
        &mut self,
        to: Register,
        from: &Access,
        k: Option<Register>,
    ) -> Result<(), String> {
        let bytes = self.temporary(0)?;
        let x: Operand = xmm(bytes).into();
        if from.stride == 0 {
            let place: Operand = self.place(from, 0)?.into();
            self.asm.op(Code::EVEX_Vpbroadcastb_xmm_k1z_xmmm8, &[x, place]);
            self.test_bytes(to, bytes, k);
            return Ok(());
        }
        let place: Operand = self.place(from, 0)?.into();
        self.asm.op(codes::XOR_X.of(self.tier), &[x; 3]);
        let operands = [to.into(), x, place, Operand::Imm(NOT_EQUAL)];
        self.asm.masked(Code::EVEX_Vpcmpub_kr_k1_xmm_xmmm128_imm8, &operands, k, false);
        Ok(())
    }

    /// Which bytes of a register are not 0.
    pub(super) fn test_bytes(&mut self, to: Register, bytes: u8, k: Option<Register>) {
        let operands = [to.into(), xmm(bytes).into(), xmm(bytes).into()];
        self.asm.masked(Code::EVEX_Vptestmb_kr_k1_xmm_xmmm128, &operands, k, false);
    }

    pub(super) fn store_bools(&mut self, src: u8, to: &Access) -> Result<(), String> {
        if to.stride == 0 || to.lanes == 1 {
            return self.store_bool(src, to);
        }
        let bytes = self.bytes_of_mask(src, to.lanes)?;
        let x: Operand = self.x(bytes).into();
        if is_strided(to) {
            for lane in 0..to.lanes {
                let place: Operand = self.place(to, lane)?.into();
                self.asm.op(codes::EXTRACT_1.of(self.tier), &[place, x, Operand::Imm(lane as u8)]);
            }
            return Ok(());
        }
        let k = self.access_mask(to, true);
        let place = self.place(to, 0)?;
        if k.is_some() {
            self.asm.masked(Code::EVEX_Vmovdqu8_xmmm128_k1z_xmm, &[place.into(), x], k, false);
        } else {
            self.store_bytes(bytes, place, to.lanes);
        }
        Ok(())
    }

    /// The first lane.
    fn store_bool(&mut self, src: u8, to: &Access) -> Result<(), String> {
        let low = Register::ECX;
        let place = self.place(to, 0)?;
        if self.tier.is_512() {
            self.asm.op(Code::VEX_Kmovw_r32_kr, &[low.into(), mask(src).into()]);
        } else {
            self.asm.op(Code::VEX_Vmovd_rm32_xmm, &[low.into(), xmm(src).into()]);
        }
        self.asm.op(Code::And_rm64_imm8, &[SCRATCH_2.into(), 1i32.into()]);
        self.asm.op(Code::Mov_rm8_r8, &[place.into(), Register::CL.into()]);
        Ok(())
    }

    /// The bytes of the first lanes of a mask in a temporary register.
    fn bytes_of_mask(&mut self, src: u8, lanes: usize) -> Result<u8, String> {
        let bytes = self.temporary(0)?;
        let x: Operand = xmm(bytes).into();
        if self.tier.is_512() {
            let ones = Place::Constant(self.asm.constant(&[ONES; 4]));
            let code = Code::EVEX_Vmovdqu8_xmm_k1z_xmmm128;
            self.asm.masked(code, &[x, ones.into()], Some(mask(src)), true);
            return Ok(bytes);
        }
        let low: Operand = xmm(src).into();
        let high = if lanes > 4 {
            self.asm.op(Code::VEX_Vextracti128_xmmm128_ymm_imm8, &[x, ymm(src).into(), Operand::Imm(1)]);
            x
        } else {
            low
        };
        self.asm.op(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, &[x, low, high]);
        self.asm.op(Code::VEX_Vpacksswb_xmm_xmm_xmmm128, &[x, x, x]);
        self.asm.op(Code::VEX_Vpabsb_xmm_xmmm128, &[x, x]);
        Ok(bytes)
    }
}
