//! Sums of integers start with what is added to them: `t = 0; for k { t += .. }; y = f(t + b)` becomes `t = b; ..; y = f(t)`.
//!
//! Integers wrap, so that the order of additions does not matter. The epilogue of a tile then has an addition less for each
//! of its registers, which had to be set to zero anyway.

use nestjit_ir::visit::{walk_expr, walk_expr_mut, walk_exprs, walk_stmts};
use nestjit_ir::{BinOp, BufId, Expr, Kind, Program, ReduceOp, Role, Stmt};

/// Rewrites the sums of a nest; whether there were any.
pub(super) fn start(program: &Program, body: &mut [Stmt]) -> bool {
    let mut changed = false;
    for stmt in body.iter_mut() {
        if let Stmt::For(l) = stmt {
            changed |= start(program, &mut l.body);
        }
    }
    for at in 0..body.len() {
        let Stmt::Store(s) = &body[at] else { continue };
        let buffer = program.buf(s.buf);
        let integer = match buffer.dtype.kind() {
            Kind::Signed | Kind::Unsigned => true,
            Kind::Float | Kind::Bool => false,
        };
        let from_zero = s.value.as_const().is_some_and(|v| v.as_f64() == 0.0);
        let sum = s.buf;
        if !integer || !from_zero || buffer.role != Role::Local || !buffer.shape.is_empty() {
            continue;
        }
        let Some(addend) = addend(program, body, at, sum) else { continue };
        if let Stmt::Store(s) = &mut body[at] {
            s.value = addend.clone();
        }
        for stmt in &mut body[at + 1..] {
            if let Stmt::Store(s) = stmt {
                without(&mut s.value, sum, &addend);
            }
        }
        changed = true;
    }
    changed
}

/// What is added to a sum wherever it is read, if that is known when the sum starts.
fn addend(program: &Program, block: &[Stmt], at: usize, sum: BufId) -> Option<Expr> {
    // It starts once, then loops add to it, then the stores of the block read it.
    let (mut starts, mut only_sums) = (0, true);
    walk_stmts(block, &mut |s| match s {
        Stmt::Store(s) => starts += usize::from(s.buf == sum),
        Stmt::Reduce(r) => only_sums &= r.buf != sum || r.op == ReduceOp::Add,
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
    let declared = block[..at].iter().any(|s| matches!(s, Stmt::Temp(b) if *b == sum));
    let reads = |stmts: &[Stmt]| {
        let mut count = 0;
        walk_exprs(stmts, &mut |e| count += usize::from(is_load(e, sum)));
        count
    };
    let mut found: Option<Expr> = None;
    let mut agree = 0;
    for stmt in block {
        let Stmt::Store(s) = stmt else { continue };
        walk_expr(&s.value, &mut |e| {
            let other = match e {
                Expr::Binary(BinOp::Add, a, b) if is_load(a, sum) => b,
                Expr::Binary(BinOp::Add, a, b) if is_load(b, sum) => a,
                _ => return,
            };
            let known = match &**other {
                Expr::Load(l) => program.buf(l.buf).role == Role::Const && l.otherwise.is_none(),
                Expr::Const(_) => true,
                _ => false,
            };
            if known && found.as_ref().is_none_or(|f| f == &**other) {
                found = Some((**other).clone());
                agree += 1;
            }
        });
    }
    (starts == 1 && declared && only_sums && agree == reads(block)).then_some(found).flatten()
}

fn is_load(e: &Expr, buf: BufId) -> bool {
    matches!(e, Expr::Load(l) if l.buf == buf)
}

/// Takes an addend away from a sum wherever it is read.
fn without(e: &mut Expr, sum: BufId, addend: &Expr) {
    walk_expr_mut(e, &mut |e| {
        if let Expr::Binary(BinOp::Add, a, b) = e {
            let rest = match () {
                () if is_load(a, sum) && **b == *addend => a,
                () if is_load(b, sum) && **a == *addend => b,
                () => return,
            };
            *e = (**rest).clone();
        }
    });
}
