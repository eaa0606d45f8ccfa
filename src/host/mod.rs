//! Operations that no loop nest of constant extents can be: the shape of their results depends on values, they sort,
//! or they work with sequences. They are plain Rust on [`Tensor`]s, a function each, a file per family; a session runs
//! them between its compiled programs, as [`HostOp`]s. Operands and parameters are those of the ONNX operator of the
//! name; axes may count from the end.
//!
//! What an operation is given is checked here, since nobody could check it before the run. Which node becomes which
//! operation, and when it is run, is left to others.

use std::fmt;
use std::sync::Arc;

use nestjit_ir::DType;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Tensor, checked_bytes};

pub(crate) mod boxes;
pub(crate) mod extent;
pub(crate) mod matrix;
pub(crate) mod movement;
pub(crate) mod order;
pub(crate) mod select;
pub(crate) mod sequence;

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

/// What a [`HostOp`] computes.
type Run = dyn Fn(&Operands<'_>) -> Result<Vec<Item>> + Send + Sync;

/// An operation that is run by the host, with its parameters: see the module's description.
#[derive(Clone)]
pub struct HostOp {
    run: Arc<Run>,
    /// How many results it has at most.
    results: usize,
}

impl fmt::Debug for HostOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostOp")
    }
}

impl HostOp {
    /// An operation with up to so many results.
    pub(crate) fn new(
        results: usize,
        run: impl Fn(&Operands<'_>) -> Result<Vec<Item>> + Send + Sync + 'static,
    ) -> HostOp {
        HostOp { run: Arc::new(run), results }
    }

    /// An operation whose result is one tensor.
    pub(crate) fn tensor(run: impl Fn(&Operands<'_>) -> Result<Tensor> + Send + Sync + 'static) -> HostOp {
        HostOp::new(1, move |operands| Ok(vec![run(operands)?.into()]))
    }

    /// How many results it has at most.
    pub(crate) fn results(&self) -> usize {
        self.results
    }

    /// The results. Operands that are left out are [`Item::Absent`].
    ///
    /// # Errors
    /// What is wrong with the operands.
    pub fn run(&self, operands: &[Item]) -> Result<Vec<Item>> {
        (self.run)(&Operands(operands))
    }
}

/// The operands of a [`HostOp`].
pub(crate) struct Operands<'a>(&'a [Item]);

impl<'a> Operands<'a> {
    /// All of them.
    pub fn all(&self) -> &'a [Item] {
        self.0
    }

    /// One of them, whatever it is.
    pub fn item(&self, index: usize) -> &'a Item {
        self.0.get(index).unwrap_or(&Item::Absent)
    }

    /// A tensor that must be given.
    pub fn tensor(&self, index: usize) -> Result<&'a Tensor> {
        self.optional(index)?.ok_or_else(|| Error::invalid(format!("input {index} is missing")))
    }

    /// A tensor that may be left out.
    pub fn optional(&self, index: usize) -> Result<Option<&'a Tensor>> {
        match self.item(index) {
            Item::Absent => Ok(None),
            item => item.tensor().map(Some),
        }
    }

    /// A sequence.
    pub fn sequence(&self, index: usize) -> Result<&'a [Tensor]> {
        self.item(index).sequence()
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
    let other = || Error::shape(format!("{what} must be i32 or i64, not {}", tensor.dtype()));
    tensor.indices()?.ok_or_else(other)
}

/// The one element of an integer tensor.
pub(crate) fn int(tensor: &Tensor, what: &str) -> Result<i64> {
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
