//! Dependences of hand-written loops.

use super::*;
use crate::{Buffer, DType, Expr, NestBuilder, ReduceOp, Role, SCALAR};

/// Two loops over `0..8` whose bodies are written by the closures, in one nest; buffers %a and %b of 16.
fn pair(
    first: impl FnOnce(&mut NestBuilder<'_>, [BufId; 2], Var),
    second: impl FnOnce(&mut NestBuilder<'_>, [BufId; 2], Var),
) -> Result<(), String> {
    let mut p = Program::default();
    let a = p.add_buffer(Buffer::new("a", DType::F32, &[16], Role::Temp));
    let c = p.add_buffer(Buffer::new("b", DType::F32, &[16], Role::Out));
    let mut b = NestBuilder::new(&mut p, "f");
    b.for_("i", 8, |b, i| first(b, [a, c], i));
    b.for_("j", 8, |b, j| second(b, [a, c], j));
    b.finish();
    let body = &p.nests[0].body;
    let (Stmt::For(l1), Stmt::For(l2)) = (&body[0], &body[1]) else { panic!("two loops") };
    can_fuse(&p, &l1.body, l1.var, &l2.body, l2.var, &Extents::of(body)).map_err(|c| c.to_string())
}

#[test]
fn fusion_needs_values_that_exist_already() {
    let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i], Expr::f32(1.0));
    let read = |offset: i64, scale: i64| {
        pair(produce, move |b, [a, c], j| {
            b.store(c, [j], Expr::load_or(a, [j * scale + offset], Expr::f32(0.0)));
        })
    };
    assert_eq!(read(0, 1), Ok(()));
    assert_eq!(read(-2, 1), Ok(()));
    let early = |index, by| Err(format!("%a[i] and %a[{index}]: the value is needed up to {by} too early"));
    assert_eq!(read(1, 1), early("j+1", "1 iteration"));
    assert_eq!(read(0, 2), early("2*j", "3 iterations"));
    assert_eq!(read(7, -1), early("-j+7", "7 iterations"));
    assert_eq!(read(8, 1), Ok(()), "never touches what was written");
}

#[test]
fn mixed_radix_indices_are_independent_in_any_order_of_loops() {
    let carried = |radix: i64, shift: i64| {
        let mut p = Program::default();
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[64], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_("i", 8, |b, i| {
            b.for_("n", 3, |b, n| {
                b.store(y, [n * radix + i], Expr::f32(1.0));
                b.store(y, [n * radix + i + shift], Expr::f32(2.0));
            });
        });
        b.finish();
        let Stmt::For(l) = &p.nests[0].body[0] else { panic!("a loop") };
        carried_by(&p, l, &Extents::default(), Reductions::Conflict).is_err()
    };
    assert!(!carried(8, 0));
    assert!(!carried(20, 10));
    assert!(carried(7, 0));
    assert!(carried(8, 1));
    assert!(carried(20, 16));
}

#[test]
fn tiles_match_tile_by_tile() {
    let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| {
        b.for_("ii", 2, |b, ii| b.store(a, [i * 2 + ii], Expr::f32(1.0)));
    };
    let read = |extent, offset: i64| {
        pair(produce, move |b, [a, c], j| {
            b.for_("jj", extent, |b, jj| {
                b.store(c, [j * 2 + jj], Expr::load_or(a, [j * 2 + jj + offset], Expr::f32(0.0)));
            });
        })
    };
    assert_eq!(read(2, 0), Ok(()));
    assert_eq!(read(2, -1), Ok(()));
    assert!(read(2, 1).is_err());
    assert!(read(3, 0).is_err());
    assert_eq!(read(0, 0), Ok(()), "never runs");
}

#[test]
fn strides_that_never_meet_do_not_conflict() {
    let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i * 2], Expr::f32(1.0));
    let read = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], j: Var| {
        b.for_("k", 3, |b, k| b.store(c, [j], Expr::load(a, [j * -2 + k * 4 + 15])));
    };
    assert_eq!(pair(produce, read), Ok(()));
}

#[test]
fn reductions_commute_with_their_own_kind_only() {
    let update = |op| {
        move |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], _: Var| {
            b.reduce(op, a, [0], Expr::f32(1.0));
        }
    };
    assert_eq!(pair(update(ReduceOp::Add), update(ReduceOp::Add)), Ok(()));
    assert_eq!(
        pair(update(ReduceOp::Add), update(ReduceOp::Max)),
        Err("%a[0] and %a[0]: the element would be written first up to 7 iterations too early".to_owned())
    );
}

#[test]
fn overwriting_what_is_still_read_is_a_conflict() {
    let read = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], i: Var| b.store(c, [i], Expr::load(a, [i + 3]));
    let write = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], j: Var| b.store(a, [j], Expr::f32(0.0));
    assert_eq!(pair(read, write), Ok(()), "%a[i+3] is overwritten three iterations later");
    let read = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], i: Var| {
        b.store(c, [i], Expr::load_or(a, [i - 3], Expr::f32(0.0)));
    };
    assert_eq!(
        pair(read, write),
        Err("%a[i-3] and %a[j]: the element would be overwritten up to 3 iterations too early".to_owned())
    );
}

#[test]
fn gathers_and_calls_may_touch_anything() {
    let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i], Expr::f32(1.0));
    let gather = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], j: Var| {
        b.store(c, [j], Expr::load(a, [Expr::load(a, [j]).cast(DType::I64)]));
    };
    assert!(pair(produce, gather).is_err());
    assert!(pair(produce, |b, [a, c], _| b.call("sort", &[a], &[c], &[])).is_err());
    assert_eq!(pair(produce, |b, [_, c], _| b.call("fill", &[], &[c], &[])), Ok(()));
}

#[test]
fn iterations_of_a_contraction() {
    let mut p = Program::default();
    let x = p.add_buffer(Buffer::new("x", DType::F32, &[8, 8], Role::In));
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[8], Role::Out));
    let mut b = NestBuilder::new(&mut p, "f");
    b.for_("i", 8, |b, i| {
        let t = b.temp("t", DType::F32, &[]);
        b.store(t, SCALAR, Expr::f32(0.0));
        b.for_("k", 8, |b, k| b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [i, k])));
        b.store(y, [i], Expr::load(t, SCALAR));
    });
    b.finish();
    let Stmt::For(i) = &p.nests[0].body[0] else { panic!("a loop") };
    let Stmt::For(k) = &i.body[2] else { panic!("a loop") };
    let outer = Extents::default();
    assert_eq!(carried_by(&p, i, &outer, Reductions::Conflict), Ok(()));
    assert_eq!(carried_by(&p, k, &outer, Reductions::Commute), Ok(()));
    assert_eq!(
        carried_by(&p, k, &outer, Reductions::Conflict).unwrap_err().to_string(),
        "%t and %t: different iterations of k may touch the same element"
    );
    assert!(can_swap(&p, &i.body[..1], &i.body[1..2], &outer).is_err(), "a declaration and its use");
    assert!(can_swap(&p, &i.body[1..2], &i.body[2..3], &outer).is_err());
    assert!(can_swap(&p, &i.body[1..2], &i.body[..0], &outer).is_ok());
}

#[test]
fn an_element_beyond_those_written_is_no_dependence() {
    let carried = |read: i64| {
        let mut p = Program::default();
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_("i", 2, |b, i| b.store(y, [i], Expr::load(y, [Affine::constant(read)])));
        b.finish();
        let Stmt::For(l) = &p.nests[0].body[0] else { panic!("a loop") };
        carried_by(&p, l, &Extents::default(), Reductions::Conflict).is_err()
    };
    assert_eq!([0, 1, 2, 3].map(carried), [true, true, false, false]);
}

#[test]
fn a_loop_that_splits_a_dimension_is_independent() {
    let mut p = Program::default();
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[32], Role::Out));
    let carried = |p: &mut Program, step: i64, inner: usize| {
        let mut b = NestBuilder::new(p, "f");
        b.for_("i", 4, |b, i| b.for_("j", inner, |b, j| b.store(y, [i * step + j], Expr::f32(0.0))));
        b.finish();
        let Some(Stmt::For(i)) = p.nests.last().map(|n| &n.body[0]) else { panic!("a loop") };
        carried_by(p, i, &Extents::default(), Reductions::Conflict).is_err()
    };
    assert!(!carried(&mut p, 8, 8));
    assert!(carried(&mut p, 7, 8));
    assert!(!carried(&mut p, 8, 1));
    assert!(carried(&mut p, 0, 1));
}
