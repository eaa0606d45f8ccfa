//! The table of encodings against a decoder.

use iced_x86::{Decoder, DecoderOptions, Register};

use crate::codegen::vcode::x86::assembler::{Mem, Operand, Place};
use crate::codegen::vcode::x86::encode::{Lanes, encode};
use crate::codegen::vcode::x86::encodings::{Encoding, Form, Prefix, TABLE};

/// An encoding's operands: registers by these numbers, of any kind, and what may be in memory.
fn operands(encoding: &Encoding, numbers: [u8; 3], rm: Operand) -> Vec<Operand> {
    let [a, b, c] = numbers.map(|n| Operand::Reg(Register::ZMM0 + u32::from(n)));
    let mut operands = match encoding.form {
        Form::Alone | Form::Fixed(_) => vec![],
        Form::O => vec![a],
        Form::M(_) => vec![rm],
        Form::Vm(_) => vec![b, rm],
        Form::Rm => vec![a, rm],
        Form::Mr => vec![rm, a],
        Form::Rvm => vec![a, b, rm],
        Form::Rmv => vec![a, rm, b],
        Form::Rvmr => vec![a, b, rm, c],
    };
    if encoding.immediate > 0 {
        operands.push(Operand::Number(5));
    }
    operands
}

#[test]
fn every_instruction_is_read_back() {
    for (code, encoding) in TABLE {
        // Registers that need no bit of a prefix, and such that need all; of masks and tiles there are 8.
        let name = format!("{code:?}");
        let few = name.contains("_kr") || name.contains("tmm") || name.contains("_km");
        let high = match (encoding.prefix, few) {
            (_, true) => [7, 6, 5],
            (Prefix::Evex, false) => [29, 30, 31],
            (Prefix::Legacy | Prefix::Vex, false) => [13, 14, 15],
        };
        let mem = |place| Operand::Mem(Mem { place, broadcast: false });
        let rows = |base| mem(Place::Rows(base, Register::RCX, 64));
        let places = [Register::RAX, Register::RSP, Register::RBP, Register::R12, Register::R13];
        let offsets = [0, 1, 64, -128, 8128, 1 << 20];
        let memory = places.into_iter().flat_map(|base| {
            offsets
                .into_iter()
                .flat_map(move |at| [Place::At(base, at), Place::Slot(base, at)])
                .map(move |place| (place, mem(place)))
        });
        let mut read_back = 0;
        for numbers in [[1, 2, 3], high] {
            let registers = [1, numbers[2]].map(|n| (None, Operand::Reg(Register::ZMM0 + u32::from(n))));
            let rest = places.map(|base| (None, rows(base)));
            for (place, rm) in memory.clone().map(|(p, m)| (Some(p), m)).chain(rest).chain(registers) {
                let mut bytes = Vec::new();
                let operands = operands(encoding, numbers, rm);
                encode(&mut bytes, *code, &operands, Lanes::default()).expect("it can be encoded");
                let read = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
                // Not all take registers, or memory.
                if read.code() != *code {
                    continue;
                }
                assert_eq!(read.len(), bytes.len(), "{code:?} {operands:?}: {bytes:02x?}");
                read_back += 1;
                if let Some(Place::At(base, at) | Place::Slot(base, at)) = place
                    && read.memory_base() != Register::None
                {
                    let memory = (read.memory_base(), read.memory_displacement64() as i64);
                    assert_eq!(memory, (base, i64::from(at)), "{code:?}: {bytes:02x?}");
                }
            }
        }
        assert!(read_back >= 2, "{code:?} is another instruction");
    }
}

#[test]
fn what_there_is_no_instruction_for_is_an_error() {
    let encode = |code, operands: &[Operand]| encode(&mut Vec::new(), code, operands, Lanes::default());
    let (low, high) = (Operand::Reg(Register::YMM1), Operand::Reg(Register::YMM16));
    let add = iced_x86::Code::VEX_Vaddps_ymm_ymm_ymmm256;
    assert!(encode(add, &[low, low, low]).is_ok());
    assert!(encode(add, &[low, low, high]).is_err(), "VEX has 16 registers");
    assert!(encode(add, &[low, low]).is_err());
    assert!(encode(add, &[low, Operand::Imm(1), low]).is_err());
    assert!(encode(iced_x86::Code::Aaa, &[]).is_err(), "not in the table");
    let add = iced_x86::Code::Add_rm64_imm8;
    let register = Operand::Reg(Register::RAX);
    assert!(encode(add, &[register, Operand::Number(-128)]).is_ok());
    assert!(encode(add, &[register, Operand::Number(1000)]).is_err());
    assert!(encode(add, &[register]).is_err());
}
