//! Inference for matrix products.

use nestjit_ir::DType;

use super::{
    Class, Outputs, broadcast_shapes, expect_broadcast_to, expect_class, expect_min_rank, expect_same_dtype,
    operands, operands_or, show,
};
use crate::error::{Error, Result};
use crate::graph::Value;

/// The type of sums of products, and that there is one: `i32` for two operands of 8 bits.
pub(super) fn product_type(a: &Value, b: &Value) -> Result<DType> {
    if a.dtype.is_byte() && b.dtype.is_byte() {
        return Ok(DType::I32);
    }
    expect_same_dtype(&[a, b])?;
    expect_class(a, Class::Numeric)?;
    Ok(a.dtype)
}

/// What is added to sums of products must be of their type.
pub(super) fn expect_addend(addend: &Value, dtype: DType, what: &str) -> Result<()> {
    if addend.dtype != dtype {
        return Err(Error::shape(format!("{what} must be {dtype}, but {} was given", show(addend))));
    }
    Ok(())
}

pub(super) fn matmul(inputs: &[&Value]) -> Result<Outputs> {
    let [a, b] = operands(inputs)?;
    let dtype = product_type(a, b)?;
    expect_min_rank(a, 1)?;
    expect_min_rank(b, 1)?;
    // A 1-D operand is a row on the left and a column on the right; the dimension added is dropped again.
    let (batch_a, m, k_a) = match a.shape.as_slice() {
        [k] => (&[][..], None, *k),
        [batch @ .., m, k] => (batch, Some(*m), *k),
        [] => unreachable!("the rank is at least 1"),
    };
    let (batch_b, k_b, n) = match b.shape.as_slice() {
        [k] => (&[][..], *k, None),
        [batch @ .., k, n] => (batch, *k, Some(*n)),
        [] => unreachable!("the rank is at least 1"),
    };
    if k_a != k_b {
        return Err(Error::shape(format!(
            "{} and {} cannot be multiplied: the inner dimensions are {k_a} and {k_b}",
            show(a),
            show(b)
        )));
    }
    let mut shape = broadcast_shapes(&[batch_a, batch_b]).ok_or_else(|| {
        Error::shape(format!(
            "{} and {} cannot be multiplied: their batch dimensions do not broadcast",
            show(a),
            show(b)
        ))
    })?;
    shape.extend(m);
    shape.extend(n);
    Ok(vec![(dtype, shape)])
}

pub(super) fn packed_matmul(bits: usize, block: usize, inputs: &[&Value]) -> Result<Outputs> {
    let [x, q, scale, zero] = operands_or(inputs, 3)?;
    let (Some(x), Some(q), Some(scale)) = (x, q, scale) else { unreachable!("three operands are required") };
    if !matches!(bits, 2 | 4 | 8) {
        return Err(Error::invalid(format!("integers of {bits} bits are not possible, but of 2, 4 and 8")));
    }
    if block == 0 || !block.checked_mul(bits).is_some_and(|n| n.is_multiple_of(8)) {
        return Err(Error::invalid(format!("{block} integers of {bits} bits do not fill whole bytes")));
    }
    expect_class(x, Class::Float)?;
    expect_min_rank(x, 1)?;
    expect_same_dtype(&[x, scale])?;
    if q.dtype != DType::U8 {
        return Err(Error::shape(format!("packed integers must be u8, but {} was given", show(q))));
    }
    let inner = x.shape[x.shape.len() - 1];
    let (blocks, bytes) = (inner.div_ceil(block), block * bits / 8);
    let n = match q.shape.as_slice() {
        [n, own_blocks, own_bytes] if (*own_blocks, *own_bytes) == (blocks, bytes) => *n,
        _ => {
            return Err(Error::shape(format!(
                "{} and {} cannot be multiplied: packed integers [N, {blocks}, {bytes}] are needed",
                show(x),
                show(q)
            )));
        }
    };
    for parameter in [Some(scale), zero].into_iter().flatten() {
        if parameter.shape != [blocks, n] {
            let (parameter, q) = (show(parameter), show(q));
            return Err(Error::shape(format!("{parameter} does not fit {q}: [{blocks}, {n}] is needed")));
        }
    }
    if let Some(zero) = zero.filter(|zero| zero.dtype != DType::U8) {
        expect_same_dtype(&[x, zero])?;
    }
    let mut shape = x.shape.clone();
    shape.pop();
    shape.push(n);
    Ok(vec![(x.dtype, shape)])
}

pub(super) fn gemm(
    alpha: f64,
    beta: f64,
    trans_a: bool,
    trans_b: bool,
    inputs: &[&Value],
) -> Result<Outputs> {
    let [a, b, c] = operands_or(inputs, 2)?;
    let (Some(a), Some(b)) = (a, b) else { unreachable!("two operands are required") };
    let dtype = product_type(a, b)?;
    if dtype.is_int() && (alpha, beta) != (1.0, 1.0) {
        return Err(Error::unsupported("alpha and beta other than 1 on integers"));
    }
    let matrix = |value: &Value, transposed: bool| match value.shape.as_slice() {
        [rows, columns] if transposed => Ok((*columns, *rows)),
        [rows, columns] => Ok((*rows, *columns)),
        _ => Err(Error::shape(format!("{} must be a matrix", show(value)))),
    };
    let (m, k_a) = matrix(a, trans_a)?;
    let (k_b, n) = matrix(b, trans_b)?;
    if k_a != k_b {
        let t = |transposed| if transposed { " transposed" } else { "" };
        return Err(Error::shape(format!(
            "{}{} and {}{} cannot be multiplied: the inner dimensions are {k_a} and {k_b}",
            show(a),
            t(trans_a),
            show(b),
            t(trans_b)
        )));
    }
    if let Some(c) = c {
        expect_addend(c, dtype, "the addend")?;
        expect_broadcast_to(c, &[m, n], "the addend")?;
    }
    Ok(vec![(dtype, vec![m, n])])
}
