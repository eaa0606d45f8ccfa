//! Padding in place: a temporary that is read beyond its edges gets a border of its own, and so does a local.
//!
//! The buffer grows by what its readers reach beyond it, its producers write into the middle, and the first of them
//! fills the border before. Nothing is copied, and no reader needs a guard.

use std::collections::BTreeMap;

use nestjit_ir::visit::{declared_temps, map_loads, walk_stmts_mut};
use nestjit_ir::{Affine, BufId, Expr, Index, Load, LoopKind, Program, Role, Stmt, Store, Var};

use crate::passes::schedule::border::{Border, Survey};
use crate::passes::schedule::chain::looped;

/// How many times as many elements a temporary may have with its border: for tiny planes with wide borders,
/// filling costs more than guards.
const MAX_GROWTH: f64 = 4.0;

/// Gives every temporary that can have one a border; returns the nests whose guards went away.
pub(super) fn run(program: &mut Program) -> Vec<usize> {
    let borders = borders(program);
    if borders.is_empty() {
        return Vec::new();
    }
    let resolved = shift(program, &borders);
    for (buf, (producer, border)) in borders {
        grow(program, buf, producer, &border);
    }
    resolved
}

/// Temporaries that get a border, with their producers.
type Borders = BTreeMap<BufId, (usize, Border)>;

/// Moves all accesses of temporaries to where the elements lie behind their border; returns the nests that read them.
fn shift(program: &mut Program, borders: &Borders) -> Vec<usize> {
    let shifted = |buf: BufId, index: &[Index]| -> Option<Vec<Index>> {
        let (_, border) = borders.get(&buf)?;
        let shift = |(i, r): (&Index, &(usize, usize))| match i {
            Index::Affine(a) => Index::Affine(a.plus(r.0 as i64)),
            Index::Value(_) => i.clone(),
        };
        Some(index.iter().zip(&border.reach).map(shift).collect())
    };
    let mut readers = Vec::new();
    for (n, nest) in program.nests.iter_mut().enumerate() {
        let mut reads = false;
        walk_stmts_mut(&mut nest.body, &mut |s| {
            if let Stmt::Store(s) = s
                && let Some(index) = shifted(s.buf, &s.index)
            {
                s.index = index;
            }
        });
        map_loads(&mut nest.body, &mut |l| {
            let index = shifted(l.buf, &l.index)?;
            reads = true;
            Some(Expr::Load(Load { buf: l.buf, index, otherwise: None }))
        });
        if reads {
            readers.push(n);
        }
    }
    readers
}

/// The temporaries that are read beyond their edges, their producers and their borders.
fn borders(program: &Program) -> Borders {
    let mut survey = Survey::new(program);
    let mut with_producer = BTreeMap::new();
    for (buf, border) in std::mem::take(&mut survey.found) {
        let wide = border.reach.iter().any(|&r| r != (0, 0));
        if let Some(producer) = survey.producer(buf)
            && wide
            && growth(program, buf, &border.reach) <= MAX_GROWTH
        {
            with_producer.insert(buf, (producer, border));
        }
    }
    with_producer
}

fn growth(program: &Program, buf: BufId, reach: &[(usize, usize)]) -> f64 {
    let shape = &program.buf(buf).shape;
    shape.iter().zip(reach).map(|(&s, r)| (s + r.0 + r.1) as f64 / s.max(1) as f64).product()
}

/// Enlarges the buffer and lets the producer fill the border.
fn grow(program: &mut Program, buf: BufId, producer: usize, border: &Border) {
    let shape = program.buf(buf).shape.clone();
    let fill = fill_border(program, buf, &shape, border);
    let buffer = program.buf_mut(buf);
    for (size, r) in buffer.shape.iter_mut().zip(&border.reach) {
        *size += r.0 + r.1;
    }
    let body = &mut program.nests[producer].body;
    match program.buffers[buf.0 as usize].role {
        Role::Local => declare(body, buf, fill),
        _ => drop(body.splice(0..0, fill)),
    }
}

/// Inserts statements behind the declaration of a local.
fn declare(body: &mut Vec<Stmt>, buf: BufId, mut fill: Vec<Stmt>) {
    if let Some(at) = body.iter().position(|s| matches!(s, Stmt::Temp(b) if *b == buf)) {
        body.splice(at + 1..at + 1, fill);
        return;
    }
    for stmt in body {
        if let Stmt::For(l) = stmt
            && declared_temps(&l.body).contains(&buf)
        {
            return declare(&mut l.body, buf, std::mem::take(&mut fill));
        }
    }
}

/// Statements that fill the border around `shape`: for each dimension the slices before and after, as one
/// loop if they are equally thick.
fn fill_border(program: &mut Program, buf: BufId, shape: &[usize], border: &Border) -> Vec<Stmt> {
    let mut out = Vec::new();
    for (d, &(before, after)) in border.reach.iter().enumerate() {
        let far = (before + shape[d]) as i64;
        let slabs: Vec<(usize, usize, i64)> = match (before, after) {
            (b, a) if b == a && b > 0 => vec![(2, b, 0)],
            (b, a) => [(1, b, 0), (1, a, far)].into_iter().filter(|s| s.1 > 0).collect(),
        };
        for (sides, thickness, first) in slabs {
            let mut index: Vec<Affine> = Vec::new();
            let mut loops: Vec<(Var, usize)> = Vec::new();
            for (e, &(lo, hi)) in border.reach.iter().enumerate() {
                // The corners belong to the dimension that comes first.
                let (extent, offset) = match e.cmp(&d) {
                    std::cmp::Ordering::Less => (shape[e], lo as i64),
                    std::cmp::Ordering::Equal => (thickness, first),
                    std::cmp::Ordering::Greater => (shape[e] + lo + hi, 0),
                };
                let mut at = Affine::constant(offset);
                let mut over = |extent: usize, step: i64, suffix: &str| {
                    if extent > 1 {
                        let var = program.add_var(format!("p{e}{suffix}"));
                        loops.push((var, extent));
                        at = at.add(&Affine::term(var, step));
                    }
                };
                if e == d {
                    over(sides, far, "s");
                }
                over(extent, 1, "");
                index.push(at);
            }
            let index = index.into_iter().map(Index::Affine).collect();
            let store = Store { buf, index, value: Expr::Const(border.fill) };
            let body = vec![Stmt::Store(store)];
            out.extend(
                loops
                    .into_iter()
                    .rev()
                    .fold(body, |body, (var, extent)| vec![looped(var, extent, LoopKind::Serial, body)]),
            );
        }
    }
    out
}
