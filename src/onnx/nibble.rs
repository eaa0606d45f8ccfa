//! Types of four bits, `int4` and `uint4`. An element in memory is an `i8` or `u8` of their range; files have two of them in a
//! byte. The importer notes which values are of these types, since their range is another one where it matters: in casts and
//! quantisation.

use nestjit_ir::DType;

use super::import::Importer;
use super::proto::tensor_proto::DataType;
use crate::error::{Error, Result};
use crate::graph::{Binary, Op, ValueId};

/// A type of four bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nibble {
    Int4,
    Uint4,
}

impl Nibble {
    /// The type that an ONNX type number stands for, if it is one of these.
    pub fn of(number: i32) -> Option<Nibble> {
        match DataType::try_from(number) {
            Ok(DataType::Int4) => Some(Nibble::Int4),
            Ok(DataType::Uint4) => Some(Nibble::Uint4),
            _ => None,
        }
    }

    /// The type of its elements in memory.
    pub fn dtype(self) -> DType {
        match self {
            Nibble::Int4 => DType::I8,
            Nibble::Uint4 => DType::U8,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Nibble::Int4 => "int4",
            Nibble::Uint4 => "uint4",
        }
    }

    /// The least and the greatest number.
    pub fn range(self) -> (f64, f64) {
        match self {
            Nibble::Int4 => (-8.0, 7.0),
            Nibble::Uint4 => (0.0, 15.0),
        }
    }

    /// The elements, so many, of bytes with two each, the first in the lower bits.
    ///
    /// # Errors
    /// There are more or fewer bytes.
    pub fn unpack(self, bytes: &[u8], count: usize) -> Result<Vec<u8>> {
        if bytes.len() != count.div_ceil(2) {
            let (name, given, needed) = (self.name(), bytes.len(), count.div_ceil(2));
            return Err(Error::invalid(format!(
                "{count} elements of {name} take {needed} bytes, but {given} are given"
            )));
        }
        let extended = |nibble: u8| match self {
            Nibble::Int4 => ((nibble << 4) as i8 >> 4) as u8,
            Nibble::Uint4 => nibble,
        };
        let both = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        Ok(both.take(count).map(extended).collect())
    }
}

/// Operators that move elements of their first operand, or of all operands of its type.
const MOVES: &[&str] = &[
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that say themselves what is of four bits, or whose results never are.
const KNOWS: &[&str] =
    &["Cast", "CastLike", "DequantizeLinear", "GatherBlockQuantized", "QuantizeLinear", "Shape", "Size"];

impl Importer<'_> {
    /// Which type of four bits a value has, if it has one.
    pub fn nibble(&self, x: ValueId) -> Option<Nibble> {
        self.nibbles.get(&x).copied()
    }

    /// Notes that a value is of a type of four bits.
    pub fn note_nibble(&mut self, x: ValueId, nibble: Nibble) -> ValueId {
        self.nibbles.insert(x, nibble);
        x
    }

    /// The numbers that the lowest four bits of integers are.
    pub fn low_bits(&mut self, base: &str, x: ValueId, nibble: Nibble) -> Result<ValueId> {
        let dtype = self.graph.value(x).dtype;
        let binary = |s: &mut Self, op: Binary, x: ValueId, value: i64| {
            let constant = crate::tensor::Tensor::from(nestjit_ir::Scalar::from_i64(dtype, value));
            let constant = s.constant(base, constant);
            Ok::<_, Error>(s.add(base, Op::Binary(op), &[x, constant])?[0])
        };
        let number = binary(self, Binary::And, x, 15)?;
        let number = match nibble {
            Nibble::Uint4 => number,
            // The sign is the fourth bit.
            Nibble::Int4 => {
                let flipped = binary(self, Binary::Xor, number, 8)?;
                binary(self, Binary::Sub, flipped, 8)?
            }
        };
        let number = self.add(base, Op::Cast { to: nibble.dtype() }, &[number])?[0];
        Ok(self.note_nibble(number, nibble))
    }

    /// Notes which results of an operator are of four bits, because its operands are.
    ///
    /// # Errors
    /// It is none that takes such operands.
    pub fn follow_nibbles(&mut self, operator: &str, inputs: &[ValueId], results: &[ValueId]) -> Result<()> {
        let Some((x, nibble)) = inputs.iter().find_map(|x| Some((*x, self.nibble(*x)?))) else {
            return Ok(());
        };
        if KNOWS.contains(&operator) {
            return Ok(());
        }
        let of_type = |x: &&ValueId| self.graph.value(**x).dtype == nibble.dtype();
        let moved = MOVES.contains(&operator)
            && inputs.iter().filter(of_type).all(|x| self.nibble(*x) == Some(nibble));
        if !moved {
            let name = self.graph.value(x).name.escape_debug();
            return Err(Error::unsupported(format!(
                "'{name}' is {}, which the operator does not take",
                nibble.name()
            )));
        }
        for result in results {
            if self.graph.value(*result).dtype == nibble.dtype() {
                self.note_nibble(*result, nibble);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_in_a_byte() {
        let bytes = [0x80, 0x7f, 0xa1];
        assert_eq!(Nibble::Uint4.unpack(&bytes, 5).unwrap(), [0, 8, 15, 7, 1]);
        assert_eq!(Nibble::Int4.unpack(&bytes, 6).unwrap(), [0i8, -8, -1, 7, 1, -6].map(|v| v as u8));
        assert_eq!(Nibble::Int4.unpack(&[], 0).unwrap(), [0u8; 0]);
        let error = Nibble::Int4.unpack(&bytes, 7).unwrap_err();
        assert_eq!(error.to_string(), "7 elements of int4 take 4 bytes, but 3 are given");
    }
}
