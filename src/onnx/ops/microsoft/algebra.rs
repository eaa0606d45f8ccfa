//! Distances, products of complex numbers, inverses of matrices.

use super::{Halt, NodeCx, OpEntry, Result, contrib, host, one};
use crate::graph::{Binary, Reduction, Unary, ValueId};
use crate::host::{HostOp, matrix};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("CDist", distances),
    contrib("ComplexMul", |cx| complex_product(cx, false)).in_f32(&[0]),
    contrib("ComplexMulConj", |cx| complex_product(cx, true)).in_f32(&[0]),
    contrib("Inverse", host::at_once)
        .always_on_host(|_| Ok(HostOp::tensor(|x| matrix::inverse(x.tensor(0)?)))),
];

/// How far the rows of a matrix are from those of another.
fn distances(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(a)?;
    let ([m, n], [k, other]) = (matrix_shape(cx, a)?, matrix_shape(cx, b)?);
    if n != other {
        return Err(Halt::shape(format!("rows of {n} elements are compared with rows of {other}")));
    }
    let (a, b) = (cx.reshape(a, &[m, 1, n])?, cx.reshape(b, &[1, k, n])?);
    let difference = cx.binary(Binary::Sub, a, b)?;
    let metric = cx.string("metric", "sqeuclidean")?;
    match metric {
        "sqeuclidean" | "euclidean" => {
            let squares = cx.reduce(Reduction::SumSquare, difference, &[2], false)?;
            one(if metric == "euclidean" { cx.unary(Unary::Sqrt, squares) } else { Ok(squares) })
        }
        "cityblock" => one(cx.reduce(Reduction::L1, difference, &[2], false)),
        "chebyshev" if n > 0 => {
            let distance = cx.unary(Unary::Abs, difference)?;
            one(cx.reduce(Reduction::Max, distance, &[2], false))
        }
        other => Err(Halt::unsupported(format!("the metric '{}' is not supported", other.escape_debug()))),
    }
}

fn matrix_shape(cx: &NodeCx<'_>, x: ValueId) -> Result<[usize; 2]> {
    let shape = cx.shape(x);
    <[usize; 2]>::try_from(shape.as_slice())
        .map_err(|_| Halt::shape(format!("a matrix is needed, but the shape is {shape:?}")))
}

/// The last dimension has real and imaginary parts.
fn complex_product(cx: &mut NodeCx<'_>, conjugated: bool) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let mut parts = Vec::new();
    for i in 0..2 {
        let x = cx.input(i)?;
        cx.expect_float(x)?;
        let shape = cx.shape(x);
        let Some(last) = shape.len().checked_sub(1).filter(|last| shape[*last] == 2) else {
            return Err(Halt::shape(format!(
                "the last dimension must hold real and imaginary parts, but the shape is {shape:?}"
            )));
        };
        parts.push([cx.narrow(x, last, 0, 1)?, cx.narrow(x, last, 1, 1)?]);
    }
    let ([a, b], [c, mut d]) = (parts[0], parts[1]);
    if conjugated {
        d = cx.unary(Unary::Neg, d)?;
    }
    let product = |cx: &mut NodeCx<'_>, a, b| cx.binary(Binary::Mul, a, b);
    let (ac, bd, ad, bc) = (product(cx, a, c)?, product(cx, b, d)?, product(cx, a, d)?, product(cx, b, c)?);
    let (real, imaginary) = (cx.binary(Binary::Sub, ac, bd)?, cx.binary(Binary::Add, ad, bc)?);
    let last = cx.rank(real) - 1;
    one(cx.concat(&[real, imaginary], last))
}
