//! Calls of runtime functions, lane by lane. They change every vector and mask register, so what is needed
//! afterwards goes through the stack.

use iced_x86::{Code, Register};
use nestjit_ir::DType;

use super::assembler::{Operand, Place};
use super::codes::{self, INTEGERS, VOLATILE, mask, xmm};
use super::emit::{Emitter, SCRATCH, TABLE};
use super::pointers::Home;
use crate::codegen::runtime_fns::{self, Signature};
use crate::codegen::vcode::Reg;

/// What a function takes and returns.
#[derive(Clone, Copy)]
enum Element {
    Float,
    Double,
    /// Of 64 bits.
    Integer,
}

impl Element {
    /// `None` if the function has other operands.
    fn of(signature: Signature) -> Option<Element> {
        let dtype = match signature {
            Signature::Unary(dtype) | Signature::Binary(dtype) => dtype,
            Signature::Copy => return None,
        };
        if dtype == DType::F32 {
            Some(Element::Float)
        } else if dtype == DType::F64 {
            Some(Element::Double)
        } else {
            (dtype == DType::I64 || dtype == DType::U64).then_some(Element::Integer)
        }
    }

    fn bytes(self) -> usize {
        match self {
            Element::Float => 4,
            Element::Double | Element::Integer => 8,
        }
    }
}

/// Where integer operands are passed.
const INTEGER_ARGUMENTS: [Register; 2] = [Register::RDI, Register::RSI];

impl Emitter<'_, '_> {
    pub fn call(&mut self, function: usize, dst: Reg, args: &[Reg]) -> Result<(), String> {
        let runtime_fn = runtime_fns::TABLE.get(function).ok_or("an unknown function")?;
        let address = runtime_fn.address.0 as i64;
        let element = Element::of(runtime_fn.signature).ok_or("a function that is not for lanes")?;
        let tier = self.tier;
        let vector = tier.lanes() * 4;
        let result = args.len() * vector;
        let registers = result + vector;
        let masks = registers + tier.registers() * vector;
        let integers = masks + 64;
        for (i, arg) in args.iter().enumerate() {
            let arg = self.vector(*arg)?;
            self.asm.op(codes::STORE.of(tier), &[self.working_place(i * vector).into(), arg.into()]);
        }
        let live: Vec<(bool, u8)> = self
            .allocation
            .live_across(self.at)
            .map(|(reg, number)| (self.in_mask_register(reg), number))
            .collect();
        for &(in_mask, number) in &live {
            let n = usize::from(number);
            if in_mask {
                let place = self.working_place(masks + 8 * n);
                self.asm.op(Code::VEX_Kmovw_m16_kr, &[place.into(), mask(number + 1).into()]);
            } else {
                let place = self.working_place(registers + n * vector);
                self.asm.op(codes::STORE.of(tier), &[place.into(), self.v(number).into()]);
            }
        }
        let kept: Vec<(Register, Place)> = std::iter::once(TABLE)
            .chain(INTEGERS[..VOLATILE].iter().copied().filter(|r| self.is_used(*r)))
            .enumerate()
            .map(|(i, register)| {
                let offset = self.working + integers + 8 * i;
                (register, Place::Slot(Register::RSP, offset as i32))
            })
            .collect();
        for (register, place) in &kept {
            self.asm.op(Code::Mov_rm64_r64, &[(*place).into(), (*register).into()]);
        }
        self.asm.op(Code::VEX_Vzeroupper, &[]);
        let bytes = element.bytes();
        for lane in 0..vector / bytes {
            for i in 0..args.len() {
                let place = self.working_place(i * vector + bytes * lane);
                let (code, register) = match element {
                    Element::Float => (Code::VEX_Vmovss_xmm_m32, xmm(i as u8)),
                    Element::Double => (Code::VEX_Vmovsd_xmm_m64, xmm(i as u8)),
                    Element::Integer => {
                        (Code::Mov_r64_rm64, *INTEGER_ARGUMENTS.get(i).ok_or("too many operands")?)
                    }
                };
                self.asm.op(code, &[register.into(), place.into()]);
            }
            self.asm.op(Code::Mov_r64_imm64, &[SCRATCH.into(), address.into()]);
            self.asm.op(Code::Call_rm64, &[SCRATCH.into()]);
            let place: Operand = self.working_place(result + bytes * lane).into();
            match element {
                Element::Float => self.asm.op(Code::VEX_Vmovss_m32_xmm, &[place, xmm(0).into()]),
                Element::Double => self.asm.op(Code::VEX_Vmovsd_m64_xmm, &[place, xmm(0).into()]),
                Element::Integer => self.asm.op(Code::Mov_rm64_r64, &[place, SCRATCH.into()]),
            }
        }
        for (register, place) in kept {
            self.asm.op(Code::Mov_r64_rm64, &[register.into(), place.into()]);
        }
        for (in_mask, number) in live {
            let n = usize::from(number);
            if in_mask {
                let place = self.working_place(masks + 8 * n);
                self.asm.op(Code::VEX_Kmovw_kr_km16, &[mask(number + 1).into(), place.into()]);
            } else {
                let place = self.working_place(registers + n * vector);
                self.asm.op(codes::LOAD.of(tier), &[self.v(number).into(), place.into()]);
            }
        }
        self.set_lane_masks();
        let to: Operand = self.vector(dst)?.into();
        let place: Place = self.working_place(result);
        self.asm.op(codes::LOAD.of(tier), &[to, place.into()]);
        Ok(())
    }

    /// Whether an integer register holds anything.
    fn is_used(&self, register: Register) -> bool {
        self.integers
            .values
            .iter()
            .any(|home| matches!(home, Home::Register(r) if INTEGERS[usize::from(*r)] == register))
    }
}
