//! Probabilities of classes from those of pairs: an iteration in a nest of its own.

use nestjit_ir::{Affine, Expr, ReduceOp, SCALAR, UnOp};

use super::context::{Context, accumulate};
use crate::error::Result;
use crate::graph::COUPLING_STEPS;

/// A nest with a serial loop over steps, of which those after the end change nothing.
pub(super) fn pairwise_coupling(cx: &mut Context<'_, '_>) -> Result<()> {
    let r = cx.array(0)?;
    let y = cx.result()?;
    let (dtype, samples, classes) = (y.dtype, y.shape[0], y.shape[1]);
    let names = ["q", "p", "qp", "pqp", "error", "step", "acc"].map(|part| cx.name(part));
    let number = |value: f64| Expr::literal(dtype, value);
    let each = [("j".to_owned(), classes)];
    let mut b = cx.nest("");
    b.for_("n", samples, |b, n| {
        let [q_name, p_name, qp_name, pqp_name, error_name, step_name, acc_name] = &names;
        let q = b.temp(q_name, dtype, &[classes, classes]);
        let p = b.temp(p_name, dtype, &[classes]);
        let qp = b.temp(qp_name, dtype, &[classes]);
        let at = |i, j| Expr::load(q, [i, j]);
        b.for_("i", classes, |b, i| {
            let sum = accumulate(b, acc_name, ReduceOp::Add, dtype, &each, |j| {
                let other = r.at([n, j[0], i]);
                let same = Expr::index(i).equals(Expr::index(j[0]));
                same.select(number(0.0), other.clone() * other)
            });
            b.for_("j", classes, |b, j| {
                b.store(q, [i, j], (r.at([n, j, i]) * r.at([n, i, j])).unary(UnOp::Neg));
            });
            b.store(q, [i, i], sum);
            b.store(p, [i], number(1.0 / classes as f64));
        });
        b.for_("step", COUPLING_STEPS, |b, _| {
            let pqp = b.temp(pqp_name, dtype, &[]);
            b.store(pqp, SCALAR, number(0.0));
            b.for_("i", classes, |b, i| {
                let sum = accumulate(b, acc_name, ReduceOp::Add, dtype, &each, |j| {
                    at(Affine::var(i), Affine::var(j[0])) * Expr::load(p, [j[0]])
                });
                b.store(qp, [i], sum);
                b.reduce(ReduceOp::Add, pqp, SCALAR, Expr::load(p, [i]) * Expr::load(qp, [i]));
            });
            let error = accumulate(b, error_name, ReduceOp::Max, dtype, &each, |j| {
                (Expr::load(qp, [j[0]]) - Expr::load(pqp, SCALAR)).unary(UnOp::Abs)
            });
            let done = error.lt(number(0.005 / classes as f64));
            b.for_("i", classes, |b, i| {
                let step = b.temp(step_name, dtype, &[]);
                let diagonal = || at(Affine::var(i), Affine::var(i));
                let pqp_now = || Expr::load(pqp, SCALAR);
                let change = (pqp_now() - Expr::load(qp, [i])) / diagonal();
                b.store(step, SCALAR, done.clone().select(number(0.0), change));
                let step = || Expr::load(step, SCALAR);
                let grown = || number(1.0) + step();
                b.store(p, [i], Expr::load(p, [i]) + step());
                let moved = step() * (step() * diagonal() + number(2.0) * Expr::load(qp, [i]));
                b.store(pqp, SCALAR, (pqp_now() + moved) / grown() / grown());
                b.for_("j", classes, |b, j| {
                    let row = at(Affine::var(i), Affine::var(j));
                    b.store(qp, [j], (Expr::load(qp, [j]) + step() * row) / grown());
                    b.store(p, [j], Expr::load(p, [j]) / grown());
                });
            });
        });
        b.for_("j", classes, |b, j| y.store(b, [n, j], Expr::load(p, [j])));
    });
    b.finish();
    Ok(())
}
