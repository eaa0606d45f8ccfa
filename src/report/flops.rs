//! How much arithmetic a program does.

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{BinOp, DType, Expr, Nest, Program, ReduceOp, Stmt};

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

/// The multiply-accumulates of one nest: products of numbers of any type that are summed up.
pub fn count_macs(program: &Program, nest: &Nest) -> f64 {
    macs(program, &nest.body, &|_| true)
}

/// The multiply-accumulates of one run whose sums have one of these types.
pub fn count_macs_of(program: &Program, types: impl Fn(DType) -> bool) -> f64 {
    program.nests.iter().map(|nest| macs(program, &nest.body, &types)).sum()
}

fn macs(program: &Program, body: &[Stmt], types: &dyn Fn(DType) -> bool) -> f64 {
    body.iter()
        .map(|stmt| match stmt {
            Stmt::For(l) => l.extent as f64 * macs(program, &l.body, types),
            Stmt::Reduce(r) if r.op == ReduceOp::Add && types(program.buf(r.buf).dtype) => {
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
    use nestjit_ir::{Buffer, NestBuilder, Role, SCALAR, Scalar};

    use super::*;

    /// A matrix product of 4 x 8 and 8 x 16 with a maximum behind it: operands and sum of these types.
    fn dense(of: DType, sum: DType) -> Program {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", of, &[4, 8], Role::In));
        let w = p.add_buffer(Buffer::new("w", of, &[8, 16], Role::Const));
        let y = p.add_buffer(Buffer::new("y", sum, &[4, 16], Role::Out));
        let mut b = NestBuilder::new(&mut p, "dense");
        b.for_("n", 4, |b, n| {
            b.for_("m", 16, |b, m| {
                let t = b.temp("t", sum, &[]);
                let zero = || Expr::Const(Scalar::zero(sum));
                b.store(t, SCALAR, zero());
                b.for_("k", 8, |b, k| {
                    let (x, w) = (Expr::load(x, [n, k]).cast(sum), Expr::load(w, [k, m]).cast(sum));
                    b.reduce(ReduceOp::Add, t, SCALAR, x * w);
                });
                b.store(y, [n, m], Expr::load(t, SCALAR).max(zero()));
            });
        });
        b.finish();
        p
    }

    #[test]
    fn a_multiply_accumulate_is_two_operations() {
        let p = dense(DType::F32, DType::F32);
        assert_eq!(count(&p), f64::from(4 * 16 * (8 * 2 + 1)));
        assert_eq!(count_macs(&p, &p.nests[0]), f64::from(4 * 16 * 8));
        assert_eq!(count_macs_of(&p, DType::is_int), 0.0);
    }

    #[test]
    fn multiply_accumulates_of_integers_count_and_are_no_floating_point_operations() {
        for (of, sum) in [(DType::U8, DType::I32), (DType::I64, DType::I64), (DType::I16, DType::I64)] {
            let p = dense(of, sum);
            assert_eq!(count(&p), 0.0, "{of} {sum}");
            assert_eq!(count_macs(&p, &p.nests[0]), f64::from(4 * 16 * 8), "{of} {sum}");
            assert_eq!(count_macs_of(&p, DType::is_int), f64::from(4 * 16 * 8), "{of} {sum}");
        }
    }
}
