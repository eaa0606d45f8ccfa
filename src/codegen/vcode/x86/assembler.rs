//! Bytes: encoded instructions, jumps, alignment, and constants behind the code.
//!
//! Everything is written once, front to back: a jump to a place that is not known yet takes 32 bits and is
//! patched. An instruction that cannot be encoded is remembered, and [`Assembler::finish`] reports it.

use crate::codegen::hash::FastMap;
use iced_x86::{Code, Encoder, FastFormatter, IcedError, Instruction, OpKind, Register};

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
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Reg(register)
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
    fn near(self) -> Code {
        match self {
            Jump::Always => Code::Jmp_rel32_64,
            Jump::Zero => Code::Je_rel32_64,
            Jump::NotZero => Code::Jne_rel32_64,
            Jump::Less => Code::Jl_rel32_64,
            Jump::GreaterEqual => Code::Jge_rel32_64,
            Jump::Above => Code::Ja_rel32_64,
            Jump::NotCarry => Code::Jae_rel32_64,
        }
    }

    fn short(self) -> Code {
        match self {
            Jump::Always => Code::Jmp_rel8_64,
            Jump::Zero => Code::Je_rel8_64,
            Jump::NotZero => Code::Jne_rel8_64,
            Jump::Less => Code::Jl_rel8_64,
            Jump::GreaterEqual => Code::Jge_rel8_64,
            Jump::Above => Code::Ja_rel8_64,
            Jump::NotCarry => Code::Jae_rel8_64,
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

pub(super) struct Assembler {
    encoder: Encoder,
    /// Bytes so far.
    at: usize,
    error: Option<IcedError>,
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
            encoder: Encoder::new(64),
            at: 0,
            error: None,
            labels: Vec::new(),
            jumps: Vec::new(),
            pool: FastMap::default(),
            constants: Vec::new(),
            references: Vec::new(),
            text: keep_text.then(|| (FastFormatter::new(), String::new())),
        }
    }

    /// Appends an instruction.
    pub fn put(&mut self, instruction: Result<Instruction, IcedError>) {
        let encoded = instruction.and_then(|i| self.encoder.encode(&i, self.at as u64).map(|n| (i, n)));
        match encoded {
            Ok((instruction, bytes)) => {
                if let Some((formatter, text)) = &mut self.text {
                    text.push_str(&format!("{:6x}  ", self.at));
                    formatter.format(&instruction, text);
                    text.push('\n');
                }
                self.at += bytes;
            }
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }

    /// Appends an instruction with these operands, the first the one written.
    pub fn op(&mut self, code: Code, operands: &[Operand]) {
        self.masked(code, operands, None, false);
    }

    /// Appends an instruction that writes only the lanes of a mask; the others are zeroed or stay.
    pub fn masked(&mut self, code: Code, operands: &[Operand], mask: Option<Register>, zeroing: bool) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let mut constant = None;
        for (i, operand) in operands.iter().enumerate() {
            let i = i as u32;
            match *operand {
                Operand::Reg(register) => instruction.set_op_register(i, register),
                Operand::Imm(value) => {
                    instruction.set_op_kind(i, OpKind::Immediate8);
                    instruction.set_immediate8(value);
                }
                Operand::Mem(Mem { place, broadcast }) => {
                    instruction.set_op_kind(i, OpKind::Memory);
                    instruction.set_is_broadcast(broadcast);
                    match place {
                        Place::At(base, offset) => {
                            instruction.set_memory_base(base);
                            instruction.set_memory_displacement64(i64::from(offset) as u64);
                            instruction.set_memory_displ_size(u32::from(offset != 0));
                        }
                        Place::Constant(number) => {
                            // Any address near the instruction will do: it is patched.
                            instruction.set_memory_base(Register::RIP);
                            instruction.set_memory_displacement64(self.at as u64);
                            instruction.set_memory_displ_size(8);
                            constant = Some(number);
                        }
                    }
                }
            }
        }
        if let Some(mask) = mask {
            instruction.set_op_mask(mask);
            instruction.set_zeroing_masking(zeroing);
        }
        let start = self.at;
        self.put(Ok(instruction));
        if let Some(constant) = constant {
            let displacement = start + self.encoder.get_constant_offsets().displacement_offset();
            self.references.push((Patch { at: displacement, next: self.at }, constant));
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
        self.labels[label.0] = Some(self.at);
        if let Some((_, text)) = &mut self.text {
            text.push_str(&format!("L{}:\n", label.0));
        }
    }

    pub fn jump(&mut self, jump: Jump, to: Label) {
        match self.labels[to.0] {
            Some(target) if self.at - target < 120 => {
                self.put(Instruction::with_branch(jump.short(), target as u64));
            }
            Some(target) => self.put(Instruction::with_branch(jump.near(), target as u64)),
            None => {
                self.put(Instruction::with_branch(jump.near(), self.at as u64));
                self.jumps.push((Patch { at: self.at - 4, next: self.at }, to));
            }
        }
    }

    /// Pads with no-operations.
    pub fn align(&mut self, to: usize) {
        let mut padding = self.at.next_multiple_of(to) - self.at;
        while padding > 0 {
            let nop = NOPS[padding.min(NOPS.len()) - 1];
            self.raw(nop);
            padding -= nop.len();
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.encoder.write_u8(*byte);
        }
        self.at += bytes.len();
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
            places[c] = self.at;
            for word in &constants[c] {
                self.raw(&word.to_le_bytes());
            }
        }
        let mut bytes = self.encoder.take_buffer();
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
