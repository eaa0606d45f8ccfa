//! What an operation reads and writes: arrays, and constants of one element as literals.
//!
//! Half types are how elements are stored: an operation that computes reads them as `f32`, and what it stores is rounded
//! ([`Array::at`], [`Array::store`]), so that no operation knows of them. Whether the rounded value lies in memory as a
//! half or as `f32` is decided in [`super::halves`].

use nestjit_ir::interp::eval_cast;
use nestjit_ir::{Affine, BufId, DType, Expr, Index, NestBuilder, Scalar, Var};

/// A buffer, with what lowering asks it most.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub buf: BufId,
    /// The type of the buffer's elements.
    stored: DType,
    /// The type in which the operation computes with them.
    pub dtype: DType,
    /// The half type to which results are rounded, where that is not the type of the elements.
    rounded: Option<DType>,
    pub shape: Vec<usize>,
}

/// The type in which operations compute with elements of a type.
pub(super) const fn computed_in(stored: DType) -> DType {
    match stored {
        DType::F16 | DType::BF16 => DType::F32,
        DType::F32 | DType::F64 | DType::Bool => stored,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => stored,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => stored,
    }
}

impl Array {
    /// A buffer whose elements the operation takes as they are stored.
    pub fn as_stored(buf: BufId, stored: DType, shape: Vec<usize>) -> Array {
        Array { buf, stored, dtype: stored, rounded: None, shape }
    }

    /// A buffer with whose elements the operation computes.
    pub fn computed(buf: BufId, stored: DType, shape: Vec<usize>) -> Array {
        Array { buf, stored, dtype: computed_in(stored), rounded: None, shape }
    }

    /// A buffer of `f32` with values of a half type, to which the operation's results are rounded.
    pub fn widened(buf: BufId, half: DType, shape: Vec<usize>) -> Array {
        Array { buf, stored: DType::F32, dtype: DType::F32, rounded: Some(half), shape }
    }

    /// The array, with elements that are taken and given as this type, without another rounding.
    pub fn moved_as(self, dtype: DType) -> Array {
        Array { dtype, rounded: None, ..self }
    }

    /// The type of the buffer's elements.
    pub fn stored(&self) -> DType {
        self.stored
    }

    fn loaded(&self, load: Expr) -> Expr {
        if self.dtype == self.stored { load } else { load.cast(self.dtype) }
    }

    /// The element at an index.
    pub fn at<I: Into<Index>>(&self, index: impl IntoIterator<Item = I>) -> Expr {
        self.loaded(Expr::load(self.buf, index))
    }

    /// Whether what is stored is rounded to another type than it is computed in.
    pub fn is_rounded(&self) -> bool {
        self.dtype != self.stored || self.rounded.is_some()
    }

    /// The element at an index, or a value outside the array.
    pub fn at_or<I: Into<Index>>(&self, index: impl IntoIterator<Item = I>, outside: Scalar) -> Expr {
        let outside = eval_cast(self.stored, outside);
        self.loaded(Expr::load_or(self.buf, index, outside.into()))
    }

    /// Stores an element.
    pub fn store<I: Into<Index>>(
        &self,
        b: &mut NestBuilder<'_>,
        index: impl IntoIterator<Item = I>,
        value: Expr,
    ) {
        let (value, dtype) = match self.rounded {
            Some(half) => (value.cast(half), half),
            None => (value, self.dtype),
        };
        let value = if dtype == self.stored { value } else { value.cast(self.stored) };
        b.store(self.buf, index, value);
    }
}

/// An operand: an array, or a constant that has the same value everywhere.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Array(Array),
    /// A constant of one element, and its shape.
    Literal(Scalar, Vec<usize>),
}

impl Operand {
    pub fn shape(&self) -> &[usize] {
        match self {
            Operand::Array(array) => &array.shape,
            Operand::Literal(_, shape) => shape,
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            Operand::Array(array) => array.dtype,
            Operand::Literal(value, _) => value.dtype(),
        }
    }

    /// The element at an index.
    pub fn at<I: Into<Index>>(&self, index: impl IntoIterator<Item = I>) -> Expr {
        match self {
            Operand::Array(array) => array.at(index),
            Operand::Literal(value, _) => Expr::Const(*value),
        }
    }

    /// The element that broadcasting to `shape` puts at `index`.
    pub fn broadcast(&self, index: &[Affine], shape: &[usize]) -> Expr {
        self.at(broadcast_index(self.shape(), index, shape))
    }
}

/// The index into an operand of shape `from` that broadcasting to `to` reads at `index`: dimensions are
/// aligned at the end, and those of extent 1 are read at 0 if they are stretched.
pub(super) fn broadcast_index(from: &[usize], index: &[Affine], to: &[usize]) -> Vec<Affine> {
    let skipped = to.len() - from.len();
    from.iter()
        .zip(&to[skipped..])
        .zip(&index[skipped..])
        .map(|((from, to), i)| if from == to { i.clone() } else { Affine::constant(0) })
        .collect()
}

/// Variables as indices.
pub(super) fn affine(vars: &[Var]) -> Vec<Affine> {
    vars.iter().map(|v| Affine::var(*v)).collect()
}

/// `index` without some dimensions.
pub(super) fn without<T: Clone>(index: &[T], dims: &[usize]) -> Vec<T> {
    index.iter().enumerate().filter(|(d, _)| !dims.contains(d)).map(|(_, i)| i.clone()).collect()
}
