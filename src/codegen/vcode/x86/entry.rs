//! Functions that do nothing but call a kernel: they make its table of arguments on the stack.

use iced_x86::{Code, Register};

use super::assembler::{Assembler, Place};
use super::emit::TABLE;

/// A value for a kernel, of what the function is called with: a table of storage pointers, scratch memory, and the
/// beginning and the end of each range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum Value {
    /// The storage pointer at this position plus these bytes.
    Pointer(usize, i64),
    Scratch,
    Number(i64),
    Begin(usize),
    End(usize),
}

/// A function whose call is to be linked.
pub(in crate::codegen) struct EntryCode {
    pub bytes: Vec<u8>,
    pub text: String,
    /// Where the four bytes are that say how far the kernel is from the instruction after them.
    pub call: usize,
}

/// The most values: the table stays within a page of the stack.
const MOST_VALUES: usize = 256;

/// The function's parameters, as C passes them.
const BUFFERS: Register = Register::RDI;
const SCRATCH: Register = Register::RSI;
const RANGES: Register = Register::RDX;
const VALUE: Register = Register::RAX;
const OFFSET: Register = Register::RCX;

/// A function `(buffers, scratch, ranges) -> 0` that calls a kernel with these values; `None` if there are too many.
///
/// # Errors
/// If an instruction cannot be encoded.
pub(in crate::codegen) fn emit_entry(values: &[Value], keep_text: bool) -> Result<Option<EntryCode>, String> {
    if values.len() > MOST_VALUES {
        return Ok(None);
    }
    let mut asm = Assembler::new(keep_text);
    asm.op(Code::Push_r64, &[Register::RBP.into()]);
    asm.op(Code::Mov_r64_rm64, &[Register::RBP.into(), Register::RSP.into()]);
    let frame = (8 * values.len()).next_multiple_of(16);
    asm.op(Code::Sub_rm64_imm32, &[Register::RSP.into(), (frame as i64).into()]);
    for (i, value) in values.iter().enumerate() {
        let mut from = VALUE;
        match *value {
            Value::Pointer(position, bytes) => {
                let pointer = Place::At(BUFFERS, 8 * position as i32);
                asm.op(Code::Mov_r64_rm64, &[VALUE.into(), pointer.into()]);
                match i32::try_from(bytes) {
                    Ok(0) => {}
                    Ok(bytes) => asm.op(Code::Add_rm64_imm32, &[VALUE.into(), bytes.into()]),
                    Err(_) => {
                        asm.op(Code::Mov_r64_imm64, &[OFFSET.into(), bytes.into()]);
                        asm.op(Code::Add_r64_rm64, &[VALUE.into(), OFFSET.into()]);
                    }
                }
            }
            Value::Scratch => from = SCRATCH,
            Value::Number(number) => asm.op(Code::Mov_r64_imm64, &[VALUE.into(), number.into()]),
            Value::Begin(range) => {
                asm.op(Code::Mov_r64_rm64, &[VALUE.into(), Place::At(RANGES, 16 * range as i32).into()]);
            }
            Value::End(range) => {
                asm.op(Code::Mov_r64_rm64, &[VALUE.into(), Place::At(RANGES, 16 * range as i32 + 8).into()]);
            }
        }
        asm.op(Code::Mov_rm64_r64, &[Place::At(Register::RSP, 8 * i as i32).into(), from.into()]);
    }
    asm.op(Code::Mov_r64_rm64, &[TABLE.into(), Register::RSP.into()]);
    let call = asm.call();
    asm.op(Code::Mov_r32_imm32, &[Register::EAX.into(), 0i32.into()]);
    asm.op(Code::Mov_r64_rm64, &[Register::RSP.into(), Register::RBP.into()]);
    asm.op(Code::Pop_r64, &[Register::RBP.into()]);
    asm.op(Code::Retnq, &[]);
    let (bytes, text) = asm.finish()?;
    Ok(Some(EntryCode { bytes, text, call }))
}
