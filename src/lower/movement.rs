//! Operations that move elements with affine indices: transposition, slices, concatenation, and gather.

use std::sync::Arc;

use nestjit_ir::{Affine, CheckKind, DType, Expr, Index, ReduceOp, Site};

use super::context::Context;
use super::elementwise::from_start;
use super::operand::{Array, Operand, affine};
use crate::error::Result;
use crate::graph::Reduction;
use crate::tensor::Tensor;

pub(super) fn transpose(cx: &mut Context<'_, '_>, perm: &[usize]) -> Result<()> {
    let x = cx.operand(0)?;
    let y = cx.result()?;
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let mut at = i.to_vec();
        for (var, dim) in i.iter().zip(perm) {
            at[*dim] = *var;
        }
        y.store(b, i, x.at(at));
    });
    b.finish();
    Ok(())
}

pub(super) fn slice(cx: &mut Context<'_, '_>, starts: &[usize], steps: &[i64]) -> Result<()> {
    let x = cx.operand(0)?;
    let y = cx.result()?;
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let at = (0..i.len()).map(|d| i[d] * steps[d] + starts[d] as i64);
        y.store(b, i, x.at(at));
    });
    b.finish();
    Ok(())
}

/// One nest, a group of loops per operand.
pub(super) fn concat(cx: &mut Context<'_, '_>, axis: usize) -> Result<()> {
    let operands = cx.operands()?;
    let y = cx.result()?;
    let mut b = cx.nest("");
    let mut offset = 0i64;
    for x in &operands {
        let shape = x.shape();
        if !shape.contains(&0) {
            b.for_each("i", shape, |b, i| {
                let mut at = affine(i);
                at[axis] = at[axis].plus(offset);
                y.store(b, at, x.at(i));
            });
        }
        offset += shape[axis] as i64;
    }
    b.finish();
    Ok(())
}

/// A nest per part: each is a slice, and merges with the consumers of its part alone.
pub(super) fn split(cx: &mut Context<'_, '_>, axis: usize, sizes: &[usize]) -> Result<()> {
    let x = cx.operand(0)?;
    let mut offset = 0i64;
    for (part, size) in sizes.iter().enumerate() {
        if let Some(y) = cx.result_if_used(part)? {
            let mut b = cx.nest(&part.to_string());
            b.for_each("i", &y.shape, |b, i| {
                let mut at = affine(i);
                at[axis] = at[axis].plus(offset);
                y.store(b, i, x.at(at));
            });
            b.finish();
        }
        offset += *size as i64;
    }
    Ok(())
}

pub(super) fn gather(cx: &mut Context<'_, '_>, axis: usize) -> Result<()> {
    // Indices are checked at run time against the dimension: the data must be a buffer.
    let (data, indices) = (cx.array(0)?, cx.operand(1)?);
    let y = cx.result()?;
    let extent = data.shape[axis] as i64;
    let site = cx.site(CheckKind::IndexFromEnd, cx.operand_name(1));
    let known = known_indices(cx, extent)?;
    let (least, most) = cx.limits(1);
    // A byte that counts elements says itself that it is inside.
    let inside = least >= 0 && most < extent && indices.dtype() != DType::U8;
    let count = indices.shape().len();
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let mut at: Vec<Index> = i[..axis].iter().map(|v| Affine::var(*v).into()).collect();
        let which = affine(&i[axis..axis + count]);
        at.push(match &known {
            Some(known) => known.at(&which, extent),
            None if inside => cut(wide(indices.at(&which), indices.dtype()), extent),
            None => gather_index(&indices, &which, extent, &site),
        });
        at.extend(i[axis + count..].iter().map(|v| Index::from(Affine::var(*v))));
        y.store(b, i, data.at(at));
    });
    b.finish();
    Ok(())
}

/// Constant indices, which are inside.
enum Known {
    /// So many at first, and so many more along each dimension.
    Steps(i64, Vec<i64>),
    /// Counted from the start, as `i32`.
    Table(Array),
}

impl Known {
    /// The index that is at a position.
    fn at(&self, position: &[Affine], extent: i64) -> Index {
        match self {
            Known::Steps(first, steps) => {
                let mut sum = Affine::constant(*first);
                for (i, step) in position.iter().zip(steps) {
                    sum.add_scaled(i, *step);
                }
                sum.into()
            }
            Known::Table(table) => cut(table.at(position).cast(DType::I64), extent),
        }
    }
}

/// An index of a type as `i64`.
fn wide(index: Expr, dtype: DType) -> Expr {
    if dtype == DType::I64 { index } else { index.cast(DType::I64) }
}

/// An index that is inside, cut to the limits that it keeps, which says so to whoever reads it.
fn cut(index: Expr, extent: i64) -> Index {
    index.max(Expr::i64(0)).min(Expr::i64(extent - 1)).into()
}

/// The indices of a gather, if they are constants inside the dimension; those that are not are an error of the run.
fn known_indices(cx: &mut Context<'_, '_>, extent: i64) -> Result<Option<Known>> {
    let Some(data) = cx.data(1) else { return Ok(None) };
    let Some(mut from_start) = data.indices()? else { return Ok(None) };
    from_start.iter_mut().filter(|i| **i < 0).for_each(|i| *i = i.saturating_add(extent));
    if !from_start.iter().all(|i| (0..extent).contains(i)) {
        return Ok(None);
    }
    let shape = data.shape();
    if let Some(steps) = steps(&from_start, shape) {
        return Ok(Some(Known::Steps(from_start.first().copied().unwrap_or(0), steps)));
    }
    let narrow: std::result::Result<Vec<i32>, _> = from_start.iter().map(|i| i32::try_from(*i)).collect();
    let Ok(narrow) = narrow else { return Ok(None) };
    let table = cx.constant("indices", Tensor::new(shape, &narrow)?)?;
    Ok(Some(Known::Table(table)))
}

/// How much values grow along each dimension, if that is the same everywhere.
fn steps(values: &[i64], shape: &[usize]) -> Option<Vec<i64>> {
    let first = values.first()?;
    let mut steps = vec![0; shape.len()];
    let mut distance = 1;
    for d in (0..shape.len()).rev() {
        if shape[d] > 1 {
            steps[d] = values[distance] - first;
        }
        distance *= shape[d];
    }
    let regular = values.iter().enumerate().all(|(at, value)| {
        let (mut rest, mut expected) = (at, *first);
        for (d, step) in steps.iter().enumerate().rev() {
            expected += (rest % shape[d]) as i64 * step;
            rest /= shape[d];
        }
        *value == expected
    });
    regular.then_some(steps)
}

/// Two groups of loops: what stays, and then rows one after the other, for several may go to the same place.
pub(super) fn scatter(cx: &mut Context<'_, '_>, reduction: Option<Reduction>) -> Result<()> {
    let (x, indices, updates) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    let y = cx.result()?;
    let extent = y.shape[0] as i64;
    let site = cx.site(CheckKind::IndexFromEnd, cx.operand_name(1));
    let op = match reduction {
        None => None,
        Some(Reduction::Sum) => Some(ReduceOp::Add),
        Some(Reduction::Prod) => Some(ReduceOp::Mul),
        Some(Reduction::Max) => Some(ReduceOp::Max),
        Some(_) => Some(ReduceOp::Min),
    };
    // What is combined step by step is not rounded to a half in each of them.
    let wide = y.is_rounded();
    let to = if wide { cx.temp("sum", y.dtype, &y.shape)? } else { y.clone() };
    let mut b = cx.nest("");
    b.for_each("i", &to.shape, |b, i| to.store(b, i, x.at(i)));
    b.for_each("u", updates.shape(), |b, i| {
        let at = [gather_index(&indices, &affine(&i[..1]), extent, &site), Affine::var(i[1]).into()];
        match op {
            None => to.store(b, at, updates.at(i)),
            Some(op) => b.reduce(op, to.buf, at, updates.at(i)),
        }
    });
    if wide {
        b.for_each("i", &y.shape, |b, i| y.store(b, i, to.at(i)));
    }
    b.finish();
    Ok(())
}

/// The index that is meant: negative ones count from the end.
fn gather_index(indices: &Operand, at: &[Affine], extent: i64, site: &Arc<Site>) -> Index {
    if let Operand::Literal(value, _) = indices {
        let index = value.as_f64() as i64;
        let wrapped = if index < 0 { index.saturating_add(extent) } else { index };
        // Whatever is outside stays an error of the run.
        return match (0..extent).contains(&wrapped) {
            true => Affine::constant(wrapped).into(),
            false => Expr::i64(wrapped).checked(0, extent, site).into(),
        };
    }
    if indices.dtype() == DType::U8 {
        // Inference has seen that it is inside.
        return indices.at(at).cast(DType::I64).into();
    }
    from_start(wide(indices.at(at), indices.dtype()), extent).checked(0, extent, site).into()
}
