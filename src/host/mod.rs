//! Operations that no loop nest of constant extents can be: the shape of their results depends on values
//! ([`HostOp::NonZero`]), they sort, or they work with sequences. They are plain Rust on [`Tensor`]s, a file per
//! family; a session runs them between its compiled programs.
//!
//! What an operation is given is checked here, since nobody could check it before the run. Which node becomes which
//! operation, and when it is run, is left to others.

use nestjit_ir::DType;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Tensor, checked_bytes};

mod boxes;
mod extent;
mod movement;
mod order;
mod select;
mod sequence;
#[cfg(test)]
mod tests;

pub use sequence::{slice_at, stack};

/// The largest result.
const MAX_BYTES: usize = 16 << 30;

/// What is passed between the steps of a session, into it and out of it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A tensor.
    Tensor(Tensor),
    /// A list of tensors of one element type.
    Sequence(Vec<Tensor>),
    /// An optional value without contents, or an operand that is left out.
    Absent,
}

impl Item {
    /// The tensor that this is.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if it is none.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Item::Tensor(tensor) => Ok(tensor),
            other => Err(Error::shape(format!("a tensor is needed, but {} was given", other.what()))),
        }
    }

    /// The list of tensors that this is.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if it is none.
    pub fn sequence(&self) -> Result<&[Tensor]> {
        match self {
            Item::Sequence(list) => Ok(list),
            other => Err(Error::shape(format!("a sequence is needed, but {} was given", other.what()))),
        }
    }

    /// The tensors in it: one, those of the sequence, none.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Item::Tensor(tensor) => std::slice::from_ref(tensor),
            Item::Sequence(list) => list,
            Item::Absent => &[],
        }
    }

    /// What it is, in words.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Item::Tensor(_) => "a tensor",
            Item::Sequence(_) => "a sequence",
            Item::Absent => "nothing",
        }
    }
}

impl From<Tensor> for Item {
    fn from(tensor: Tensor) -> Item {
        Item::Tensor(tensor)
    }
}

/// An operation that is run by the host: see the module's description. Operands are as in the ONNX operator of the
/// name, and so are parameters; axes may count from the end.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum HostOp {
    /// The elements' bits as those of another type of the same size.
    BitCast {
        /// The type.
        to: DType,
    },
    /// The elements or slices that a condition chooses; of the flat tensor, if there is no axis.
    Compress {
        /// The axis.
        axis: Option<i64>,
    },
    /// The tensors of a sequence, joined along an axis, or along a new one.
    ConcatFromSequence {
        /// The axis.
        axis: i64,
        /// Whether it is a new one.
        new_axis: bool,
    },
    /// A tensor of equal elements.
    ConstantOfShape {
        /// The element.
        value: Tensor,
    },
    /// A tensor repeated along dimensions of extent 1.
    Expand,
    /// The operand as it is.
    Identity,
    /// Boxes that are left when those which overlap better ones are dropped.
    NonMaxSuppression {
        /// Whether boxes are centre and size instead of two corners.
        center_point_box: bool,
    },
    /// The indices of the elements that are not 0.
    NonZero,
    /// The operand, or what an optional value holds.
    OptionalGetElement,
    /// Whether the operand is there.
    OptionalHasElement,
    /// Equidistant numbers.
    Range,
    /// The same elements in another shape.
    Reshape {
        /// Whether an extent of 0 is one, instead of that of the operand.
        allow_zero: bool,
    },
    /// An element of a sequence.
    SequenceAt,
    /// A sequence of the operands.
    SequenceConstruct,
    /// A sequence without an element.
    SequenceErase,
    /// A sequence with one more.
    SequenceInsert,
    /// The number of elements of a sequence.
    SequenceLength,
    /// Part of a tensor.
    Slice,
    /// Parts of a tensor, of given extents or of equal ones.
    Split {
        /// The axis.
        axis: i64,
        /// How many parts there are, if extents are not given.
        outputs: usize,
    },
    /// A sequence of the parts of a tensor.
    SplitToSequence {
        /// The axis.
        axis: i64,
        /// Whether parts of extent 1 keep the axis; if extents are not given.
        keep_dims: bool,
    },
    /// A tensor repeated.
    Tile,
    /// The largest or smallest elements along an axis, sorted, and their indices.
    TopK {
        /// The axis.
        axis: i64,
        /// The largest, or the smallest.
        largest: bool,
        /// How many, if that is no operand.
        k: Option<i64>,
    },
    /// The different elements, or slices along an axis; where they are first, which of them each element is, and
    /// how often there are.
    Unique {
        /// The axis.
        axis: Option<i64>,
        /// Whether they are sorted; otherwise they come as they are found.
        sorted: bool,
    },
}

impl HostOp {
    /// The results. Operands that are left out are [`Item::Absent`].
    ///
    /// # Errors
    /// What is wrong with the operands.
    pub fn run(&self, inputs: &[Item]) -> Result<Vec<Item>> {
        let operand = |i: usize| inputs.get(i).unwrap_or(&Item::Absent);
        let tensor = |i: usize| match operand(i) {
            Item::Absent => Err(Error::invalid(format!("input {i} is missing"))),
            item => item.tensor(),
        };
        let optional = |i: usize| match operand(i) {
            Item::Absent => Ok(None),
            item => item.tensor().map(Some),
        };
        let one = |result: Result<Tensor>| Ok(vec![Item::Tensor(result?)]);
        match self {
            HostOp::BitCast { to } => one(movement::bit_cast(tensor(0)?, *to)),
            HostOp::Compress { axis } => one(select::compress(tensor(0)?, tensor(1)?, *axis)),
            HostOp::ConcatFromSequence { axis, new_axis } => {
                one(sequence::concat(operand(0).sequence()?, *axis, *new_axis))
            }
            HostOp::ConstantOfShape { value } => one(extent::constant_of_shape(tensor(0)?, value)),
            HostOp::Expand => one(extent::expand(tensor(0)?, tensor(1)?)),
            HostOp::Identity => Ok(vec![operand(0).clone()]),
            HostOp::NonMaxSuppression { center_point_box } => one(boxes::suppress(
                tensor(0)?,
                tensor(1)?,
                [optional(2)?, optional(3)?, optional(4)?],
                *center_point_box,
            )),
            HostOp::NonZero => one(select::non_zero(tensor(0)?)),
            HostOp::OptionalGetElement => match operand(0) {
                Item::Absent => Err(Error::invalid("the optional value is empty")),
                item => Ok(vec![item.clone()]),
            },
            HostOp::OptionalHasElement => one(Ok(Tensor::scalar(*operand(0) != Item::Absent))),
            HostOp::Range => one(extent::range(tensor(0)?, tensor(1)?, tensor(2)?)),
            HostOp::Reshape { allow_zero } => one(extent::reshape(tensor(0)?, tensor(1)?, *allow_zero)),
            HostOp::SequenceAt => one(sequence::at(operand(0).sequence()?, tensor(1)?)),
            HostOp::SequenceConstruct => sequence::construct(inputs),
            HostOp::SequenceErase => sequence::erase(operand(0).sequence()?, optional(1)?),
            HostOp::SequenceInsert => sequence::insert(operand(0).sequence()?, tensor(1)?, optional(2)?),
            HostOp::SequenceLength => one(Ok(Tensor::scalar(operand(0).sequence()?.len() as i64))),
            HostOp::Slice => {
                one(movement::slice(tensor(0)?, tensor(1)?, tensor(2)?, optional(3)?, optional(4)?))
            }
            HostOp::Split { axis, outputs } => {
                let parts = movement::split(tensor(0)?, optional(1)?, *axis, *outputs)?;
                Ok(parts.into_iter().map(Item::Tensor).collect())
            }
            HostOp::SplitToSequence { axis, keep_dims } => {
                sequence::split(tensor(0)?, optional(1)?, *axis, *keep_dims)
            }
            HostOp::Tile => one(movement::tile(tensor(0)?, tensor(1)?)),
            HostOp::TopK { axis, largest, k } => {
                let k = match k {
                    Some(k) => *k,
                    None => int(tensor(1)?, "k")?,
                };
                let (values, indices) = order::top_k(tensor(0)?, *axis, k, *largest)?;
                Ok(vec![values.into(), indices.into()])
            }
            HostOp::Unique { axis, sorted } => {
                let results = order::unique(tensor(0)?, *axis, *sorted)?;
                Ok(results.into_iter().map(Item::Tensor).collect())
            }
        }
    }
}

/// Evaluates an expression with `$t` being the tensor's element type.
macro_rules! by_type {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            nestjit_ir::DType::F32 => {
                type $t = f32;
                $body
            }
            nestjit_ir::DType::F64 => {
                type $t = f64;
                $body
            }
            nestjit_ir::DType::F16 => {
                type $t = nestjit_ir::f16;
                $body
            }
            nestjit_ir::DType::BF16 => {
                type $t = nestjit_ir::bf16;
                $body
            }
            nestjit_ir::DType::I64 => {
                type $t = i64;
                $body
            }
            nestjit_ir::DType::I32 => {
                type $t = i32;
                $body
            }
            nestjit_ir::DType::I8 => {
                type $t = i8;
                $body
            }
            nestjit_ir::DType::U8 | nestjit_ir::DType::Bool => {
                type $t = u8;
                $body
            }
            nestjit_ir::DType::I16 => {
                type $t = i16;
                $body
            }
            nestjit_ir::DType::U16 => {
                type $t = u16;
                $body
            }
            nestjit_ir::DType::U32 => {
                type $t = u32;
                $body
            }
            nestjit_ir::DType::U64 => {
                type $t = u64;
                $body
            }
        }
    };
}
use by_type;

/// The elements of an integer tensor.
fn ints(tensor: &Tensor, what: &str) -> Result<Vec<i64>> {
    match tensor.dtype() {
        DType::I64 => Ok(tensor.values::<i64>()?.to_vec()),
        DType::I32 => Ok(tensor.values::<i32>()?.iter().map(|v| i64::from(*v)).collect()),
        other @ (DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool) => Err(Error::shape(format!("{what} must be i32 or i64, not {other}"))),
    }
}

/// The one element of an integer tensor.
fn int(tensor: &Tensor, what: &str) -> Result<i64> {
    match ints(tensor, what)?.as_slice() {
        [value] => Ok(*value),
        other => Err(Error::shape(format!("{what} must be one integer, not {}", other.len()))),
    }
}

/// An axis, counted from the end if negative, of a tensor of this rank.
fn axis(axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_start
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
        .ok_or_else(|| Error::invalid(format!("axis {axis} does not exist in a tensor of rank {rank}")))
}

/// Integers as extents.
fn extents(list: &[i64]) -> Result<Vec<usize>> {
    let negative = || Error::invalid(format!("the shape {list:?} has a negative extent"));
    list.iter().map(|n| usize::try_from(*n).map_err(|_| negative())).collect()
}

/// A tensor of zeros that is not too large.
fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
    let bytes = checked_bytes(dtype, shape)?;
    if bytes > MAX_BYTES {
        let message = format!("a tensor would take {bytes} bytes, but at most {MAX_BYTES} are possible");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Tensor::zeros(dtype, shape)
}

/// How a tensor lies around an axis: the number of slices before it, its extent, and the bytes of an element of it.
fn around(x: &Tensor, axis: usize) -> (usize, usize, usize) {
    let shape = x.shape();
    let inner: usize = shape[axis + 1..].iter().product();
    (shape[..axis].iter().product(), shape[axis], inner * x.dtype().size())
}
