//! How instructions are encoded, as the manuals of the CPUs say: prefix, opcode map, opcode, and where operands go. The table is
//! made at compile time. What bytes become of it is `encode`'s.

mod table;

use iced_x86::Code;

pub(super) use self::table::TABLE;

/// The kind of prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    Legacy,
    Vex,
    Evex,
}

/// Where operands go, in their order. A digit takes the place of the register in the ModRM byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// There are none.
    Alone,
    /// There are none; the ModRM byte is this.
    Fixed(u8),
    /// The opcode's low bits.
    O,
    /// Register or memory.
    M(u8),
    /// The VEX prefix, register or memory.
    Vm(u8),
    /// The register of the ModRM byte, register or memory.
    Rm,
    /// Register or memory, the register of the ModRM byte.
    Mr,
    Rvm,
    Rmv,
    /// The last one is in the upper half of an immediate byte.
    Rvmr,
}

/// The encoding of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoding {
    pub prefix: Prefix,
    /// The opcode map: 0 for one byte, 1 for 0F, 2 for 0F38, 3 for 0F3A.
    pub map: u8,
    /// The mandatory prefix as VEX says it: 0 for none, 1 for 66, 2 for F3, 3 for F2.
    pub mandatory: u8,
    /// The bit W.
    pub wide: bool,
    /// The vector length: 0 for 128 bits, 1 for 256, 2 for 512.
    pub length: u8,
    pub opcode: u8,
    pub form: Form,
    /// Bytes of the immediate operand; 0 if there is none.
    pub immediate: u8,
    /// With EVEX, the unit of displacements of one byte: the bytes of a memory operand, and of one that is broadcast.
    pub unit: u8,
    pub broadcast_unit: u8,
}

impl Encoding {
    /// The encoding of an instruction; `None` if the table does not have it.
    #[inline]
    pub fn of(code: Code) -> Option<&'static Encoding> {
        let position = *POSITIONS.get(code as usize)?;
        TABLE.get(usize::from(position)).map(|row| &row.1)
    }
}

/// For each instruction, its position in [`TABLE`], or a position behind the last.
static POSITIONS: [u16; CODES] = {
    let mut positions = [u16::MAX; CODES];
    let mut i = 0;
    while i < TABLE.len() {
        positions[TABLE[i].0 as usize] = i as u16;
        i += 1;
    }
    positions
};

/// One more than the largest number of an instruction in [`TABLE`].
const CODES: usize = {
    let (mut codes, mut i) = (0, 0);
    while i < TABLE.len() {
        let code = TABLE[i].0 as usize + 1;
        codes = if code > codes { code } else { codes };
        i += 1;
    }
    codes
};
