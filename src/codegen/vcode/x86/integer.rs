//! Integer arithmetic: addresses, and the values that guards and index vectors are made of.

use iced_x86::{Code, Register};

use super::assembler::{Operand, Place};
use super::codes::INTEGERS;
use super::emit::{Emitter, SCRATCH, SCRATCH_2, TABLE};
use super::pointers::{Home, Value};
use crate::codegen::vcode::{Access, ArgId, Int};

/// Bytes behind an element that accesses may reach from its place.
const ROOM: i32 = 256;

impl Emitter<'_, '_> {
    /// The memory of an integer that is not in a register.
    pub fn integer_place(&self, home: Home) -> Place {
        match home {
            Home::Slot(slot) => Place::Slot(Register::RSP, (self.integer_slots + 8 * slot) as i32),
            Home::Table(arg) => Place::Slot(TABLE, 8 * arg.0 as i32),
            // Not asked for.
            Home::Register(r) => Place::At(INTEGERS[usize::from(r)], 0),
        }
    }

    pub fn load_integer(&mut self, register: Register, home: Home) {
        let from: Operand = match home {
            Home::Register(r) => INTEGERS[usize::from(r)].into(),
            home => self.integer_place(home).into(),
        };
        self.asm.op(Code::Mov_r64_rm64, &[register.into(), from]);
    }

    pub fn store_integer(&mut self, value: Value, register: Register) {
        let (code, to): (Code, Operand) = match self.integers.values[value] {
            Home::Register(r) => (Code::Mov_r64_rm64, INTEGERS[usize::from(r)].into()),
            home => (Code::Mov_rm64_r64, self.integer_place(home).into()),
        };
        self.asm.op(code, &[to, register.into()]);
    }

    pub fn load_arg(&mut self, register: Register, arg: ArgId) {
        self.load_integer(register, Home::Table(arg));
    }

    pub fn set_constant(&mut self, register: Register, value: i64) {
        let code = if i32::try_from(value).is_ok() { Code::Mov_rm64_imm32 } else { Code::Mov_r64_imm64 };
        self.asm.op(code, &[register.into(), value.into()]);
    }

    /// Adds a constant. The register must not be [`SCRATCH_2`].
    pub fn add_constant(&mut self, register: Register, value: i64) {
        if value == 0 {
            return;
        }
        if let Ok(value) = i8::try_from(value) {
            self.asm.op(Code::Add_rm64_imm8, &[register.into(), i32::from(value).into()]);
        } else if let Ok(value) = i32::try_from(value) {
            self.asm.op(Code::Add_rm64_imm32, &[register.into(), value.into()]);
        } else {
            self.set_constant(SCRATCH_2, value);
            self.asm.op(Code::Add_r64_rm64, &[register.into(), SCRATCH_2.into()]);
        }
    }

    /// Multiplies by a constant.
    pub fn multiply(&mut self, register: Register, by: i64) {
        if let Ok(by) = i32::try_from(by) {
            self.asm.op(Code::Imul_r64_rm64_imm32, &[register.into(), register.into(), by.into()]);
        } else {
            let place = Place::Constant(self.asm.constant(&[by as u32, (by >> 32) as u32]));
            self.asm.op(Code::Imul_r64_rm64, &[register.into(), place.into()]);
        }
    }

    /// Computes an integer into [`SCRATCH`].
    pub fn int(&mut self, int: &Int) -> Result<(), String> {
        match int.arg {
            Some(arg) => {
                self.load_arg(SCRATCH, arg);
                self.add_constant(SCRATCH, int.offset);
            }
            None => self.set_constant(SCRATCH, int.offset),
        }
        for &(counter, c) in &*int.terms {
            let home = self.integers.counter(counter).ok_or("a counter that was not kept")?;
            self.load_integer(SCRATCH_2, home);
            if c != 1 {
                self.multiply(SCRATCH_2, c);
            }
            self.asm.op(Code::Add_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
        }
        Ok(())
    }

    /// The place of a lane of an access; may use [`SCRATCH`].
    pub fn place(&mut self, access: &Access, lane: usize) -> Result<Place, String> {
        let home = self.integers.pointer(access).ok_or("an access without a pointer")?;
        let offset = access.address.offset + access.stride * lane as i64;
        let register = match home {
            Home::Register(r) => INTEGERS[usize::from(r)],
            home => {
                self.load_integer(SCRATCH, home);
                SCRATCH
            }
        };
        // Room for the elements behind.
        let (base, near) = match i32::try_from(offset) {
            Ok(near) if near < i32::MAX - ROOM => (register, near),
            _ => {
                if register != SCRATCH {
                    self.load_integer(SCRATCH, home);
                }
                // Constants of 64 bits would take the register that moves the place.
                if self.moved && i32::try_from(offset).is_err() {
                    return Err("a gather that is too far away".into());
                }
                self.add_constant(SCRATCH, offset);
                (SCRATCH, 0)
            }
        };
        Ok(if self.moved { Place::Rows(base, SCRATCH_2, near) } else { Place::At(base, near) })
    }
}
