//! What an operation reads and writes: arrays, and constants of one element as literals.

use nestjit_ir::{Affine, BufId, DType, Expr, Index, Scalar, Var};

/// A buffer, with what lowering asks it most.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub buf: BufId,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Array {
    /// The element at an index.
    pub fn at<I: Into<Index>>(&self, index: impl IntoIterator<Item = I>) -> Expr {
        Expr::load(self.buf, index)
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
