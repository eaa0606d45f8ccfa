//! PlanMemory: gives every temporary buffer its place in one arena. Buffers that are not needed at the same
//! time may share bytes.
//!
//! A buffer lives from the first nest that touches it to the last. The largest buffers are placed first, each
//! into the smallest gap between those that live at the same time. Without this pass, every buffer has a place
//! of its own: see [`separate`].

use std::collections::BTreeMap;

use nestjit_ir::visit::{walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, Nest, Program, Role, Stmt};

use super::PassContext;
use crate::error::{Error, ErrorKind, Result};
use crate::remark::Remark;
use crate::unit::{MemoryPlan, Unit};

/// The alignment of offsets: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// Runs the pass.
pub fn run(unit: &mut Unit, _: &PassContext<'_>, _: &mut Vec<Remark>) -> Result<bool> {
    let plan = plan(&unit.program)?;
    let changed = unit.plan.as_ref() != Some(&plan);
    unit.plan = Some(plan);
    Ok(changed)
}

/// A temporary buffer: its bytes and the nests between which it lives, both included.
struct Temp {
    buf: BufId,
    bytes: usize,
    first: usize,
    last: usize,
}

/// A plan in which buffers share memory.
fn plan(program: &Program) -> Result<MemoryPlan> {
    let mut temps = temps(program);
    temps.sort_by_key(|t| (std::cmp::Reverse(t.bytes), t.buf));
    let mut plan = MemoryPlan::default();
    let mut placed: Vec<(Temp, usize)> = Vec::new();
    for temp in temps {
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, _)| other.first <= temp.last && temp.first <= other.last)
            .map(|(other, offset)| (*offset, offset + other.bytes))
            .collect();
        busy.sort_unstable();
        let offset = best_fit(&busy, temp.bytes);
        plan.bytes = plan.bytes.max(end(offset, temp.bytes)?);
        plan.offsets.insert(temp.buf, offset);
        placed.push((temp, offset));
    }
    Ok(plan)
}

/// A plan in which every buffer has a place of its own.
///
/// # Errors
/// [`ErrorKind::Limit`] if the buffers together are larger than the address space.
pub fn separate(program: &Program) -> Result<MemoryPlan> {
    let mut plan = MemoryPlan::default();
    for temp in temps(program) {
        plan.offsets.insert(temp.buf, plan.bytes);
        plan.bytes = end(plan.bytes, temp.bytes)?;
    }
    Ok(plan)
}

/// The start of the smallest gap between the busy ranges (sorted by their start) that holds `bytes`; the
/// space behind them is the last resort.
fn best_fit(busy: &[(usize, usize)], bytes: usize) -> usize {
    let mut best: Option<(usize, usize)> = None;
    let mut free_from = 0;
    for &(start, end) in busy {
        if start > free_from && start - free_from >= bytes {
            let gap = (start - free_from, free_from);
            best = Some(best.map_or(gap, |b| b.min(gap)));
        }
        free_from = free_from.max(end);
    }
    best.map_or(free_from, |(_, start)| start)
}

fn end(offset: usize, bytes: usize) -> Result<usize> {
    offset
        .checked_add(bytes)
        .filter(|end| *end <= isize::MAX as usize)
        .ok_or_else(|| Error::new(ErrorKind::Limit, "the temporaries are larger than the address space"))
}

/// The temporary buffers that nests touch, in the order of their ids.
fn temps(program: &Program) -> Vec<Temp> {
    let mut temps: BTreeMap<BufId, Temp> = BTreeMap::new();
    for (index, nest) in program.nests.iter().enumerate() {
        for_each_buffer(nest, &mut |buf| {
            let buffer = program.buf(buf);
            if buffer.role == Role::Temp {
                let bytes = MemoryPlan::bytes_of(buffer).next_multiple_of(ALIGN);
                temps.entry(buf).or_insert(Temp { buf, bytes, first: index, last: index }).last = index;
            }
        });
    }
    temps.into_values().collect()
}

fn for_each_buffer(nest: &Nest, f: &mut dyn FnMut(BufId)) {
    walk_stmts(&nest.body, &mut |stmt| match stmt {
        Stmt::Store(s) => f(s.buf),
        Stmt::Reduce(r) => f(r.buf),
        Stmt::Call(c) => c.inputs.iter().chain(&c.outputs).for_each(|b| f(*b)),
        Stmt::Temp(_) | Stmt::For(_) => {}
    });
    walk_exprs(&nest.body, &mut |expr| {
        if let Expr::Load(load) = expr {
            f(load.buf);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nestjit_ir::{Buffer, Call, DType, NestBuilder};
    use proptest::prelude::*;

    use super::*;

    /// A program whose nest `i` stores into every buffer that lives at `i`.
    fn program(lives: &[(usize, usize, usize)]) -> Program {
        let mut p = Program::default();
        let bufs: Vec<BufId> = lives
            .iter()
            .enumerate()
            .map(|(i, (_, _, len))| {
                p.add_buffer(Buffer::new(format!("t{i}"), DType::F32, &[*len], Role::Temp))
            })
            .collect();
        for index in 0..=lives.iter().map(|l| l.1).max().unwrap_or(0) {
            let mut b = NestBuilder::new(&mut p, "nest");
            for (buf, (first, last, _)) in bufs.iter().zip(lives) {
                if index == *first || index == *last {
                    b.store(*buf, [0], Expr::f32(1.0));
                }
            }
            b.finish();
        }
        p
    }

    fn assert_sound(lives: &[(usize, usize, usize)], plan: &MemoryPlan) {
        let range = |i: usize| {
            let start = plan.offsets[&BufId(i as u32)];
            (start, start + 4 * lives[i].2)
        };
        for i in 0..lives.len() {
            let (start, end) = range(i);
            assert!(start % ALIGN == 0 && end <= plan.bytes, "t{i}");
            for j in 0..i {
                let together = lives[i].0 <= lives[j].1 && lives[j].0 <= lives[i].1;
                let disjoint = end <= range(j).0 || range(j).1 <= start;
                assert!(!together || disjoint, "t{i} and t{j} overlap");
            }
        }
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_never_overlap(
            lives in prop::collection::vec((0usize..12, 0usize..6, 0usize..300), 0..24)
        ) {
            let lives: Vec<_> = lives.iter().map(|(first, more, len)| (*first, first + more, *len)).collect();
            let program = program(&lives);
            let (shared, own) = (plan(&program).unwrap(), separate(&program).unwrap());
            assert_sound(&lives, &shared);
            assert_sound(&lives, &own);
            prop_assert!(shared.bytes <= own.bytes);
        }
    }

    #[test]
    fn operands_of_calls_live_until_the_call() {
        let mut p = Program::default();
        let [x, y, z] = ["x", "y", "z"].map(|n| p.add_buffer(Buffer::new(n, DType::F32, &[64], Role::Temp)));
        for buf in [x, y] {
            let mut b = NestBuilder::new(&mut p, "store");
            b.store(buf, [0], Expr::f32(1.0));
            b.finish();
        }
        let call = Call { function: "copy".into(), inputs: vec![x], outputs: vec![z], attrs: Vec::new() };
        p.nests.push(Nest { name: "call".into(), body: vec![Stmt::Call(call)], ops: Vec::new() });
        let mut b = NestBuilder::new(&mut p, "load");
        b.store(y, [1], Expr::load(z, [0]));
        b.finish();
        let plan = plan(&p).unwrap();
        let offsets: BTreeSet<usize> = plan.offsets.values().copied().collect();
        assert_eq!(offsets.len(), 3, "all of them live when the function is called: {plan:?}");
    }

    #[test]
    fn a_chain_needs_two_places() {
        let lives: Vec<_> = (0..10).map(|i| (i, i + 1, 64)).collect();
        let program = program(&lives);
        assert_eq!(plan(&program).unwrap().bytes, 2 * 256);
        assert_eq!(separate(&program).unwrap().bytes, 10 * 256);
    }

    #[test]
    fn the_smallest_gap_is_taken() {
        assert_eq!(best_fit(&[(0, 64), (256, 320), (448, 512)], 128), 320);
        assert_eq!(best_fit(&[(0, 64), (256, 320)], 256), 320);
        assert_eq!(best_fit(&[(64, 128)], 64), 0);
        assert_eq!(best_fit(&[], 64), 0);
    }
}
