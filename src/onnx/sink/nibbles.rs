//! Which values of a graph in the making are of a type of four bits, and what operators do with those.

use nestjit_ir::Scalar;

use super::super::nibble::Nibble;
use super::super::tensor::Constant;
use super::{GraphSink, Origin};
use crate::error::{Error, Result};
use crate::graph::{Binary, Op, ValueId};
use crate::tensor::Tensor;

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

impl GraphSink {
    /// Which type of four bits a value has, if it has one.
    pub fn nibble(&self, x: ValueId) -> Option<Nibble> {
        self.nibbles.get(&x).copied()
    }

    /// Adds a constant of the model; its name starts with `base`.
    pub fn typed_constant(&mut self, base: &str, constant: Constant) -> ValueId {
        let id = self.constant(base, constant.tensor);
        self.nibbles.extend(constant.nibble.map(|nibble| (id, nibble)));
        id
    }

    /// The contents of a value, if it is constant, and its type.
    pub fn typed_contents(&self, x: ValueId) -> Option<Constant> {
        Some(Constant { tensor: self.graph.constant(x)?.clone(), nibble: self.nibble(x) })
    }

    /// Notes that a value is of a type of four bits.
    pub fn note_nibble(&mut self, x: ValueId, nibble: Nibble) -> ValueId {
        self.nibbles.insert(x, nibble);
        x
    }

    /// The numbers that the lowest four bits of integers are.
    pub fn low_bits(&mut self, origin: Origin<'_>, x: ValueId, nibble: Nibble) -> Result<ValueId> {
        let dtype = self.graph.value(x).dtype;
        let binary = |s: &mut Self, op: Binary, x: ValueId, value: i64| {
            let constant = Tensor::from(Scalar::from_i64(dtype, value));
            let constant = s.constant(origin.name, constant);
            Ok::<_, Error>(s.add(origin, Op::Binary(op), &[x, constant])?[0])
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
        let number = self.add(origin, Op::Cast { to: nibble.dtype() }, &[number])?[0];
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
