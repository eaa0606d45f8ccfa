//! Operands whose channels do not lie side by side: rows of a block are brought into the order that the transforms
//! want, and results back on their way through the epilogue, while they are in the second-level cache. Both loops are
//! blocks that code generation transposes in registers.

use nestjit_ir::visit::{fresh_copy, subst_var};
use nestjit_ir::{Affine, BufId, Expr, Index, Load, LoopKind, Program, Stmt, Store, Var, indices};

use crate::passes::schedule::chain::looped;
use crate::passes::schedule::minimal_filtering::convolution::Convolution;

/// The input's element under the window's first corner moved to this row and column of the output.
pub(super) fn input_element(conv: &Convolution, row: &Affine, column: &Affine, channel: Var) -> Load {
    let moved = |a: &Affine| {
        a.subst(conv.window[0], &Affine::constant(0))
            .subst(conv.window[1], &Affine::constant(0))
            .subst(conv.rows.0, row)
            .subst(conv.columns.0, column)
            .subst(conv.channels.0, &channel.into())
    };
    let index = conv.input.index.iter().map(|i| match i {
        Index::Affine(a) => Index::Affine(moved(a)),
        other => other.clone(),
    });
    Load { buf: conv.input.buf, index: index.collect(), otherwise: conv.input.otherwise.clone() }
}

/// Copies what tiles from the output's row `first` on read into the local `to`, `[rows][columns][channels]`.
pub(super) fn gather(
    program: &mut Program,
    conv: &Convolution,
    first: &Affine,
    [rows, columns]: [usize; 2],
    to: BufId,
) -> Vec<Stmt> {
    let fill = conv.input.otherwise.clone().unwrap_or_else(|| Box::new(Expr::f32(0.0)));
    // The columns inside the input.
    let (begin, end) = columns_inside(program, conv, columns);
    let mut out = Vec::new();
    for (from, until) in [(0, begin), (end, columns)] {
        if from < until {
            let [r, q, c] = ["r", "q", "ci"].map(|name| program.add_var(name));
            let index = indices([r.into(), Affine::from(q).plus(from as i64), c.into()]);
            let store = Stmt::Store(Store { buf: to, index, value: (*fill).clone() });
            out.push(nested(&[(r, rows), (q, until - from), (c, conv.channels.1)], vec![store]));
        }
    }
    let [r, c, q] = ["r", "ci", "q"].map(|name| program.add_var(name));
    let column = Affine::from(q).plus(begin as i64);
    let mut load = input_element(conv, &first.add(&r.into()), &column, c);
    load.otherwise = Some(fill);
    let index = indices([r.into(), column, c.into()]);
    let store = Stmt::Store(Store { buf: to, index, value: Expr::Load(load) });
    out.push(nested(&[(r, rows), (c, conv.channels.1), (q, end - begin)], vec![store]));
    out
}

/// The columns of the output, counted from its first one, at which the window's first corner is inside the input.
fn columns_inside(program: &Program, conv: &Convolution, columns: usize) -> (usize, usize) {
    let shape = &program.buf(conv.input.buf).shape;
    let along = conv.input.index.iter().zip(shape).find_map(|(i, &size)| {
        i.as_affine().filter(|a| a.uses(conv.columns.0)).map(|a| (a.offset(), size as i64))
    });
    let (offset, size) = along.unwrap_or((0, columns as i64));
    let within = |v: i64| v.clamp(0, columns as i64) as usize;
    let (begin, end) = (within(-offset), within(size - offset));
    (begin, end.max(begin))
}

/// What the epilogue does with `rows` rows of results in the local `from`, `[rows][columns][filters]`, of which the
/// first is the output's row `first`.
pub(super) fn finish(
    program: &mut Program,
    conv: &Convolution,
    epilogue: &[Stmt],
    first: &Affine,
    rows: usize,
    from: BufId,
) -> Stmt {
    let [r, c, q] = ["r", "co", "q"].map(|name| program.add_var(name));
    let at = [&first.add(&r.into()), &q.into(), &c.into()];
    let body = with_epilogue(program, conv, epilogue, Expr::load(from, [r, q, c]), at);
    nested(&[(r, rows), (c, conv.filters.1), (q, conv.columns.1)], body)
}

/// What is done with one element of the convolution's result, in this row, column and filter of the output.
pub(super) fn with_epilogue(
    program: &mut Program,
    conv: &Convolution,
    epilogue: &[Stmt],
    value: Expr,
    at: [&Affine; 3],
) -> Vec<Stmt> {
    let mut body = vec![
        Stmt::Temp(conv.accumulator),
        Stmt::Store(Store { buf: conv.accumulator, index: Vec::new(), value }),
    ];
    body.extend(epilogue.iter().cloned());
    let mut body = fresh_copy(program, &body);
    for (var, at) in [conv.rows.0, conv.columns.0, conv.filters.0].into_iter().zip(at) {
        subst_var(&mut body, var, at);
    }
    body
}

fn nested(loops: &[(Var, usize); 3], body: Vec<Stmt>) -> Stmt {
    let [outer, middle, inner] = loops.map(|(var, extent)| (var, extent, LoopKind::Serial));
    let inner = looped(inner.0, inner.1, inner.2, body);
    looped(outer.0, outer.1, outer.2, vec![looped(middle.0, middle.1, middle.2, vec![inner])])
}
