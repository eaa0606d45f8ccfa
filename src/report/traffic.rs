//! Memory traffic: the bytes that each nest of a program reads and writes, and what each operation of the model
//! would read and write on its own.
//!
//! A nest reads an element once, however often its loops come back to it, and of a buffer only the part between
//! the first and the last element that it touches. What a nest keeps to itself is no traffic as long as it fits
//! the second-level cache. Constants (weights) are counted apart, and never as saved.

use std::collections::BTreeMap;

use nestjit_ir::access::{Access, AccessKind, accesses};
use nestjit_ir::visit::Extents;
use nestjit_ir::{BufId, Index, Nest, Program, Role, Stmt, visit};

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
                let bytes = |part: &Option<Part>| part.as_ref().map_or(0, |p| p.bytes(program, *id));
                let (read, written) = (bytes(&parts.read), bytes(&parts.written));
                let private = role == Role::Local || (role == Role::Temp && users[id] == 1);
                match role {
                    Role::Const => traffic.weights += read,
                    _ if private => traffic.spilled += if written > cache { written } else { 0 },
                    _ => {
                        if parts.written.is_some() {
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
    read: Option<Part>,
    written: Option<Part>,
}

/// For each dimension the first and the last index.
struct Part(Vec<(usize, usize)>);

impl Part {
    fn bytes(&self, program: &Program, id: BufId) -> usize {
        let elements: usize = self.0.iter().map(|(lo, hi)| (hi + 1).saturating_sub(*lo)).product();
        elements * program.buf(id).dtype.size()
    }
}

fn touched(program: &Program, nest: &Nest) -> BTreeMap<BufId, Touched> {
    let extents = Extents::of(&nest.body);
    let mut buffers: BTreeMap<BufId, Touched> = BTreeMap::new();
    for access in accesses(&nest.body) {
        if access.is_dead() || program.buf(access.buf).is_empty() {
            continue;
        }
        let part = part(program, &extents, &access);
        let touched = buffers.entry(access.buf).or_default();
        if access.kind != AccessKind::Write {
            extend(&mut touched.read, &part);
        }
        if access.kind != AccessKind::Read {
            extend(&mut touched.written, &part);
        }
    }
    buffers
}

fn part(program: &Program, extents: &Extents, access: &Access<'_>) -> Part {
    let shape = &program.buf(access.buf).shape;
    let dims = shape.iter().enumerate().map(|(d, size)| {
        let last = size.saturating_sub(1);
        let index = access.index.and_then(|index| index.get(d)).and_then(Index::as_affine);
        match index.and_then(|a| extents.range(a)) {
            // A load may say what it yields outside of the buffer.
            Some((lo, hi)) => {
                let clamp = |i: i64| usize::try_from(i.max(0)).unwrap_or(last).min(last);
                (clamp(lo), clamp(hi))
            }
            None => (0, last),
        }
    });
    Part(dims.collect())
}

fn extend(all: &mut Option<Part>, part: &Part) {
    match all {
        Some(all) => {
            for (a, b) in all.0.iter_mut().zip(&part.0) {
                *a = (a.0.min(b.0), a.1.max(b.1));
            }
        }
        None => *all = Some(Part(part.0.clone())),
    }
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
}
