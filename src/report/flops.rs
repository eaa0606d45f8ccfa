//! How much arithmetic a program does.

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{BinOp, Expr, Nest, Program, ReduceOp, Stmt};

/// The floating-point operations of one run: one for each arithmetic operation on floats, so two for each
/// multiply-accumulate; a function such as `exp` counts as one. Comparisons, selections, conversions and
/// index arithmetic do not count.
pub fn count(program: &Program) -> f64 {
    program.nests.iter().map(|nest| count_nest(program, nest)).sum()
}

/// Like [`count`], of one nest of the program.
pub fn count_nest(program: &Program, nest: &Nest) -> f64 {
    block(program, &nest.body)
}

/// The multiply-accumulates of one nest: products of floats that are summed up.
pub fn count_macs(program: &Program, nest: &Nest) -> f64 {
    macs(program, &nest.body)
}

fn macs(program: &Program, body: &[Stmt]) -> f64 {
    body.iter()
        .map(|stmt| match stmt {
            Stmt::For(l) => l.extent as f64 * macs(program, &l.body),
            Stmt::Reduce(r) if r.op == ReduceOp::Add && program.buf(r.buf).dtype.is_float() => {
                f64::from(u8::from(matches!(r.value, Expr::Binary(BinOp::Mul, ..))))
            }
            Stmt::Reduce(_) | Stmt::Store(_) | Stmt::Temp(_) | Stmt::Call(_) => 0.0,
        })
        .sum()
}

// Counts are `f64`: a product of extents may exceed any integer, and three digits are shown.
fn block(program: &Program, body: &[Stmt]) -> f64 {
    body.iter()
        .map(|stmt| match stmt {
            Stmt::For(l) => l.extent as f64 * block(program, &l.body),
            Stmt::Store(s) => value(program, &s.value),
            Stmt::Reduce(r) => {
                let combine = if program.buf(r.buf).dtype.is_float() { 1.0 } else { 0.0 };
                value(program, &r.value) + combine
            }
            Stmt::Temp(_) | Stmt::Call(_) => 0.0,
        })
        .sum()
}

fn value(program: &Program, expr: &Expr) -> f64 {
    let mut operations = 0.0;
    walk_expr(expr, &mut |e| {
        // Comparisons and logic yield `bool` or integers, so the type alone decides.
        if matches!(e, Expr::Unary(..) | Expr::Binary(..)) && e.dtype(program).is_float() {
            operations += 1.0;
        }
    });
    operations
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, DType, NestBuilder, ReduceOp, Role, SCALAR};

    use super::*;

    #[test]
    fn a_multiply_accumulate_is_two_operations() {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[4, 8], Role::In));
        let w = p.add_buffer(Buffer::new("w", DType::F32, &[8, 16], Role::Const));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4, 16], Role::Out));
        let mut b = NestBuilder::new(&mut p, "dense");
        b.for_("n", 4, |b, n| {
            b.for_("m", 16, |b, m| {
                let t = b.temp("t", DType::F32, &[]);
                b.store(t, SCALAR, Expr::f32(0.0));
                b.for_("k", 8, |b, k| {
                    b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [n, k]) * Expr::load(w, [k, m]));
                });
                b.store(y, [n, m], Expr::load(t, SCALAR).relu());
            });
        });
        b.finish();
        // `relu` is one maximum.
        assert_eq!(count(&p), f64::from(4 * 16 * (8 * 2 + 1)));
        assert_eq!(count_macs(&p, &p.nests[0]), f64::from(4 * 16 * 8));
    }
}
