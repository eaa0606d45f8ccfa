//! Types of four bits, `int4` and `uint4`. An element in memory is an `i8` or `u8` of their range; files have two of them in a
//! byte. A sink notes which values are of these types, since their range is another one where it matters: in casts and
//! quantisation.

use nestjit_ir::DType;

use super::proto::tensor_proto::DataType;
use crate::error::{Error, Result};

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
