//! Memory traffic: the bytes that each nest of a program reads and writes, and what each operation of the model
//! would read and write on its own.
//!
//! A nest reads an element once, however often its loops come back to it, and of a buffer only what it can touch: what
//! lies between the first and the last index of each dimension, and no more elements than there are iterations with
//! indices of their own (rows that run-time indices pick from a table, every second element). What a nest keeps to itself is no traffic as long as it fits
//! the second-level cache. Constants (weights) are counted apart, and never as saved.

use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::access::{Access, AccessKind, accesses};
use nestjit_ir::visit::Extents;
use nestjit_ir::{BufId, Index, Nest, Program, Role, Stmt, Var, visit};

use crate::graph::{ModelOp, ModelOps, OperandAccess, ValueSource};

/// What a nest moves from and to memory, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// What it reads of each buffer that it does not write.
    pub read: BTreeMap<BufId, usize>,
    /// What it writes of each buffer that others see.
    pub written: BTreeMap<BufId, usize>,
    /// What it writes and reads back, if the second-level cache does not hold it.
    pub spilled: usize,
    /// The constants that it reads.
    pub weights: usize,
}

impl Traffic {
    /// All that it reads, constants apart.
    pub fn read_bytes(&self) -> usize {
        self.read.values().sum::<usize>() + self.spilled
    }

    /// All that it writes.
    pub fn written_bytes(&self) -> usize {
        self.written.values().sum::<usize>() + self.spilled
    }
}

/// The traffic of each nest. `cache` is the size of the second-level cache.
pub fn of_program(program: &Program, cache: usize) -> Vec<Traffic> {
    let touched: Vec<BTreeMap<BufId, Touched>> =
        program.nests.iter().map(|nest| touched(program, nest)).collect();
    let mut users: BTreeMap<BufId, usize> = BTreeMap::new();
    for id in touched.iter().flat_map(BTreeMap::keys) {
        *users.entry(*id).or_default() += 1;
    }
    touched
        .iter()
        .map(|buffers| {
            let mut traffic = Traffic::default();
            for (id, parts) in buffers {
                let role = program.buf(*id).role;
                let bytes = |part: &Part| part.elements() * program.buf(*id).dtype.size();
                let (read, written) = (bytes(&parts.read), bytes(&parts.written));
                let private = role == Role::Local || (role == Role::Temp && users[id] == 1);
                match role {
                    Role::Const => traffic.weights += read,
                    _ if private => traffic.spilled += if written > cache { written } else { 0 },
                    _ => {
                        if !parts.written.is_empty() {
                            traffic.written.insert(*id, written);
                        } else {
                            traffic.read.insert(*id, read);
                        }
                    }
                }
            }
            traffic
        })
        .collect()
}

/// What an operation would read and write if it were computed on its own: its operands, constants apart, its results,
/// and what it keeps in memory between its own parts.
pub fn of_op(ops: &ModelOps, op: &ModelOp) -> usize {
    let written: usize = op.outputs.iter().map(|v| ops.values[*v].bytes()).sum();
    let operands = op.inputs.iter().map(|v| &ops.values[*v]);
    let bytes = operands.filter(|v| v.source != ValueSource::Constant).map(|v| v.bytes());
    match op.access {
        OperandAccess::View => 0,
        OperandAccess::Whole => written + 2 * op.kept + bytes.sum::<usize>(),
        OperandAccess::Part => written + bytes.map(|b| b.min(written)).sum::<usize>(),
    }
}

/// The functions of the runtime that a nest calls.
pub fn calls(nest: &Nest) -> Vec<String> {
    let mut calls = Vec::new();
    visit::walk_stmts(&nest.body, &mut |s| {
        if let Stmt::Call(c) = s {
            calls.push(c.function.clone());
        }
    });
    calls
}

/// The part of a buffer that is read, and the part that is written.
#[derive(Default)]
struct Touched {
    read: Part,
    written: Part,
}

/// A part of a buffer.
#[derive(Default)]
struct Part {
    /// For each dimension the first and the last index; `None` if nothing is touched.
    span: Option<Vec<(usize, usize)>>,
    /// The accesses: for each dimension where it goes, and how many elements it touches at most.
    accesses: Vec<(Vec<Place>, usize)>,
}

/// What tells accesses apart in one dimension. Those that are the same in all touch the same elements.
#[derive(Clone, PartialEq, Debug)]
struct Place {
    span: (usize, usize),
    index: Option<Index>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.span.is_none()
    }

    /// The number of elements, at most.
    fn elements(&self) -> usize {
        let Some(span) = &self.span else { return 0 };
        let touched = self.accesses.iter().fold(0usize, |sum, (_, n)| sum.saturating_add(*n));
        product(span.iter().map(|span| width(*span))).min(touched)
    }

    fn add(&mut self, places: Vec<Place>, elements: usize) {
        match &mut self.span {
            Some(all) => {
                for (a, b) in all.iter_mut().zip(&places) {
                    *a = (a.0.min(b.span.0), a.1.max(b.span.1));
                }
            }
            None => self.span = Some(places.iter().map(|place| place.span).collect()),
        }
        if self.accesses.iter().all(|(other, _)| *other != places) {
            self.accesses.push((places, elements));
        }
    }
}

fn width((lo, hi): (usize, usize)) -> usize {
    (hi + 1).saturating_sub(lo)
}

fn product(factors: impl Iterator<Item = usize>) -> usize {
    factors.fold(1, usize::saturating_mul)
}

fn touched(program: &Program, nest: &Nest) -> BTreeMap<BufId, Touched> {
    let extents = Extents::of(&nest.body);
    let mut buffers: BTreeMap<BufId, Touched> = BTreeMap::new();
    for access in accesses(&nest.body) {
        if access.is_dead() || program.buf(access.buf).is_empty() {
            continue;
        }
        let (places, elements) = places(program, &extents, &access);
        let touched = buffers.entry(access.buf).or_default();
        if access.kind != AccessKind::Write {
            touched.read.add(places.clone(), elements);
        }
        if access.kind != AccessKind::Read {
            touched.written.add(places, elements);
        }
    }
    buffers
}

/// Where an access goes in each dimension, and how many elements it touches at most.
fn places(program: &Program, extents: &Extents, access: &Access<'_>) -> (Vec<Place>, usize) {
    let shape = &program.buf(access.buf).shape;
    let iterations = |vars: &BTreeSet<Var>| product(vars.iter().map(|v| extents.get(*v).unwrap_or(1)));
    let mut all = BTreeSet::new();
    let mut elements = 1usize;
    let place = |(d, size): (usize, &usize)| {
        let last = size.saturating_sub(1);
        // A call reads and writes whole buffers.
        let Some(index) = access.index.and_then(|index| index.get(d)) else {
            elements = elements.saturating_mul(*size);
            return Place { span: (0, last), index: None };
        };
        let (span, vars) = match index {
            Index::Affine(affine) => {
                // A load may say what it yields outside of the buffer.
                let clamp = |i: i64| usize::try_from(i.max(0)).unwrap_or(last).min(last);
                let span = extents.range(affine).map_or((0, last), |(lo, hi)| (clamp(lo), clamp(hi)));
                (span, affine.vars().collect::<BTreeSet<Var>>())
            }
            Index::Value(value) => ((0, last), visit::expr_vars(value).into_iter().collect()),
        };
        elements = elements.saturating_mul(width(span).min(iterations(&vars)));
        all.extend(vars);
        Place { span, index: Some(index.clone()) }
    };
    let places: Vec<Place> = shape.iter().enumerate().map(place).collect();
    let elements = if access.index.is_some() { elements.min(iterations(&all)) } else { elements };
    (places, elements)
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Buffer, DType, Expr, NestBuilder};

    use super::*;

    #[test]
    fn parts_are_counted_once_and_private_buffers_only_if_they_are_large() {
        let mut p = Program::default();
        let mut add = |name: &str, n: usize, role| p.add_buffer(Buffer::new(name, DType::F32, &[n], role));
        let (x, w) = (add("x", 100, Role::In), add("w", 10, Role::Const));
        let (t, u, y) = (add("t", 10, Role::Temp), add("u", 10, Role::Temp), add("y", 40, Role::Out));
        let mut b = NestBuilder::new(&mut p, "first");
        b.for_("i", 10, |b, i| {
            // A window of `x` that leaves the buffer: the elements 0 to 10.
            let window = Expr::load_or(x, [i - 1], Expr::f32(0.0)) + Expr::load(x, [i + 1]);
            b.store(u, [i], window * Expr::load(w, [i]));
            b.store(t, [i], Expr::load(u, [i]).relu());
        });
        b.finish();
        let mut b = NestBuilder::new(&mut p, "second");
        b.for_("i", 10, |b, i| b.store(y, [i + 20], Expr::load(t, [i])));
        b.finish();

        let traffic = of_program(&p, 1 << 20);
        assert_eq!((traffic[0].read_bytes(), traffic[0].written_bytes(), traffic[0].weights), (44, 40, 40));
        assert_eq!((traffic[1].read_bytes(), traffic[1].written_bytes(), traffic[1].weights), (40, 40, 0));
        // A cache of 16 bytes does not hold `u`.
        let traffic = of_program(&p, 16);
        assert_eq!((traffic[0].read_bytes(), traffic[0].written_bytes()), (84, 80));
    }

    #[test]
    fn what_indices_pick_is_charged_and_not_the_table() {
        let mut p = Program::default();
        let mut add =
            |name: &str, dtype, shape: &[usize], role| p.add_buffer(Buffer::new(name, dtype, shape, role));
        let table = add("table", DType::F32, &[10_000, 64], Role::Const);
        let ids = add("ids", DType::I64, &[32], Role::In);
        let (x, y) = (add("x", DType::F32, &[100, 64], Role::In), add("y", DType::F32, &[32, 64], Role::Out));
        let mut b = NestBuilder::new(&mut p, "pick");
        b.for_("n", 32, |b, n| {
            b.for_("c", 64, |b, c| {
                let row = Index::Value(Box::new(Expr::load(ids, [n])));
                let picked = Expr::load(table, [row, c.into()]);
                // Every third row, read twice.
                let strided = Expr::load(x, [n * 3, c.into()]) * Expr::load(x, [n * 3, c.into()]);
                b.store(y, [n, c], picked + strided);
            });
        });
        b.finish();
        let traffic = &of_program(&p, 1 << 20)[0];
        assert_eq!(traffic.weights, 32 * 64 * 4);
        assert_eq!(traffic.read_bytes(), 32 * 8 + 32 * 64 * 4);
        assert_eq!(traffic.written_bytes(), 32 * 64 * 4);
    }
}
