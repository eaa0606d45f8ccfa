//! The core of the IR: programs, buffers, nests, statements and expressions.
//!
//! Plain owned trees and small integer ids; passes rewrite them in place. What the constructs *mean* is
//! defined by [`crate::interp`]; which of them are allowed at which stage by [`crate::verify`].

use crate::affine::{Affine, Var};
use crate::check::Check;
use crate::excerpt::Placeholders;
use crate::names::Names;
use crate::ops::{BinOp, ReduceOp, UnOp};
use crate::types::{DType, Scalar};
use std::num::NonZeroU32;

/// A buffer of a [`Program`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BufId(pub u32);

/// Buffers, and the nests that compute on them, in execution order.
///
/// Constant data is not part of a program: a `const` buffer is bound like an input, only earlier.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// All buffers, scoped ones ([`Role::Local`]) included; indexed by [`BufId`].
    pub buffers: Vec<Buffer>,
    /// The names of all loop variables; indexed by [`Var`]. Names need not be unique.
    pub vars: Vec<String>,
    /// The nests, in execution order.
    pub nests: Vec<Nest>,
    /// For [`Program::unique_buffer_name`]: buffers are added, and keep their names.
    pub(crate) buffer_names: Names,
    /// For [`Program::unique_nest_name`].
    pub(crate) nest_names: Names,
    /// Whether names are those of an [`crate::excerpt::Excerpt`].
    pub(crate) placeholders: Placeholders,
}

impl Program {
    /// The buffer with this id.
    pub fn buf(&self, id: BufId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }

    /// The buffer with this id, to be changed.
    pub fn buf_mut(&mut self, id: BufId) -> &mut Buffer {
        &mut self.buffers[id.0 as usize]
    }

    /// Adds a buffer.
    pub fn add_buffer(&mut self, mut buffer: Buffer) -> BufId {
        buffer.name = self.placeholders.buffer(buffer.name);
        self.buffers.push(buffer);
        BufId(self.buffers.len() as u32 - 1)
    }

    /// Adds a loop variable with this (not necessarily unique) name.
    pub fn add_var(&mut self, name: impl Into<String>) -> Var {
        let name = self.placeholders.var(name.into());
        self.vars.push(name);
        Var(self.vars.len() as u32 - 1)
    }

    /// The name a variable was created with.
    pub fn var_name(&self, var: Var) -> &str {
        &self.vars[var.0 as usize]
    }

    /// All buffer ids, in order.
    pub fn buf_ids(&self) -> impl Iterator<Item = BufId> + use<> {
        (0..self.buffers.len() as u32).map(BufId)
    }
}

/// Who provides a buffer's storage, and when its contents exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Given by the caller at each run; never written.
    In,
    /// Returned to the caller; every element is written.
    Out,
    /// Given at compile time; never written.
    Const,
    /// Lives between nests of one run.
    Temp,
    /// Scoped: declared by a [`Stmt::Temp`] inside a nest, undefined at each declaration.
    Local,
}

/// A named array. Accesses are always by logical index; `layout` and `halo` only say where elements lie.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Buffer {
    /// The name, without the leading `%`. Unique among the buffers of a program.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The logical shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Who provides the storage.
    pub role: Role,
    /// How the elements are ordered in memory.
    pub layout: Layout,
    /// For each dimension, how many extra elements lie before and after the logical ones. Empty: none at
    /// all. A haloed buffer's border holds [`Buffer::halo_fill`]. Only what is given (`in`, `const`) has a halo: nests do
    /// not fill any.
    pub halo: Vec<(usize, usize)>,
    /// What the halo holds; meaningful only if `halo` is not empty.
    pub halo_fill: Scalar,
}

impl Buffer {
    /// A row-major buffer without halo.
    pub fn new(name: impl Into<String>, dtype: DType, shape: &[usize], role: Role) -> Buffer {
        Buffer {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            role,
            layout: Layout::row_major(shape.len()),
            halo: Vec::new(),
            halo_fill: Scalar::zero(dtype),
        }
    }

    /// The number of logical elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the logical elements, without halo or padding.
    pub fn logical_bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }

    /// The extent of a dimension with the halo added.
    pub fn padded_extent(&self, dim: usize) -> usize {
        self.shape[dim] + self.halo.get(dim).map_or(0, |(lo, hi)| lo + hi)
    }

    /// The extent of a dimension in memory: halo and the padding of panels and groups included.
    pub fn stored_extent(&self, dim: usize) -> usize {
        match self.layout.panel {
            Some((d, block)) if d == dim => self.padded_extent(dim).next_multiple_of(block),
            _ => match self.layout.interleave {
                Some((d, group)) if d == dim => self.padded_extent(dim).next_multiple_of(group),
                _ => self.padded_extent(dim),
            },
        }
    }

    /// The number of elements that the storage holds: halo and the padding of panels and groups included.
    pub fn storage_len(&self) -> usize {
        (0..self.shape.len()).map(|dim| self.stored_extent(dim)).product()
    }

    /// The bytes that the storage takes.
    pub fn storage_bytes(&self) -> usize {
        self.storage_len() * self.dtype.size()
    }
}

/// The order of a buffer's elements in memory.
///
/// Dimensions are laid out in `order`, the last one contiguous. With a `panel`, one dimension is cut into
/// blocks: the block number becomes the outermost physical dimension and the place within the block the
/// innermost, `[dim / block][order without dim ...][dim % block]`, the last block padded to full size. This is
/// what register-tiled contractions read as packed weights (and NCHW16c, with `dim = 1, block = 16`).
///
/// With an `interleave`, the elements of another dimension are taken in groups: the number of the group takes the place
/// of the dimension in `order`, and the place within the group lies innermost of all, inside the panel, the last group
/// padded to full size. So a panel on `n` and an interleave on `k` make `[n / block][k / 4][n % block][k % 4]` of
/// `[k, n]`: what instructions read that multiply four neighbouring bytes and add the products up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// A permutation of the dimensions, outermost first.
    pub order: Vec<usize>,
    /// The panelled dimension and its block size.
    pub panel: Option<(usize, usize)>,
    /// The interleaved dimension, which is not the panelled one, and the size of its groups.
    pub interleave: Option<(usize, usize)>,
}

impl Layout {
    /// Dimensions in their logical order.
    pub fn row_major(rank: usize) -> Layout {
        Layout::ordered((0..rank).collect())
    }

    /// Dimensions in this order, outermost first.
    pub fn ordered(order: Vec<usize>) -> Layout {
        Layout { order, panel: None, interleave: None }
    }

    /// Whether there are panels or groups, so that neighbours are not equally far apart everywhere.
    pub fn is_cut(&self) -> bool {
        self.panel.is_some() || self.interleave.is_some()
    }

    /// Whether elements lie in logical order.
    pub fn is_row_major(&self) -> bool {
        !self.is_cut() && self.order.iter().enumerate().all(|(i, &d)| i == d)
    }
}

/// One kernel: a list of statements, usually one loop, that a single native function executes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Nest {
    /// The name, without the leading `@`. Unique among the nests of a program.
    pub name: String,
    /// The statements, in order.
    pub body: Vec<Stmt>,
    /// The names of the model's operations that this nest computes, in order; for reports.
    pub ops: Vec<String>,
}

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// A counted loop.
    For(For),
    /// `buf[index] = value`.
    Store(Store),
    /// `buf[index] = op(buf[index], value)`.
    Reduce(Reduce),
    /// Declares a [`Role::Local`] buffer for the rest of the enclosing block. Its contents are undefined here
    /// (and undefined again in the next iteration of a surrounding loop).
    Temp(BufId),
    /// A runtime function that is not a loop nest.
    Call(Call),
}

/// `for var < extent kind { body }`: `var` takes the values `0, 1, .. extent - 1`.
#[derive(Clone, PartialEq, Debug)]
pub struct For {
    /// The loop variable; each variable is bound by one loop only.
    pub var: Var,
    /// How often the body runs; may be 0.
    pub extent: usize,
    /// How the loop is to be executed.
    pub kind: LoopKind,
    /// The statements of an iteration.
    pub body: Vec<Stmt>,
}

/// How a loop is executed. The kind never changes what a program means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LoopKind {
    /// One iteration after the other.
    #[default]
    Serial,
    /// Iterations are independent and may run on different threads, which take them in so many parts of about the same
    /// size; `None` leaves the number to the run. Where a parallel loop is all that another one does, both are cut.
    Parallel(Option<NonZeroU32>),
    /// Iterations are independent (or a reduction into a scalar) and run as the lanes of vector registers.
    /// Extents are small: a few registers' worth, not necessarily a multiple of the register width.
    Vector,
    /// Every iteration is emitted as code of its own.
    Unrolled,
}

impl LoopKind {
    /// [`LoopKind::Parallel`] in so many parts; at least one.
    pub fn in_parts(parts: usize) -> LoopKind {
        let parts = u32::try_from(parts).unwrap_or(u32::MAX);
        LoopKind::Parallel(Some(NonZeroU32::new(parts).unwrap_or(NonZeroU32::MIN)))
    }

    /// Whether iterations may run on different threads.
    pub const fn is_parallel(self) -> bool {
        matches!(self, LoopKind::Parallel(_))
    }

    /// The keyword of the textual IR; empty for serial loops.
    pub const fn name(self) -> &'static str {
        match self {
            LoopKind::Serial => "",
            LoopKind::Parallel(_) => "parallel",
            LoopKind::Vector => "vector",
            LoopKind::Unrolled => "unrolled",
        }
    }
}

/// `buf[index] = value`.
#[derive(Clone, PartialEq, Debug)]
pub struct Store {
    /// The buffer written.
    pub buf: BufId,
    /// One index per dimension.
    pub index: Vec<Index>,
    /// The value; its type is the buffer's.
    pub value: Expr,
}

/// `buf[index] = op(buf[index], value)`. Code generation may reassociate `add` and `mul` over a loop.
#[derive(Clone, PartialEq, Debug)]
pub struct Reduce {
    /// The combining operation.
    pub op: ReduceOp,
    /// The buffer updated.
    pub buf: BufId,
    /// One index per dimension.
    pub index: Vec<Index>,
    /// The value combined; its type is the buffer's.
    pub value: Expr,
}

/// A call to a runtime function by name: it reads the inputs and fills the outputs, nothing else.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The function, such as `topk`.
    pub function: String,
    /// Buffers read, whole.
    pub inputs: Vec<BufId>,
    /// Buffers written, whole.
    pub outputs: Vec<BufId>,
    /// Integer attributes; their meaning is the function's.
    pub attrs: Vec<i64>,
}

/// One index of an access.
#[derive(Clone, PartialEq, Debug)]
pub enum Index {
    /// Known up to the loop variables.
    Affine(Affine),
    /// An `i64` computed at run time (gather, scatter). Outside the dimension it is an error at run time,
    /// unless the load has an `otherwise`.
    Value(Box<Expr>),
}

impl Index {
    /// The affine form, if it is one.
    pub fn as_affine(&self) -> Option<&Affine> {
        match self {
            Index::Affine(a) => Some(a),
            Index::Value(_) => None,
        }
    }
}

impl<T: Into<Affine>> From<T> for Index {
    fn from(value: T) -> Index {
        Index::Affine(value.into())
    }
}

/// An expression. Operands of a binary operation have one type; comparisons yield `bool`.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// A literal.
    Const(Scalar),
    /// An element of a buffer.
    Load(Load),
    /// The value of an affine expression of the loop variables, as `i64`.
    Index(Affine),
    /// A unary operation; the type stays (predicates yield `bool`).
    Unary(UnOp, Box<Expr>),
    /// A binary operation.
    Binary(BinOp, Box<Expr>, Box<Expr>),
    /// `condition ? a : b`. Both sides are evaluated; neither may fail.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// A conversion: float to integer truncates and saturates, NaN gives 0; integer to integer wraps; to
    /// `bool` tells whether the value is not 0.
    Cast(DType, Box<Expr>),
    /// An `i64` that must lie in a range; elsewhere the run ends with an error.
    Check(Box<Check>),
}

/// `buf[index]`, or `otherwise` where an index lies outside the buffer.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// The buffer read.
    pub buf: BufId,
    /// One index per dimension.
    pub index: Vec<Index>,
    /// The value outside the buffer (padding). Without it every index must be inside.
    pub otherwise: Option<Box<Expr>>,
}

impl Expr {
    /// The type of the expression in `program`. For ill-typed expressions, the type of the first operand.
    pub fn dtype(&self, program: &Program) -> DType {
        match self {
            Expr::Const(s) => s.dtype(),
            Expr::Load(l) => program.buf(l.buf).dtype,
            Expr::Index(_) => DType::I64,
            Expr::Unary(op, a) => op.result(a.dtype(program)),
            Expr::Binary(op, a, _) => op.result(a.dtype(program)),
            Expr::Select(_, a, _) => a.dtype(program),
            Expr::Cast(d, _) => *d,
            Expr::Check(_) => DType::I64,
        }
    }
}
