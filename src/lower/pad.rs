//! Padding. A constant border is an access with `otherwise`; any other is a group of loops per part of the result,
//! each with affine indices.

use nestjit_ir::{Affine, Expr, Scalar, Var};

use super::context::Context;
use crate::error::Result;
use crate::graph::PadMode;

pub(super) fn pad(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], mode: PadMode) -> Result<()> {
    match mode {
        PadMode::Constant(value) => constant(cx, begin, end, value),
        _ => parts(cx, begin, end, mode),
    }
}

fn constant(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], value: f64) -> Result<()> {
    let x = cx.array(0)?;
    let y = cx.result()?;
    let border = begin.iter().chain(end).any(|p| *p > 0);
    let outside = Expr::Const(Scalar::from_f64(x.dtype, value));
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let at = i.iter().zip(begin).map(|(i, begin)| *i - *begin);
        let value = if border { Expr::load_or(x.buf, at, outside) } else { x.at(at) };
        b.store(y.buf, i, value);
    });
    b.finish();
    Ok(())
}

/// A stretch of one dimension of the result whose elements come from affine places.
#[derive(Clone, Copy)]
struct Part {
    /// Where the stretch begins in the result, and how long it is.
    offset: i64,
    extent: usize,
    /// Element `i` of the stretch is element `first + i * step` of the operand.
    first: i64,
    step: i64,
}

impl Part {
    fn result_index(&self, var: Var) -> Affine {
        var + self.offset
    }

    fn operand_index(&self, var: Var) -> Affine {
        var * self.step + self.first
    }
}

/// The parts of one dimension: border, what is kept, border. Inference has seen to it that borders are not
/// wider than what they are made of.
fn parts_of(extent: usize, begin: i64, end: i64, mode: PadMode) -> Vec<Part> {
    let first = (-begin).max(0);
    let kept = extent as i64 + begin.min(0) + end.min(0);
    let (before, after) = (begin.max(0), end.max(0));
    let last = first + kept - 1;
    let (from_before, from_after, step) = match mode {
        PadMode::Reflect => (first + before, last - 1, -1),
        PadMode::Wrap => (first + kept - before, first, 1),
        PadMode::Edge | PadMode::Constant(_) => (first, last, 0),
    };
    let parts = [
        Part { offset: 0, extent: before as usize, first: from_before, step },
        Part { offset: before, extent: kept as usize, first, step: 1 },
        Part { offset: before + kept, extent: after as usize, first: from_after, step },
    ];
    parts.into_iter().filter(|p| p.extent > 0).collect()
}

fn parts(cx: &mut Context<'_, '_>, begin: &[i64], end: &[i64], mode: PadMode) -> Result<()> {
    let x = cx.operand(0)?;
    let y = cx.result()?;
    let mut combinations: Vec<Vec<Part>> = vec![Vec::new()];
    for (d, extent) in x.shape().iter().enumerate() {
        let parts = parts_of(*extent, begin[d], end[d], mode);
        let extend = |c: &Vec<Part>| {
            let c = c.clone();
            parts.iter().map(move |p| [c.as_slice(), &[*p]].concat()).collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(extend).collect();
    }
    let mut b = cx.nest("");
    for parts in &combinations {
        let extents: Vec<usize> = parts.iter().map(|p| p.extent).collect();
        b.for_each("i", &extents, |b, i| {
            let to = i.iter().zip(parts).map(|(i, p)| p.result_index(*i));
            let from = i.iter().zip(parts).map(|(i, p)| p.operand_index(*i));
            b.store(y.buf, to, x.at(from));
        });
    }
    b.finish();
    Ok(())
}
