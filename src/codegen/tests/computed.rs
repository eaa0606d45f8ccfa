//! Indices that are computed at run time, into every kind of buffer that a kernel may keep: inside, the element is the
//! one that is asked for; outside, the run ends with an error.

use nestjit_ir::LoopKind::{Parallel, Serial, Unrolled, Vector};
use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;
use nestjit_ir::{
    Affine, BufId, Buffer, DType, Expr, Index, Layout, LoopKind, NestBuilder, Program, ReduceOp, Role,
    Scalar, Var,
};

use super::harness::{check_with, compile_program, inputs, run, targets};
use super::vector::buffer;

const ROWS: usize = 4;
const WIDTH: usize = 9;

/// How the local is filled, which decides whether it lives in registers or in memory.
#[derive(Clone, Copy, Debug)]
enum Fill {
    Loop(LoopKind),
    /// In blocks that are transposed.
    Blocks,
}

/// What happens to the element that is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Use {
    Load,
    /// As an operand of every lane of a vector loop.
    LoadInLanes,
    /// A whole row of it, lane by lane.
    LoadRow,
    Store,
    Reduce,
}

/// Where the local is declared.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    /// In the loop of the rows.
    Row,
    /// In the vector loop inside it: each lane has its own.
    Lane,
    /// Beside the loop of the rows.
    Nest,
}

/// `extent` elements (times [`WIDTH`]) go into a local, which is then accessed at an index from `ids`.
fn program(extent: usize, fill: Fill, used: Use, place: Place, rows: LoopKind) -> (Program, BufId) {
    let mut p = Program::default();
    let ids = p.add_buffer(Buffer::new("ids", DType::I64, &[ROWS], Role::In));
    let x = buffer(&mut p, "x", &[ROWS, WIDTH, extent], Role::In);
    let y = buffer(&mut p, "y", &[ROWS, WIDTH], Role::Out);
    let z = buffer(&mut p, "z", &[ROWS, WIDTH, extent], Role::Out);
    let mut b = NestBuilder::new(&mut p, "computed");
    let at = |o: Var| Index::Value(Box::new(Expr::load(ids, [o])));
    let lane = place == Place::Lane;
    let shape: &[usize] = if lane { &[extent] } else { &[extent, WIDTH] };
    // The index of an element of the local, for the place in the row and the column.
    let element = |i: Index, v: Index| if lane { vec![i] } else { vec![i, v] };
    let fills = |b: &mut NestBuilder<'_>, t: BufId, o: Var, v: Affine, i: Var| {
        let value = Expr::load(x, [o.into(), v.clone(), i.into()]) * Expr::f32(2.0) + Expr::f32(0.5);
        b.store(t, element(i.into(), v.into()), value);
    };
    let fill_all = |b: &mut NestBuilder<'_>, t: BufId, o: Var, lane: Option<Var>| match (fill, lane) {
        (Fill::Loop(kind), Some(v)) => b.for_kind("i", extent, kind, |b, i| fills(b, t, o, v.into(), i)),
        (Fill::Blocks, Some(v)) => b.for_kind("i", extent, Serial, |b, i| fills(b, t, o, v.into(), i)),
        (Fill::Loop(kind), None) => {
            let (outer, inner) = if kind == Vector { (Serial, Vector) } else { (kind, Vector) };
            b.for_kind("i", extent, outer, |b, i| {
                b.for_kind("v", WIDTH, inner, |b, v| fills(b, t, o, v.into(), i));
            });
        }
        (Fill::Blocks, None) => b.for_kind("i", extent, Unrolled, |b, i| {
            b.for_kind("v", WIDTH, Vector, |b, v| fills(b, t, o, v.into(), i));
        }),
    };
    let uses = |b: &mut NestBuilder<'_>, t: BufId, o: Var, v: Affine| match used {
        Use::Load | Use::LoadInLanes => {
            let column = if used == Use::Load { Index::from(v.clone()) } else { Affine::constant(1).into() };
            b.store(y, [o.into(), v], Expr::load(t, element(at(o), column)) * Expr::f32(3.0));
        }
        Use::LoadRow => b.store(y, [o.into(), v.clone()], Expr::load(t, element(at(o), v.into()))),
        Use::Store => b.store(t, element(at(o), v.into()), Expr::f32(9.0)),
        Use::Reduce => b.reduce(ReduceOp::Add, t, element(at(o), v.into()), Expr::f32(9.0)),
    };
    let back = |b: &mut NestBuilder<'_>, t: BufId, o: Var, v: Affine, kind: LoopKind| {
        b.for_kind("i", extent, kind, |b, i| {
            b.store(z, [o.into(), v.clone(), i.into()], Expr::load(t, element(i.into(), v.clone().into())));
        });
        if matches!(used, Use::Store | Use::Reduce) {
            b.store(y, [o.into(), v], Expr::f32(1.0));
        }
    };
    let outside = (place == Place::Nest).then(|| b.temp("t", DType::F32, shape));
    b.for_kind("o", ROWS, rows, |b, o| {
        if lane {
            b.for_kind("v", WIDTH, Vector, |b, v| {
                let t = b.temp("t", DType::F32, shape);
                fill_all(b, t, o, Some(v));
                uses(b, t, o, v.into());
                back(b, t, o, v.into(), Serial);
            });
            return;
        }
        let t = outside.unwrap_or_else(|| b.temp("t", DType::F32, shape));
        fill_all(b, t, o, None);
        let kind = if used == Use::Load { Serial } else { Vector };
        b.for_kind("v", WIDTH, kind, |b, v| uses(b, t, o, v.into()));
        b.for_kind("v", WIDTH, Vector, |b, v| back(b, t, o, v.into(), Serial));
    });
    b.finish();
    (p, ids)
}

/// Runs a program on indices that are all inside, and on two sets of which one is not.
fn check_indices(p: &Program, ids: BufId, extent: usize, what: &str) {
    let mut given = inputs(p);
    let last = extent as i64 - 1;
    let sets = [
        (vec![last, 0, last / 2, 1], true),
        (vec![0, last, last + 1, 0], false),
        (vec![0, 0, 0, -1], false),
        (vec![99, 0, 0, 0], false),
        (vec![i64::MIN, 0, 0, 0], false),
    ];
    for target in targets() {
        for (found, inside) in &sets {
            given.insert(ids, Value::new(&[ROWS], found.clone()).expect("an index for each row"));
            if *inside {
                check_with(p, &target, &given, 1e-6);
            } else {
                let code = compile_program(p, &target).expect("compiles");
                let error = run(p, &code, &given)
                    .expect_err(&format!("{what}, {target:?}: {found:?} is outside"))
                    .to_string();
                assert!(error.contains(&format!("is outside 0..{extent}")), "{what}: {error}");
            }
        }
    }
}

#[test]
fn into_local_buffers_of_every_kind() {
    let fills = [Fill::Loop(Serial), Fill::Loop(Unrolled), Fill::Loop(Vector), Fill::Blocks];
    for extent in [3, 21] {
        for fill in fills {
            for used in [Use::Load, Use::LoadInLanes, Use::LoadRow, Use::Store, Use::Reduce] {
                for place in [Place::Row, Place::Lane, Place::Nest] {
                    for rows in [Serial, Parallel(None)] {
                        let shared = place == Place::Nest && rows.is_parallel();
                        let nested = place == Place::Lane && matches!(fill, Fill::Loop(Vector));
                        if shared || nested {
                            continue;
                        }
                        let (p, ids) = program(extent, fill, used, place, rows);
                        check_indices(&p, ids, extent, &format!("{fill:?} {used:?} {place:?} {rows:?}"));
                    }
                }
            }
        }
    }
}

#[test]
fn that_are_computed_in_the_nest_themselves() {
    let n = 13;
    let mut p = Program::default();
    let ids = p.add_buffer(Buffer::new("ids", DType::I64, &[ROWS], Role::In));
    let x = buffer(&mut p, "x", &[ROWS, n], Role::In);
    let y = buffer(&mut p, "y", &[ROWS], Role::Out);
    let z = buffer(&mut p, "z", &[ROWS, n], Role::Out);
    let mut b = NestBuilder::new(&mut p, "computed");
    b.for_kind("o", ROWS, Parallel(None), |b, o| {
        let (t, at) = (b.temp("t", DType::F32, &[n]), b.temp("at", DType::I64, &[]));
        b.for_kind("i", n, Vector, |b, i| b.store(t, [i], Expr::load(x, [o, i]).relu()));
        b.store(at, nestjit_ir::SCALAR, Expr::load(ids, [o]));
        let at = Index::Value(Box::new(Expr::load(at, nestjit_ir::SCALAR)));
        b.store(y, [o], Expr::load(t, [at]));
        b.for_kind("i", n, Vector, |b, i| b.store(z, [o, i], Expr::load(t, [i])));
    });
    b.finish();
    check_indices(&p, ids, n, "an index in a local");
}

/// A byte is at most 255 and never negative: a table of so many elements needs no check, a shorter one does.
#[test]
fn that_are_bytes() {
    for extent in [255, 256] {
        let text = format!(
            "nest @table(in %x: u8[{ROWS}], in %t: f32[{extent}], out %y: f32[{ROWS}]) {{
               for n < {ROWS} {{ %y[n] = %t[(i64(%x[n]))] }} }}"
        );
        let p = parse(&text).unwrap();
        let x = p.buf_ids().next().unwrap();
        let mut given = inputs(&p);
        for target in targets() {
            for bytes in [[254u8, 0, 127, 1], [255, 0, 0, 0], [0, 1, 2, 255]] {
                given.insert(x, Value::new(&[ROWS], bytes.to_vec()).unwrap());
                if bytes.iter().all(|byte| usize::from(*byte) < extent) {
                    check_with(&p, &target, &given, 0.0);
                } else {
                    let code = compile_program(&p, &target).unwrap();
                    let error = run(&p, &code, &given).expect_err(&text).to_string();
                    assert!(error.contains("is outside 0..255"), "{error}");
                }
            }
        }
    }
}

#[test]
fn into_buffers_with_halos_and_panels() {
    let n = 7;
    for (halo, panel, interleave) in [
        (true, None, None),
        (false, Some((1, 4)), None),
        (false, Some((0, 2)), None),
        (true, Some((0, 2)), None),
        (false, None, Some((0, 4))),
        (true, Some((1, 4)), Some((0, 2))),
    ] {
        let mut p = Program::default();
        let ids = p.add_buffer(Buffer::new("ids", DType::I64, &[ROWS], Role::In));
        let table = buffer(&mut p, "table", &[n, WIDTH], Role::Const);
        let y = buffer(&mut p, "y", &[ROWS, WIDTH], Role::Out);
        p.buf_mut(table).layout = Layout { panel, interleave, ..Layout::row_major(2) };
        if halo {
            p.buf_mut(table).halo = vec![(2, 1), (1, 3)];
            p.buf_mut(table).halo_fill = Scalar::F32(7.0);
        }
        let mut b = NestBuilder::new(&mut p, "rows");
        b.for_kind("o", ROWS, Parallel(None), |b, o| {
            b.for_kind("v", WIDTH, Vector, |b, v| {
                let row = Index::Value(Box::new(Expr::load(ids, [o])));
                b.store(y, [o, v], Expr::load(table, [row, v.into()]) * Expr::f32(2.0));
            });
        });
        b.finish();
        check_indices(&p, ids, n, &format!("halo {halo}, panel {panel:?}, groups {interleave:?}"));
    }
}
