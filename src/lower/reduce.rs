//! Reductions over any dimensions, and the position of an extremum along one.

use nestjit_ir::{Affine, BinOp, DType, Expr, NestBuilder, ReduceOp, Scalar, UnOp, Var};

use super::context::{Context, Loop, accumulate, loops};
use super::operand::{Array, Operand, affine};
use crate::error::Result;
use crate::graph::Reduction;

/// The operand, the dimensions reduced, and where results go.
struct Reduced {
    x: Operand,
    axes: Vec<usize>,
    keep_dims: bool,
}

impl Reduced {
    fn extent(&self) -> f64 {
        self.axes.iter().map(|d| self.x.shape()[*d] as f64).product()
    }

    fn outer_dims(&self) -> impl Iterator<Item = usize> {
        (0..self.x.shape().len()).filter(|d| !self.axes.contains(d))
    }

    fn outer_loops(&self) -> Vec<Loop> {
        self.outer_dims().map(|d| (format!("i{d}"), self.x.shape()[d])).collect()
    }

    fn inner_loops(&self) -> Vec<Loop> {
        self.axes.iter().map(|d| (format!("k{d}"), self.x.shape()[*d])).collect()
    }

    /// The shape of what remains, without the reduced dimensions.
    fn outer_shape(&self) -> Vec<usize> {
        self.outer_dims().map(|d| self.x.shape()[d]).collect()
    }

    /// The operand's element.
    fn element(&self, outer: &[Var], inner: &[Var]) -> Expr {
        let (mut outer, mut inner) = (outer.iter(), inner.iter());
        let at = (0..self.x.shape().len())
            .map(|d| if self.axes.contains(&d) { inner.next() } else { outer.next() })
            .map(|v| v.map_or(Affine::constant(0), |v| Affine::var(*v)));
        self.x.at(at)
    }

    /// The index into the result.
    fn result_index(&self, outer: &[Var]) -> Vec<Affine> {
        let mut index = affine(outer);
        if self.keep_dims {
            // Ascending, so that each insertion finds its place.
            for axis in &self.axes {
                index.insert(*axis, Affine::constant(0));
            }
        }
        index
    }

    /// A nest that combines `value` of every element and stores `last` of the result.
    #[expect(clippy::too_many_arguments, reason = "one call per step, each differs in all of them")]
    fn nest(
        &self,
        b: NestBuilder<'_>,
        acc: &str,
        op: ReduceOp,
        to: &Array,
        index: impl FnOnce(&[Var]) -> Vec<Affine>,
        value: impl FnOnce(&[Var], &[Var]) -> Expr,
        last: impl FnOnce(Expr, &[Var]) -> Expr,
    ) {
        let mut b = b;
        loops(&mut b, &self.outer_loops(), |b, outer| {
            let total = accumulate(b, acc, op, to.dtype, &self.inner_loops(), |inner| value(outer, inner));
            to.store(b, index(outer), last(total, outer));
        });
        b.finish();
    }
}

pub(super) fn reduce(cx: &mut Context<'_, '_>, op: Reduction, axes: &[usize], keep_dims: bool) -> Result<()> {
    let reduced = Reduced { x: cx.operand(0)?, axes: axes.to_vec(), keep_dims };
    if op == Reduction::LogSumExp {
        return log_sum_exp(cx, &reduced);
    }
    let y = cx.result()?;
    let dtype = y.dtype;
    let combine = match op {
        Reduction::Max => ReduceOp::Max,
        Reduction::Min => ReduceOp::Min,
        Reduction::Prod | Reduction::All => ReduceOp::Mul,
        _ => ReduceOp::Add,
    };
    let acc = cx.name("acc");
    let value = |outer: &[Var], inner: &[Var]| {
        let x = reduced.element(outer, inner);
        match op {
            Reduction::L1 => x.unary(UnOp::Abs),
            Reduction::L2 | Reduction::SumSquare => x.clone() * x,
            _ => x,
        }
    };
    let last = |total: Expr, _: &[Var]| match op {
        Reduction::Mean => total / Expr::literal(dtype, reduced.extent()),
        Reduction::L2 => total.sqrt(),
        Reduction::LogSum => total.unary(UnOp::Log),
        _ => total,
    };
    reduced.nest(cx.nest(""), &acc, combine, &y, |outer| reduced.result_index(outer), value, last);
    Ok(())
}

fn log_sum_exp(cx: &mut Context<'_, '_>, reduced: &Reduced) -> Result<()> {
    let y = cx.result()?;
    let max = cx.temp("max", y.dtype, &reduced.outer_shape())?;
    let (max_acc, acc) = (cx.name("max_acc"), cx.name("acc"));
    // An infinite maximum must not be subtracted: inf - inf is not a number. Without it the sum says the same.
    let finite =
        |max: Expr, _: &[Var]| max.clone().unary(UnOp::IsInf).select(Scalar::zero(y.dtype).into(), max);
    let element = |outer: &[Var], inner: &[Var]| reduced.element(outer, inner);
    reduced.nest(cx.nest("max"), &max_acc, ReduceOp::Max, &max, affine, element, finite);
    reduced.nest(
        cx.nest(""),
        &acc,
        ReduceOp::Add,
        &y,
        |outer| reduced.result_index(outer),
        |outer, inner| (reduced.element(outer, inner) - max.at(outer)).exp(),
        |total, outer| total.unary(UnOp::Log) + max.at(outer),
    );
    Ok(())
}

/// Two steps: the extremum, and the first (or last) position that has it.
pub(super) fn arg_reduce(
    cx: &mut Context<'_, '_>,
    max: bool,
    axis: usize,
    keep_dims: bool,
    last: bool,
) -> Result<()> {
    let reduced = Reduced { x: cx.operand(0)?, axes: vec![axis], keep_dims };
    let dtype = reduced.x.dtype();
    let (part, op) = if max { ("max", ReduceOp::Max) } else { ("min", ReduceOp::Min) };
    let y = cx.result()?;
    let extremum = cx.temp(part, dtype, &reduced.outer_shape())?;
    let (value_acc, index_acc) = (cx.name(&format!("{part}_acc")), cx.name("acc"));
    let element = |outer: &[Var], inner: &[Var]| reduced.element(outer, inner);
    reduced.nest(cx.nest(part), &value_acc, op, &extremum, affine, element, |total, _| total);

    let op = if last { ReduceOp::Max } else { ReduceOp::Min };
    let nowhere = op.identity(DType::I64);
    reduced.nest(
        cx.nest(""),
        &index_acc,
        op,
        &y,
        |outer| reduced.result_index(outer),
        |outer, inner| {
            let x = reduced.element(outer, inner);
            let mut here = x.clone().equals(extremum.at(outer));
            if dtype.is_float() {
                // If there is a NaN then it is the extremum, and equal to nothing.
                here = here.binary(BinOp::Or, x.unary(UnOp::IsNan));
            }
            here.select(Expr::index(inner[0]), nowhere.into())
        },
        |total, _| total,
    );
    Ok(())
}
