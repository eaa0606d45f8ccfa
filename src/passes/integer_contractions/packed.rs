//! Products of floats with constant weights of few bits: the weights stay packed, two in a byte, and are taken apart
//! where they are multiplied ([`Op::PackedMatMul`]).
//!
//! The weights are what casts, subtractions and multiplications make of a constant of 8-bit integers which all lie within
//! the range of four bits. Zero points and scales vary along the columns, and along the sum in steps: the steps that they
//! have in common are the blocks.

use nestjit_ir::DType;

use super::rewriter::Rewriter;
use crate::error::Result;
use crate::graph::eval::evaluate_op;
use crate::graph::{Binary, Node, Op, Unary, ValueId};
use crate::tensor::Tensor;

/// Bits of a weight.
const BITS: usize = 4;

/// The fewest weights for which a scale of their own pays, if they are not all of a column.
const SMALLEST_BLOCK: usize = 16;

/// The most operations between the integers and the operand.
const LONGEST: usize = 16;

/// Rewrites a product, if it is one with such weights.
pub(super) fn rewrite(rewriter: &mut Rewriter<'_>, node: &Node) -> Result<bool> {
    let [x, w, ..] = node.inputs[..] else { return Ok(false) };
    let transposed = match node.op {
        Op::MatMul => false,
        Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b } => trans_b,
        _ => return Ok(false),
    };
    let possible = rewriter.dtype(x) == DType::F32
        && !rewriter.graph.is_const(x)
        && rewriter.value(w).shape.len() == 2
        && node.inputs.iter().all(|id| rewriter.elements(*id) > 0);
    if !possible {
        return Ok(false);
    }
    let Some(weights) = Weights::find(rewriter, w, transposed)? else { return Ok(false) };
    let Some(packed) = weights.pack()? else { return Ok(false) };
    let q = rewriter.constant("packed", packed.q);
    let scale = rewriter.constant("scales", packed.scale);
    let mut inputs = vec![x, q, scale];
    inputs.extend(packed.zero.map(|zero| rewriter.constant("zeros", zero)));
    let mut y = rewriter.replace(Op::PackedMatMul { bits: BITS, block: packed.block }, &inputs)?;
    if let Some(addend) = node.inputs.get(2) {
        y = rewriter.binary("sum", Binary::Add, y, *addend)?;
    }
    rewriter.yield_as(y, node.outputs[0]);
    Ok(true)
}

/// A matrix `(q - zero) * scale`.
struct Weights {
    q: Tensor,
    /// Whether its rows are columns of the product.
    transposed: bool,
    zero: Option<Parameter>,
    scale: Option<Parameter>,
}

/// What is subtracted, or multiplied with: a small tensor.
struct Parameter {
    tensor: Tensor,
    /// A dimension of the matrix, and for each index in it the one in the tensor.
    gathered: Option<(usize, Vec<i64>)>,
}

impl Weights {
    /// What an operand is, if it is such a matrix.
    fn find(rewriter: &mut Rewriter<'_>, operand: ValueId, transposed: bool) -> Result<Option<Weights>> {
        let (mut at, mut transposed) = (operand, transposed);
        let (mut zero, mut scale) = (None, None);
        for _ in 0..LONGEST {
            let dtype = rewriter.dtype(at);
            if dtype.is_byte() {
                let Some(q) = rewriter.graph.constant(at).cloned() else { return Ok(None) };
                return Ok(Some(Weights { q, transposed, zero, scale }));
            }
            let Some(node) = rewriter.producer(at) else { return Ok(None) };
            let shape = rewriter.shape(at);
            let kept = |id: ValueId| rewriter.value(id).shape == shape;
            let x = node.inputs[0];
            at = match &node.op {
                Op::Cast { .. } if dtype == DType::I32 && rewriter.dtype(x).is_float() => return Ok(None),
                Op::Cast { .. } if matches!(dtype, DType::F32 | DType::I32) => x,
                Op::Unary(Unary::Identity) => x,
                // Parameters are those of the matrix as it is stored.
                Op::Transpose { perm } if perm[..] == [1, 0] && zero.is_none() && scale.is_none() => {
                    transposed = !transposed;
                    x
                }
                Op::Binary(Binary::Sub) if zero.is_none() && kept(x) => {
                    zero = Parameter::find(rewriter, node.inputs[1], &shape)?;
                    if zero.is_none() {
                        return Ok(None);
                    }
                    x
                }
                Op::Binary(Binary::Mul)
                    if dtype == DType::F32 && zero.is_none() && scale.is_none() && kept(x) =>
                {
                    scale = Parameter::find(rewriter, node.inputs[1], &shape)?;
                    if scale.is_none() {
                        return Ok(None);
                    }
                    x
                }
                _ => return Ok(None),
            };
        }
        Ok(None)
    }

    /// The extents of the sum and of the columns.
    fn extents(&self) -> (usize, usize) {
        let [rows, columns] = self.q.shape() else { return (0, 0) };
        if self.transposed { (*columns, *rows) } else { (*rows, *columns) }
    }

    /// The index in the matrix as it is stored.
    fn index(&self, k: usize, n: usize) -> [usize; 2] {
        if self.transposed { [n, k] } else { [k, n] }
    }

    /// The largest number of neighbours along the sum that have their parameters in common, wherever they begin.
    fn block(&self) -> Result<usize> {
        let along = usize::from(self.transposed);
        let mut block = 0;
        for parameter in [&self.zero, &self.scale].into_iter().flatten() {
            for at in parameter.changes(self.q.shape(), along)? {
                block = gcd(block, at);
            }
        }
        Ok(if block == 0 { self.extents().0 } else { block })
    }

    /// The matrix in bytes of packed integers; `None` if it has no such form.
    fn pack(&self) -> Result<Option<Packed>> {
        let (inner, columns) = self.extents();
        let bytes = self.q.bytes()?;
        // Signed numbers are moved by 8.
        let moved = if self.q.dtype() == DType::I8 { 8u8 } else { 0 };
        if inner == 0 || !bytes.iter().all(|byte| byte.wrapping_add(moved) < 1 << BITS) {
            return Ok(None);
        }
        let block = self.block()?;
        if block < inner && (block < SMALLEST_BLOCK || block % 2 == 1) {
            return Ok(None);
        }
        let (block, blocks) = (block.next_multiple_of(2), inner.div_ceil(block));
        let width = self.q.shape()[1];
        let mut q = vec![0u8; columns * blocks * block / 2];
        for n in 0..columns {
            for k in 0..inner {
                let [row, column] = self.index(k, n);
                let number = bytes[row * width + column].wrapping_add(moved);
                q[n * (blocks * block / 2) + k / 2] |= number << (BITS * (k % 2));
            }
        }
        let by_block = |parameter: &Option<Parameter>, default: f64| -> Result<Vec<f64>> {
            let index = (0..blocks).flat_map(|b| (0..columns).map(move |n| (b * block, n)));
            match parameter {
                None => Ok(vec![default; blocks * columns]),
                Some(parameter) => parameter.values(index.map(|(k, n)| self.index(k, n)), self.q.shape()),
            }
        };
        let zeros = by_block(&self.zero, 0.0)?;
        let zeros: Vec<f64> = zeros.iter().map(|zero| zero + f64::from(moved)).collect();
        let scales: Vec<f32> = by_block(&self.scale, 1.0)?.iter().map(|scale| *scale as f32).collect();
        let shape = [blocks, columns];
        let zero = if zeros.iter().all(|zero| *zero == f64::from(1 << (BITS - 1))) {
            None
        } else if zeros.iter().all(|zero| (0.0..=255.0).contains(zero) && zero.fract() == 0.0) {
            Some(Tensor::new(&shape, &zeros.iter().map(|zero| *zero as u8).collect::<Vec<u8>>())?)
        } else {
            return Ok(None);
        };
        let q = Tensor::new(&[columns, blocks, block / 2], &q)?;
        Ok(Some(Packed { q, zero, scale: Tensor::new(&shape, &scales)?, block }))
    }
}

/// The operands of a packed product.
struct Packed {
    q: Tensor,
    zero: Option<Tensor>,
    scale: Tensor,
    block: usize,
}

impl Parameter {
    /// What a value that broadcasts to a matrix is made of, if it is constant.
    fn find(rewriter: &mut Rewriter<'_>, value: ValueId, shape: &[usize]) -> Result<Option<Parameter>> {
        let mut casts = Vec::new();
        let mut at = value;
        loop {
            if let Some(tensor) = rewriter.known(at) {
                return Parameter { tensor, gathered: None }.cast(&casts);
            }
            let Some(node) = rewriter.producer(at) else { return Ok(None) };
            match &node.op {
                Op::Cast { to } if casts.len() < LONGEST => {
                    casts.push(*to);
                    at = node.inputs[0];
                }
                Op::Gather { axis } if rewriter.value(at).shape.len() == shape.len() => {
                    let [data, indices] = node.inputs[..] else { return Ok(None) };
                    let (Some(tensor), Some(indices)) = (rewriter.known(data), rewriter.known(indices))
                    else {
                        return Ok(None);
                    };
                    let (Ok(indices), [_]) = (indices.values::<i64>(), indices.shape()) else {
                        return Ok(None);
                    };
                    let extent = tensor.shape().get(*axis).copied().unwrap_or(0);
                    let inside = |i: &i64| usize::try_from(*i).is_ok_and(|i| i < extent);
                    if !indices.iter().all(inside) {
                        return Ok(None);
                    }
                    let gathered = Some((*axis, indices.to_vec()));
                    return Parameter { tensor, gathered }.cast(&casts);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Converted to the types that follow each other from the last to the first.
    fn cast(mut self, casts: &[DType]) -> Result<Option<Parameter>> {
        for to in casts.iter().rev() {
            let Some(tensor) = evaluate_op(&Op::Cast { to: *to }, &[self.tensor])?.pop() else {
                return Ok(None);
            };
            self.tensor = tensor;
        }
        Ok(matches!(self.tensor.dtype(), DType::F32 | DType::I32).then_some(self))
    }

    /// Where an element of the matrix has its parameter.
    fn place(&self, index: [usize; 2], shape: &[usize]) -> usize {
        let own = self.tensor.shape();
        let skipped = shape.len() - own.len().min(shape.len());
        let mut at = 0;
        for (d, extent) in own.iter().enumerate() {
            let i = match &self.gathered {
                Some((axis, indices)) if *axis == d => indices[index[d + skipped]] as usize,
                _ if *extent == 1 => 0,
                _ => index[d + skipped],
            };
            at = at * extent + i;
        }
        at
    }

    /// The parameters of some elements.
    fn values(&self, index: impl Iterator<Item = [usize; 2]>, shape: &[usize]) -> Result<Vec<f64>> {
        let places = index.map(|index| self.place(index, shape));
        // Zero points are integers, scales are not.
        if self.tensor.dtype() == DType::I32 {
            let values = self.tensor.values::<i32>()?;
            return Ok(places.map(|at| f64::from(values[at])).collect());
        }
        let values = self.tensor.values::<f32>()?;
        Ok(places.map(|at| f64::from(values[at])).collect())
    }

    /// The indices along a dimension of the matrix at which the parameter is another one than just before.
    fn changes(&self, shape: &[usize], along: usize) -> Result<Vec<usize>> {
        let own = self.tensor.shape();
        let dim = along.checked_sub(shape.len() - own.len().min(shape.len()));
        if let (Some((axis, indices)), Some(dim)) = (&self.gathered, dim)
            && *axis == dim
        {
            return Ok((1..indices.len()).filter(|i| indices[*i] != indices[i - 1]).collect());
        }
        if dim.is_none_or(|dim| own[dim] == 1) {
            return Ok(Vec::new());
        }
        // Written out for each element: equal neighbours have one in common.
        let others = shape[1 - along];
        let row = |i: usize| {
            let index = move |o: usize| if along == 0 { [i, o] } else { [o, i] };
            self.values((0..others).map(index), shape)
        };
        let mut changes = Vec::new();
        let mut before = row(0)?;
        for i in 1..shape[along] {
            let next = row(i)?;
            if next.iter().zip(&before).any(|(a, b)| a.to_bits() != b.to_bits()) {
                changes.push(i);
            }
            before = next;
        }
        Ok(changes)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
