//! Bytes: encoded instructions, jumps, alignment, and constants behind the code.
//!
//! Everything is written once, front to back: a jump to a place that is not known yet takes 32 bits and is
//! patched. An instruction that cannot be encoded is remembered, and [`Assembler::finish`] reports it.

use iced_x86::{Code, Decoder, DecoderOptions, FastFormatter, Register};

use super::encode::{Lanes, encode};
use crate::codegen::hash::FastMap;

/// A place in the code that jumps go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(usize);

/// A constant behind the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Constant(usize);

/// Where a memory operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// A register plus an offset.
    At(Register, i32),
    /// The same in a frame or a table: the offset is written even if it is 0.
    Slot(Register, i32),
    /// A register plus the offset of a row in another one, plus an offset.
    Rows(Register, Register, i32),
    Constant(Constant),
}

/// A memory operand; `broadcast` means one element for all lanes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mem {
    pub place: Place,
    pub broadcast: bool,
}

/// An operand of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    Reg(Register),
    Mem(Mem),
    /// 8 bits.
    Imm(u8),
    /// As many bits as the instruction has for it.
    Number(i64),
}

impl Operand {
    /// The constant that it refers to.
    fn constant(&self) -> Option<Constant> {
        match self {
            Operand::Mem(Mem { place: Place::Constant(constant), .. }) => Some(*constant),
            Operand::Mem(_) | Operand::Reg(_) | Operand::Imm(_) | Operand::Number(_) => None,
        }
    }
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Reg(register)
    }
}

impl From<i64> for Operand {
    fn from(value: i64) -> Operand {
        Operand::Number(value)
    }
}

impl From<i32> for Operand {
    fn from(value: i32) -> Operand {
        Operand::Number(value.into())
    }
}

impl From<Place> for Operand {
    fn from(place: Place) -> Operand {
        Operand::Mem(Mem { place, broadcast: false })
    }
}

/// Four bytes of an instruction that say how far a target is from the instruction after it, `next`.
#[derive(Clone, Copy)]
struct Patch {
    at: usize,
    next: usize,
}

/// What a jump depends on.
#[derive(Clone, Copy)]
pub(super) enum Jump {
    Always,
    Zero,
    NotZero,
    /// Signed.
    Less,
    /// Signed.
    GreaterEqual,
    /// Unsigned.
    Above,
    /// The carry flag is clear.
    NotCarry,
}

impl Jump {
    /// The number of the condition in opcodes; `None` if there is none.
    fn condition(self) -> Option<u8> {
        match self {
            Jump::Always => None,
            Jump::NotCarry => Some(3),
            Jump::Zero => Some(4),
            Jump::NotZero => Some(5),
            Jump::Above => Some(7),
            Jump::Less => Some(0xc),
            Jump::GreaterEqual => Some(0xd),
        }
    }
}

/// No-operations of 1 to 9 bytes.
const NOPS: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// Constants are aligned to this.
const POOL_ALIGN: usize = 64;

/// Room for the code of most kernels.
const ROOM: usize = 4096;

pub(super) struct Assembler {
    bytes: Vec<u8>,
    error: Option<String>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(Patch, Label)>,
    /// The constants by their words (a power of two of them), and the instructions that refer to them.
    pool: FastMap<Vec<u32>, usize>,
    constants: Vec<Vec<u32>>,
    references: Vec<(Patch, Constant)>,
    text: Option<(FastFormatter, String)>,
}

impl Assembler {
    pub fn new(keep_text: bool) -> Assembler {
        Assembler {
            bytes: Vec::with_capacity(ROOM),
            error: None,
            labels: Vec::new(),
            jumps: Vec::new(),
            pool: FastMap::default(),
            constants: Vec::new(),
            references: Vec::new(),
            text: keep_text.then(|| (FastFormatter::new(), String::new())),
        }
    }

    /// Appends an instruction with these operands, the first the one written.
    #[inline]
    pub fn op(&mut self, code: Code, operands: &[Operand]) {
        self.masked(code, operands, None, false);
    }

    /// Appends an instruction that writes only the lanes of a mask; the others are zeroed or stay.
    pub fn masked(&mut self, code: Code, operands: &[Operand], mask: Option<Register>, zeroing: bool) {
        let start = self.bytes.len();
        match encode(&mut self.bytes, code, operands, Lanes { mask, zeroing }) {
            Ok(displacement) => {
                if let Some(at) = displacement
                    && let Some(constant) = operands.iter().find_map(Operand::constant)
                {
                    self.references.push((Patch { at, next: self.bytes.len() }, constant));
                }
                #[cfg(debug_assertions)]
                self.check(start, code, operands);
                self.note(start);
            }
            Err(why) => {
                self.bytes.truncate(start);
                self.error.get_or_insert_with(|| format!("{code:?}: {why}"));
            }
        }
    }

    /// Adds what was appended to the text.
    fn note(&mut self, start: usize) {
        if let Some((formatter, text)) = &mut self.text {
            let mut decoder = Decoder::with_ip(64, &self.bytes[start..], start as u64, DecoderOptions::NONE);
            text.push_str(&format!("{start:6x}  "));
            formatter.format(&decoder.decode(), text);
            text.push('\n');
        }
    }

    /// What was appended is read back as the same instruction with the same registers.
    #[cfg(debug_assertions)]
    fn check(&self, start: usize, code: Code, operands: &[Operand]) {
        let bytes = &self.bytes[start..];
        let read = Decoder::with_ip(64, bytes, start as u64, DecoderOptions::NONE).decode();
        assert_eq!((read.code(), read.len()), (code, bytes.len()), "{operands:x?}: {bytes:02x?}");
        for (i, operand) in operands.iter().enumerate() {
            match *operand {
                Operand::Reg(register) => {
                    assert_eq!(read.op_register(i as u32), register, "{code:?} {operands:x?}: {bytes:02x?}");
                }
                Operand::Mem(Mem { place, broadcast }) => {
                    let (base, index, offset) = match place {
                        Place::At(base, offset) | Place::Slot(base, offset) => {
                            (base, Register::None, i64::from(offset))
                        }
                        Place::Rows(base, index, offset) => (base, index, i64::from(offset)),
                        Place::Constant(_) => (Register::RIP, Register::None, start as i64),
                    };
                    let memory =
                        (read.memory_base(), read.memory_index(), read.memory_displacement64() as i64);
                    assert_eq!(memory, (base, index, offset), "{code:?} {operands:x?}: {bytes:02x?}");
                    assert_eq!(read.is_broadcast(), broadcast, "{code:?}: {bytes:02x?}");
                }
                Operand::Imm(value) => {
                    assert_eq!(read.immediate(i as u32) as u8, value, "{code:?}: {bytes:02x?}");
                }
                Operand::Number(value) => {
                    assert_eq!(read.immediate(i as u32) as u32, value as u32, "{code:?}: {bytes:02x?}");
                }
            }
        }
    }

    /// A constant behind the code, aligned to its size.
    pub fn constant(&mut self, words: &[u32]) -> Constant {
        if let Some(number) = self.pool.get(words) {
            return Constant(*number);
        }
        self.pool.insert(words.to_vec(), self.constants.len());
        self.constants.push(words.to_vec());
        Constant(self.constants.len() - 1)
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
        if let Some((_, text)) = &mut self.text {
            text.push_str(&format!("L{}:\n", label.0));
        }
    }

    pub fn jump(&mut self, jump: Jump, to: Label) {
        let start = self.bytes.len();
        match self.labels[to.0] {
            Some(target) if start - target < 120 => {
                self.bytes.push(jump.condition().map_or(0xeb, |c| 0x70 | c));
                let next = start + 2;
                self.bytes.push((target as i64 - next as i64) as u8);
            }
            target => {
                match jump.condition() {
                    None => self.bytes.push(0xe9),
                    Some(condition) => self.bytes.extend_from_slice(&[0x0f, 0x80 | condition]),
                }
                let (at, next) = (self.bytes.len(), self.bytes.len() + 4);
                // To itself, if the target is not known yet.
                let distance = (target.unwrap_or(start) as i64 - next as i64) as i32;
                self.bytes.extend_from_slice(&distance.to_le_bytes());
                if target.is_none() {
                    self.jumps.push((Patch { at, next }, to));
                }
            }
        }
        self.note(start);
    }

    /// Calls a function that is not known yet; returns where the four bytes are that say how far it is.
    pub fn call(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0xe8, 0, 0, 0, 0]);
        self.note(start);
        start + 1
    }

    /// Pads with no-operations.
    pub fn align(&mut self, to: usize) {
        let mut padding = self.bytes.len().next_multiple_of(to) - self.bytes.len();
        while padding > 0 {
            let nop = NOPS[padding.min(NOPS.len()) - 1];
            self.bytes.extend_from_slice(nop);
            padding -= nop.len();
        }
    }

    /// The code with its constants, and its text if that was wanted.
    ///
    /// # Errors
    /// If an instruction could not be encoded, or a label is nowhere.
    pub fn finish(mut self) -> Result<(Vec<u8>, String), String> {
        if let Some(error) = self.error {
            return Err(format!("an instruction cannot be encoded: {error}"));
        }
        let constants = std::mem::take(&mut self.constants);
        let mut order: Vec<usize> = (0..constants.len()).collect();
        order.sort_by_key(|c| std::cmp::Reverse(constants[*c].len()));
        let mut places = vec![0; constants.len()];
        if !constants.is_empty() {
            self.align(POOL_ALIGN);
        }
        // The largest first, each a power of two long: so each is aligned to its size.
        for c in order {
            places[c] = self.bytes.len();
            for word in &constants[c] {
                self.bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        let mut bytes = self.bytes;
        let mut patch = |patch: Patch, target: usize| {
            let distance = (target as i64 - patch.next as i64) as i32;
            bytes[patch.at..patch.at + 4].copy_from_slice(&distance.to_le_bytes());
        };
        for (at, label) in self.jumps {
            patch(at, self.labels[label.0].ok_or("a jump to nowhere")?);
        }
        for (at, constant) in self.references {
            patch(at, places[constant.0]);
        }
        Ok((bytes, self.text.map_or_else(String::new, |t| t.1)))
    }
}
