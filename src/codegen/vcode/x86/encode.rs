//! The bytes of an instruction: prefixes, opcode, ModRM and SIB bytes, displacement, immediate operand. Which encoding an
//! instruction has is `encodings`' knowledge.

use iced_x86::{Code, Register};

use super::assembler::{Mem, Operand, Place};
use super::encodings::{Encoding, Form, Prefix};

/// Which lanes an instruction writes.
#[derive(Clone, Copy, Default)]
pub(super) struct Lanes {
    /// Those of this mask; all if there is none.
    pub mask: Option<Register>,
    /// Whether the others become 0 instead of staying.
    pub zeroing: bool,
}

type Result<T> = std::result::Result<T, &'static str>;

/// The number of a register among those of its kind.
#[inline]
fn number(register: Register) -> Result<u8> {
    match NUMBERS[register as usize] {
        NO_REGISTER => Err("a register that no instruction takes"),
        number => Ok(number),
    }
}

const NO_REGISTER: u8 = u8::MAX;

static NUMBERS: [u8; 256] = {
    let mut numbers = [NO_REGISTER; 256];
    // Of the registers of 8 bits, those that need no prefix.
    let kinds = [
        (Register::AL, 4),
        (Register::EAX, 16),
        (Register::RAX, 16),
        (Register::XMM0, 32),
        (Register::YMM0, 32),
        (Register::ZMM0, 32),
        (Register::K0, 8),
        (Register::TMM0, 8),
    ];
    let mut kind = 0;
    while kind < kinds.len() {
        let mut number = 0;
        while number < kinds[kind].1 {
            numbers[kinds[kind].0 as usize + number as usize] = number;
            number += 1;
        }
        kind += 1;
    }
    numbers
};

/// What the operands say, apart from the immediate one: numbers of registers, 0 for those that there are not.
#[derive(Clone, Copy, Default)]
struct Fields {
    /// The register of the ModRM byte, or its digit.
    reg: u8,
    /// The register of the VEX prefix.
    vex: u8,
    /// The low bits of the opcode, or the register that may be memory.
    rm: u8,
    memory: Option<Mem>,
    /// The register in the upper half of an immediate byte.
    last: Option<u8>,
}

impl Fields {
    fn of(form: Form, operands: &[Operand]) -> Result<Fields> {
        let mut fields = Fields::default();
        let register = |operand: &Operand| match *operand {
            Operand::Reg(register) => number(register),
            Operand::Mem(_) | Operand::Imm(_) | Operand::Number(_) => Err("an operand must be a register"),
        };
        let rm = match (form, operands) {
            (Form::Alone | Form::Fixed(_), []) => return Ok(fields),
            (Form::O, [a]) => {
                fields.rm = register(a)?;
                return Ok(fields);
            }
            (Form::M(digit), [rm]) => {
                fields.reg = digit;
                rm
            }
            (Form::Vm(digit), [v, rm]) => {
                (fields.reg, fields.vex) = (digit, register(v)?);
                rm
            }
            (Form::Rm, [r, rm]) | (Form::Mr, [rm, r]) => {
                fields.reg = register(r)?;
                rm
            }
            (Form::Rvm, [r, v, rm]) | (Form::Rmv, [r, rm, v]) => {
                (fields.reg, fields.vex) = (register(r)?, register(v)?);
                rm
            }
            (Form::Rvmr, [r, v, rm, last]) => {
                (fields.reg, fields.vex, fields.last) = (register(r)?, register(v)?, Some(register(last)?));
                rm
            }
            _ => return Err("a wrong number of operands"),
        };
        match *rm {
            Operand::Reg(register) => fields.rm = number(register)?,
            Operand::Mem(mem) => fields.memory = Some(mem),
            Operand::Imm(_) | Operand::Number(_) => return Err("an operand must be a register or memory"),
        }
        Ok(fields)
    }
}

/// Appends an instruction. Returns where its displacement is, four bytes that are to be patched, if it refers to a constant:
/// they say the beginning of the instruction.
///
/// # Errors
/// If there is no such instruction.
pub(super) fn encode(
    bytes: &mut Vec<u8>,
    code: Code,
    operands: &[Operand],
    lanes: Lanes,
) -> Result<Option<usize>> {
    let encoding = Encoding::of(code).ok_or("its encoding is not known")?;
    let (operands, immediate) = match (encoding.immediate, operands.split_last()) {
        (0, _) => (operands, None),
        (_, Some((Operand::Imm(value), rest))) => (rest, Some(i64::from(*value))),
        (_, Some((Operand::Number(value), rest))) => (rest, Some(*value)),
        _ => return Err("it needs an immediate operand"),
    };
    let fields = Fields::of(encoding.form, operands)?;
    let start = bytes.len();
    // What reaches beyond the first 8 registers.
    let (base, index) = match fields.memory {
        Some(Mem { place: Place::At(base, _) | Place::Slot(base, _), .. }) => (number(base)?, 0),
        Some(Mem { place: Place::Rows(base, index, _), .. }) => (number(base)?, number(index)?),
        Some(Mem { place: Place::Constant(_), .. }) => (0, 0),
        None => (fields.rm, fields.rm >> 1),
    };
    let (r, x, b) = (fields.reg >> 3 & 1, index >> 3 & 1, base >> 3 & 1);
    let mandatory = encoding.mandatory;
    let wide = u8::from(encoding.wide);
    let most = fields.reg.max(fields.vex).max(fields.rm).max(fields.last.unwrap_or(0));
    if encoding.prefix != Prefix::Evex
        && (most > 15 || lanes.mask.is_some() || fields.memory.is_some_and(|m| m.broadcast))
    {
        return Err("it has no registers above 15, no masks and no broadcasts");
    }
    match encoding.prefix {
        Prefix::Legacy => {
            let rex = wide << 3 | r << 2 | if fields.memory.is_some() { x << 1 } else { 0 } | b;
            if rex != 0 {
                bytes.push(0x40 | rex);
            }
            match encoding.map {
                0 => {}
                1 => bytes.push(0x0f),
                _ => return Err("there is no such opcode map"),
            }
        }
        Prefix::Vex => {
            let x = if fields.memory.is_some() { x } else { 0 };
            let last = (!fields.vex & 0xf) << 3 | encoding.length << 2 | mandatory;
            if encoding.map == 1 && (wide, x, b) == (0, 0, 0) {
                bytes.extend_from_slice(&[0xc5, (r ^ 1) << 7 | last]);
            } else {
                let first = (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | encoding.map;
                bytes.extend_from_slice(&[0xc4, first, wide << 7 | last]);
            }
        }
        Prefix::Evex => {
            let high = fields.reg >> 4 & 1;
            let broadcast = u8::from(fields.memory.is_some_and(|m| m.broadcast));
            let mask = lanes.mask.map_or(Ok(0), number)?;
            bytes.extend_from_slice(&[
                0x62,
                (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | (high ^ 1) << 4 | encoding.map,
                wide << 7 | (!fields.vex & 0xf) << 3 | 1 << 2 | mandatory,
                u8::from(lanes.zeroing && mask != 0) << 7
                    | encoding.length << 5
                    | broadcast << 4
                    | (fields.vex >> 4 & 1 ^ 1) << 3
                    | mask,
            ]);
        }
    }
    let low = |number: u8| number & 7;
    let mut constant = None;
    match encoding.form {
        Form::O => bytes.push(encoding.opcode | low(fields.rm)),
        Form::Alone => bytes.push(encoding.opcode),
        Form::Fixed(modrm) => bytes.extend_from_slice(&[encoding.opcode, modrm]),
        Form::M(_) | Form::Vm(_) | Form::Rm | Form::Mr | Form::Rvm | Form::Rmv | Form::Rvmr => {
            let reg = low(fields.reg) << 3;
            bytes.push(encoding.opcode);
            match fields.memory {
                None => bytes.push(0xc0 | reg | low(fields.rm)),
                Some(Mem { place: Place::Constant(_), .. }) => {
                    bytes.push(reg | 5);
                    constant = Some(bytes.len());
                    bytes.extend_from_slice(&[0; 4]);
                }
                Some(Mem { place: Place::At(_, offset), broadcast }) => {
                    let offset = Offset::least(encoding, offset, broadcast);
                    address(bytes, reg, low(base), None, offset);
                }
                Some(Mem { place: Place::Slot(_, offset), broadcast }) => {
                    let offset = Offset::written(encoding, offset, broadcast);
                    address(bytes, reg, low(base), None, offset);
                }
                Some(Mem { place: Place::Rows(_, _, offset), broadcast }) => {
                    let offset = Offset::least(encoding, offset, broadcast);
                    address(bytes, reg, low(base), Some(low(index)), offset);
                }
            }
        }
    }
    if let Some(value) = immediate {
        let (fits, length) = match encoding.immediate {
            1 => (i8::try_from(value).is_ok() || u8::try_from(value).is_ok(), 1),
            4 => (i32::try_from(value).is_ok() || u32::try_from(value).is_ok(), 4),
            _ => (true, 8),
        };
        if !fits {
            return Err("its immediate operand is too large");
        }
        bytes.extend_from_slice(&value.to_le_bytes()[..length]);
    } else if let Some(last) = fields.last {
        bytes.push(last << 4);
    }
    if let Some(at) = constant {
        let back = (start as i64 - bytes.len() as i64) as i32;
        bytes[at..at + 4].copy_from_slice(&back.to_le_bytes());
    }
    Ok(constant)
}

/// A displacement.
#[derive(Clone, Copy)]
enum Offset {
    None,
    Short(i8),
    Long(i32),
}

impl Offset {
    /// Nothing for 0.
    fn least(encoding: &Encoding, offset: i32, broadcast: bool) -> Offset {
        if offset == 0 { Offset::None } else { Offset::written(encoding, offset, broadcast) }
    }

    fn written(encoding: &Encoding, offset: i32, broadcast: bool) -> Offset {
        let unit = i32::from(if broadcast { encoding.broadcast_unit } else { encoding.unit });
        match i8::try_from(offset / unit) {
            Ok(short) if offset % unit == 0 => Offset::Short(short),
            _ => Offset::Long(offset),
        }
    }
}

/// The ModRM and SIB bytes and the displacement of `base + index + offset`. Numbers of registers are their low bits.
fn address(bytes: &mut Vec<u8>, reg: u8, base: u8, index: Option<u8>, offset: Offset) {
    const SIB: u8 = 4;
    const NO_INDEX: u8 = 4;
    const NEEDS_OFFSET: u8 = 5;
    let offset = match offset {
        Offset::None if base == NEEDS_OFFSET => Offset::Short(0),
        offset => offset,
    };
    let mode = match offset {
        Offset::None => 0,
        Offset::Short(_) => 0x40,
        Offset::Long(_) => 0x80,
    };
    if base == SIB || index.is_some() {
        bytes.extend_from_slice(&[mode | reg | SIB, index.unwrap_or(NO_INDEX) << 3 | base]);
    } else {
        bytes.push(mode | reg | base);
    }
    match offset {
        Offset::None => {}
        Offset::Short(offset) => bytes.push(offset as u8),
        Offset::Long(offset) => bytes.extend_from_slice(&offset.to_le_bytes()),
    }
}
