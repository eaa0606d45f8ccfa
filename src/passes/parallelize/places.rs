//! Which core has written which part of a temporary: reading what another core's caches hold takes longer.

use std::collections::BTreeMap;

use nestjit_ir::visit::{walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, For, Index, LoopKind, Program, Role, Stmt, Var};

/// Bytes that a thread gets per nanosecond out of another core's caches.
const FROM_ANOTHER_CORE: f64 = 14.0;

/// The share of a dimension that the iterations of a loop must span for the loop to divide it among threads.
const SPAN: f64 = 0.75;

/// How a temporary is divided among the cores.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    /// One core has all of it.
    OneCore,
    /// Each has a part along this dimension.
    Along(usize),
    /// Each has something.
    Scattered,
}

/// Where the temporaries of a program lie that have been written so far.
#[derive(Default)]
pub(super) struct Places {
    known: BTreeMap<BufId, Place>,
}

/// What a statement reads of temporaries: each with an index.
pub(super) type Reads = BTreeMap<BufId, Vec<Index>>;

impl Places {
    /// Notes what a statement writes.
    pub fn note(&mut self, program: &Program, stmt: &Stmt) {
        let divided = match stmt {
            Stmt::For(l) if l.kind == LoopKind::Parallel => Some((l.var, l.extent)),
            _ => None,
        };
        let mut write = |buf: BufId, index: &[Index]| {
            if program.buf(buf).role != Role::Temp {
                return;
            }
            let Some((var, extent)) = divided else {
                // Such as a border: whoever writes the rest is more.
                self.known.entry(buf).or_insert(Place::OneCore);
                return;
            };
            let place = dimension(program, buf, index, var, extent).map_or(Place::Scattered, Place::Along);
            let known = self.known.entry(buf).or_insert(place);
            *known =
                if matches!(*known, Place::OneCore) || *known == place { place } else { Place::Scattered };
        };
        walk_stmts(std::slice::from_ref(stmt), &mut |s| match s {
            Stmt::Store(s) => write(s.buf, &s.index),
            Stmt::Reduce(r) => write(r.buf, &r.index),
            Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
        });
    }

    /// What a statement reads of what is known.
    pub fn reads(&self, stmt: &Stmt) -> Reads {
        let mut reads = Reads::new();
        walk_exprs(std::slice::from_ref(stmt), &mut |e| {
            if let Expr::Load(l) = e
                && self.known.contains_key(&l.buf)
            {
                reads.entry(l.buf).or_insert_with(|| l.index.clone());
            }
        });
        reads
    }

    /// Nanoseconds that a thread waits for what others have, if this loop is divided among so many.
    pub fn fetching(&self, program: &Program, reads: &Reads, l: &For, threads: usize) -> f64 {
        let threads = threads as f64;
        let others = (threads - 1.0) / threads;
        let far = reads.iter().map(|(buf, index)| {
            let share = match dimension(program, *buf, index, l.var, l.extent) {
                along @ Some(_) => match self.known.get(buf) {
                    Some(Place::Along(d)) if along == Some(*d) => 0.0,
                    Some(Place::OneCore) => 1.0 / threads,
                    _ => others / threads,
                },
                None => match self.known.get(buf) {
                    Some(Place::OneCore) => 1.0,
                    _ => others,
                },
            };
            share * program.buf(*buf).storage_bytes() as f64
        });
        far.sum::<f64>() / FROM_ANOTHER_CORE
    }
}

/// The dimension that a loop divides into contiguous parts, if there is one.
fn dimension(program: &Program, buf: BufId, index: &[Index], var: Var, extent: usize) -> Option<usize> {
    index.iter().zip(&program.buf(buf).shape).position(|(i, size)| {
        let coefficient = i.as_affine().map_or(0, |a| a.coeff(var));
        coefficient.unsigned_abs() as f64 * extent as f64 >= SPAN * *size as f64 && coefficient != 0
    })
}
