//! Sums of products: loops around a single `%t[..] += %a[..] * %b[..]`, where most of the time is spent.
//!
//! Does exactly what the general way does, in the same order, without a closure per operation. An operand may
//! be padded (`else` a literal).

#[cfg(test)]
mod tests;

use super::scalar::Element;
use super::value::Stored;
use crate::affine::{Affine, Var};
use crate::nest::{BufId, Expr, For, Index, Load, Stmt};
use crate::ops::{BinOp, ReduceOp};

use super::resolve::{Resolver, State, Sum};

/// A sum of products that [`Dot::new`] has recognised.
pub(super) struct Dot<T> {
    pub target: usize,
    /// Where the sum is, and how far that moves per iteration of the innermost loop.
    pub at: Sum,
    pub step: i64,
    pub a: Operand<T>,
    pub b: Operand<T>,
    /// The variables and extents of the loops, outermost first, without the innermost one.
    outer: Vec<(usize, i64)>,
    pub innermost: (usize, i64),
}

pub(super) struct Operand<T> {
    pub buf: usize,
    offset: Sum,
    /// What `offset` grows by per iteration of the innermost loop.
    step: i64,
    /// The indices that may leave the buffer: value, growth per iteration, extent.
    checks: Vec<(Sum, i64, i64)>,
    /// What is read then.
    pub otherwise: T,
}

/// Where an operand is in the iterations of the innermost loop.
pub(super) struct Row {
    inside: std::ops::Range<i64>,
    offset: i64,
    step: i64,
}

impl Row {
    /// The iterations in which the operand is inside its buffer.
    pub(super) fn inside(&self) -> std::ops::Range<i64> {
        self.inside.clone()
    }

    /// How far it moves from one iteration to the next.
    pub(super) fn step(&self) -> i64 {
        self.step
    }

    /// The offset in iteration `i`, or `None` outside the buffer. What no buffer has is an offset out of its bounds.
    pub(super) fn at(&self, i: i64) -> Option<usize> {
        let offset = || self.offset.wrapping_add(i.wrapping_mul(self.step));
        self.inside.contains(&i).then(|| usize::try_from(offset()).unwrap_or(usize::MAX))
    }
}

impl<T: Stored + std::ops::Add<Output = T> + std::ops::Mul<Output = T>> Dot<T> {
    /// The loop as a sum of products, if it is one of type `T`.
    pub(super) fn new(r: &Resolver<'_>, l: &For) -> Option<Dot<T>> {
        let mut loops = vec![l];
        let reduce = loop {
            match loops.last()?.body.as_slice() {
                [Stmt::For(l)] => loops.push(l),
                [Stmt::Reduce(reduce)] => break reduce,
                _ => return None,
            }
        };
        let Expr::Binary(BinOp::Mul, a, b) = &reduce.value else { return None };
        let (Expr::Load(a), Expr::Load(b)) = (&**a, &**b) else { return None };
        let held = |b: BufId| r.program.buffers.get(b.0 as usize).map(|b| r.mode.held(b.dtype));
        let typed = [reduce.buf, a.buf, b.buf].iter().all(|&b| held(b) == Some(T::DTYPE));
        if reduce.op != ReduceOp::Add || !typed || reduce.buf == a.buf || reduce.buf == b.buf {
            return None;
        }
        let at = r.inside(r.program.buf(reduce.buf), &reduce.index)?;
        let mut loops: Vec<(Var, i64)> = loops.iter().map(|l| (l.var, l.extent as i64)).collect();
        let (k, extent) = loops.pop()?;
        Some(Dot {
            target: reduce.buf.0 as usize,
            step: at.coeff(k),
            at: r.sum(&at).ok()?,
            a: Operand::new(r, a, k)?,
            b: Operand::new(r, b, k)?,
            outer: loops.into_iter().map(|(v, n)| (v.0 as usize, n)).collect(),
            innermost: (k.0 as usize, extent),
        })
    }

    /// Runs the loops; `None` if an access leaves its buffer after all.
    pub(super) fn run(&self, state: &mut State) -> Option<()> {
        // The target is neither operand, so it can be taken out while they are read.
        let nothing = T::data(Vec::new());
        let mut target = std::mem::replace(&mut state.bufs[self.target].data, nothing);
        let done = T::slice_mut(&mut target).and_then(|target| self.iterate(state, target));
        state.bufs[self.target].data = target;
        done
    }

    fn iterate(&self, state: &mut State, target: &mut [T]) -> Option<()> {
        let State { vars, bufs } = state;
        let a = T::slice(&bufs[self.a.buf].data)?;
        let b = T::slice(&bufs[self.b.buf].data)?;
        self.outer_iterations(vars, |vars| self.inner(vars, a, b, target))
    }

    /// The iterations of all loops but the innermost one, in order.
    pub(super) fn outer_iterations(
        &self,
        vars: &mut [i64],
        mut inner: impl FnMut(&mut [i64]) -> Option<()>,
    ) -> Option<()> {
        if self.innermost.1 == 0 || self.outer.iter().any(|&(_, n)| n == 0) {
            return Some(());
        }
        self.outer.iter().for_each(|&(v, _)| vars[v] = 0);
        loop {
            inner(vars)?;
            // The next iteration of the outer loops, the last one fastest.
            let Some(&(v, _)) = self.outer.iter().rev().find(|&&(v, n)| vars[v] + 1 < n) else {
                return Some(());
            };
            vars[v] += 1;
            self.outer.iter().rev().take_while(|&&(w, _)| w != v).for_each(|&(w, _)| vars[w] = 0);
        }
    }

    fn inner(&self, vars: &mut [i64], a: &[T], b: &[T], target: &mut [T]) -> Option<()> {
        let (k, n) = self.innermost;
        vars[k] = 0;
        let at = self.at.eval(vars);
        let (row_a, row_b) = (self.a.row(vars, n), self.b.row(vars, n));
        let product = |i: i64| {
            let x = row_a.at(i).map_or(Some(&self.a.otherwise), |at| a.get(at))?;
            let y = row_b.at(i).map_or(Some(&self.b.otherwise), |at| b.get(at))?;
            Some(*x * *y)
        };
        let place = |i: i64| usize::try_from(at.wrapping_add(i.wrapping_mul(self.step))).ok();
        if self.step == 0 {
            let place = target.get_mut(place(0)?)?;
            let mut sum = *place;
            for i in 0..n {
                sum = sum + product(i)?;
            }
            *place = sum;
        } else {
            for i in 0..n {
                let sum = target.get_mut(place(i)?)?;
                *sum = *sum + product(i)?;
            }
        }
        Some(())
    }
}

impl<T: Element> Operand<T> {
    fn new(r: &Resolver<'_>, load: &Load, k: Var) -> Option<Operand<T>> {
        let buffer = r.program.buf(load.buf);
        let index: Vec<&Affine> = load.index.iter().map(Index::as_affine).collect::<Option<_>>()?;
        if index.len() != buffer.shape.len() {
            return None;
        }
        let mut offset = Affine::constant(0);
        let mut checks = Vec::new();
        for (i, &extent) in index.into_iter().zip(&buffer.shape) {
            let extent = i64::try_from(extent).ok()?;
            let (lo, hi) = r.extents.range(i)?;
            if lo < 0 || hi >= extent {
                checks.push((r.sum(i).ok()?, i.coeff(k), extent));
            }
            offset = Affine::add(&offset.scale(extent), i);
        }
        let otherwise = match load.otherwise.as_deref() {
            Some(Expr::Const(s)) => T::cast_from(*s),
            Some(_) => return None,
            None if checks.is_empty() => T::POISON,
            None => return None,
        };
        let step = offset.coeff(k);
        Some(Operand { buf: load.buf.0 as usize, offset: r.sum(&offset).ok()?, step, checks, otherwise })
    }

    /// Where the operand is in the iterations `0..n` of the innermost loop, whose variable is 0 now.
    pub(super) fn row(&self, vars: &[i64], n: i64) -> Row {
        Row { inside: self.inside(vars, n), offset: self.offset.eval(vars), step: self.step }
    }

    /// The iterations `0..n` of the innermost loop in which every index is inside; its variable is 0 now.
    fn inside(&self, vars: &[i64], n: i64) -> std::ops::Range<i64> {
        let mut range = 0..n;
        for (sum, step, extent) in &self.checks {
            let first = sum.eval(vars);
            // first + i * step must lie in 0..extent.
            let valid = match step.signum() {
                0 if (0..*extent).contains(&first) => continue,
                0 => 0..0,
                1 => ceil_div(-first, *step)..ceil_div(extent - first, *step),
                _ => ceil_div(first - (extent - 1), -step)..first.div_euclid(-step) + 1,
            };
            range = range.start.max(valid.start)..range.end.min(valid.end);
        }
        range
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}
