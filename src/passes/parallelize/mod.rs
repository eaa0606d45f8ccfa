//! Parallelize: the outermost profitable independent loop of each statement of a nest runs on several threads.
//!
//! Only which iterations run where is decided here; the arithmetic stays as it is, so that results do not
//! depend on the number of threads. `places` knows which core has what.

mod places;

use std::collections::BTreeSet;

use nestjit_ir::visit::{declared_temps, walk_exprs, walk_stmts};
use nestjit_ir::{BinOp, BufId, Expr, For, Index, LoopKind, Nest, Program, Reduce, Role, Stmt, Var};

use self::places::Places;
use super::PassContext;
use super::loops::{drop_bare_unit_loops, expr_work, independent, rechain, stride, unchain};
use crate::error::Result;
use crate::unit::{Remark, Unit};

const NAME: &str = "Parallelize";

/// The least work that a thread must get for waking it to pay, in nanoseconds.
const WORK_PER_THREAD: f64 = 4_000.0;

/// Bytes of a line of the cache.
const LINE: i64 = 64;

/// What another loop than the outermost must save of the time for loops to change places.
const WORTH_MOVING: f64 = 0.9;

/// Marks parallel loops.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    let mut places = Places::default();
    for n in 0..unit.program.nests.len() {
        let mut nest = std::mem::take(&mut unit.program.nests[n]);
        drop_bare_unit_loops(&mut nest.body);
        let mut marked = Vec::new();
        let mut reasons = BTreeSet::new();
        for stmt in &mut nest.body {
            match parallelize(stmt, ctx, &unit.program, &places) {
                Ok(extent) => marked.push(extent),
                Err(reason) => {
                    reasons.insert(reason);
                }
            }
            places.note(&unit.program, stmt);
        }
        if !marked.is_empty() {
            changed = true;
            share_outer_locals(&mut unit.program, &mut nest);
        }
        remarks.push(remark(&nest, &marked, &reasons));
        unit.program.nests[n] = nest;
    }
    Ok(changed)
}

/// Marks the best loop of one statement; otherwise says why not.
fn parallelize(stmt: &mut Stmt, ctx: &PassContext<'_>, program: &Program, places: &Places) -> Choice<usize> {
    let reads = places.reads(stmt);
    let constants = constant_bytes(program, stmt);
    let Stmt::For(l) = stmt else { return Err("no-loop") };
    let threads = ctx.threads;
    if threads < 2 {
        return Err("one-thread");
    }
    let alone = l.extent as f64 * nanoseconds(&l.body, ctx.target.isa.f32_lanes() as f64);
    if alone < WORK_PER_THREAD * threads as f64 {
        return Err("small");
    }
    let empty = For { var: l.var, extent: 0, kind: LoopKind::Serial, body: Vec::new() };
    let (mut chain, body) = unchain(std::mem::replace(l, empty));
    let time = |candidate: &Candidate| {
        let fetching = places.fetching(program, &reads, &chain[candidate.at], threads);
        alone / (threads as f64 * candidate.even) + fetching
    };
    // Where weights are large, loops stand in the order in which they are read least often.
    let small = 2 * constants <= ctx.target.l1_bytes;
    let movable = |l: &For| small && in_lines(program, &body, l.var);
    let result = choose(&chain, &body, threads, &movable, &time).and_then(|c| match time(&c) {
        t if t < alone => Ok(c.at),
        _ => Err("far"),
    });
    if let Ok(at) = result {
        let mut chosen = chain.remove(at);
        chosen.kind = LoopKind::Parallel;
        chain.insert(0, chosen);
    }
    let extent = chain[0].extent;
    if let Some(s) = rechain(chain, body).pop() {
        *stmt = s;
    }
    result.map(|_| extent)
}

/// Whether each iteration of a loop accesses lines of the cache of its own.
fn in_lines(program: &Program, body: &[Stmt], var: Var) -> bool {
    let mut fine = true;
    let mut access = |buf: BufId, index: &[Index]| {
        if matches!(program.buf(buf).role, Role::Const | Role::Local) {
            return;
        }
        let elements = LINE / program.buf(buf).dtype.size() as i64;
        fine &= stride(program, buf, index, var).is_some_and(|s| s == 0 || s.abs() >= elements);
    };
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => access(s.buf, &s.index),
        Stmt::Reduce(r) => access(r.buf, &r.index),
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            access(l.buf, &l.index);
        }
    });
    fine
}

/// The bytes of the constants that a statement reads.
fn constant_bytes(program: &Program, stmt: &Stmt) -> usize {
    let mut constants = BTreeSet::new();
    walk_exprs(std::slice::from_ref(stmt), &mut |e| {
        if let Expr::Load(l) = e
            && program.buf(l.buf).role == Role::Const
        {
            constants.insert(l.buf);
        }
    });
    constants.into_iter().map(|b| program.buf(b).storage_bytes()).sum()
}

/// About how long one execution takes on one core, in vector code.
fn nanoseconds(body: &[Stmt], lanes: f64) -> f64 {
    // Two vector operations in a cycle at best; what is not a sum of products waits for memory, too.
    let operation = 0.25 / lanes;
    body.iter()
        .map(|s| match s {
            Stmt::For(l) => l.extent as f64 * nanoseconds(&l.body, lanes),
            Stmt::Store(s) => 0.05 + operation * expr_work(&s.value),
            Stmt::Reduce(Reduce { value: Expr::Binary(BinOp::Mul, ..), .. }) => operation,
            Stmt::Reduce(r) => 2.0 * operation * expr_work(&r.value),
            Stmt::Temp(_) => 0.0,
            Stmt::Call(_) => 1000.0,
        })
        .sum()
}

/// What is chosen, or the reason code why there is nothing.
type Choice<T> = std::result::Result<T, &'static str>;

/// A loop of a chain that may run in parallel.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Candidate {
    at: usize,
    /// The share of the threads' time that has work in it.
    even: f64,
}

/// The loop of the chain to run in parallel: the outermost that splits evenly enough, or else the one that splits
/// best; if loops are movable, another one if that takes clearly less time. Loops may only move outwards over
/// independent ones.
fn choose(
    chain: &[For],
    body: &[Stmt],
    threads: usize,
    movable: &dyn Fn(&For) -> bool,
    time: &dyn Fn(&Candidate) -> f64,
) -> Choice<Candidate> {
    let (mut candidates, mut best): (Vec<Candidate>, Option<Candidate>) = (Vec::new(), None);
    for at in 0..chain.len() {
        if chain[at].kind != LoopKind::Serial {
            break;
        }
        let inner = rechain(chain[at + 1..].to_vec(), body.to_vec());
        if !independent(&For { body: inner, ..chain[at].clone() }) {
            break;
        }
        let extent = chain[at].extent;
        let even = extent as f64 / (extent.div_ceil(threads) * threads) as f64;
        let candidate = Candidate { at, even };
        let enough = best.is_some_and(|b| b.even > 0.9);
        if !enough && best.is_none_or(|b| even > b.even + 0.05) {
            best = Some(candidate);
        }
        candidates.push(candidate);
    }
    let usable = |c: &Candidate| chain[c.at].extent > 1 && c.even > 0.3;
    let best = match best {
        Some(best) if usable(&best) => best,
        Some(_) => return Err("uneven"),
        None => return Err("dependence"),
    };
    let limit = WORTH_MOVING * time(&best);
    let faster = candidates.into_iter().filter(|c| movable(&chain[c.at]) && usable(c) && time(c) < limit);
    Ok(faster.min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(best))
}

/// Locals declared beside the loops of a nest are shared by the threads of a parallel loop, and by the statements
/// before and after one, which are functions of their own. They become temporaries of the program.
fn share_outer_locals(program: &mut Program, nest: &mut Nest) {
    let parallel = |s: &Stmt| matches!(s, Stmt::For(For { kind: LoopKind::Parallel, .. }));
    let mut shared = BTreeSet::new();
    for (at, stmt) in nest.body.iter().enumerate() {
        let Stmt::Temp(local) = stmt else { continue };
        let after = &nest.body[at + 1..];
        let first = after.iter().position(parallel).unwrap_or(after.len());
        if after[first..].iter().any(|s| uses(s, *local)) {
            shared.insert(*local);
        }
    }
    for &b in &shared {
        program.buf_mut(b).role = Role::Temp;
    }
    nest.body.retain(|s| !matches!(s, Stmt::Temp(b) if shared.contains(b)));
}

/// Whether a statement touches this buffer, and does not declare it.
fn uses(stmt: &Stmt, buf: BufId) -> bool {
    let body = std::slice::from_ref(stmt);
    let mut found = false;
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => found |= s.buf == buf,
        Stmt::Reduce(r) => found |= r.buf == buf,
        _ => {}
    });
    walk_exprs(body, &mut |e| found |= matches!(e, Expr::Load(l) if l.buf == buf));
    found && !declared_temps(body).contains(&buf)
}

fn remark(nest: &Nest, marked: &[usize], reasons: &BTreeSet<&'static str>) -> Remark {
    let (code, message) = match (marked, reasons.first()) {
        ([], Some(&"small")) => ("small", "serial: too little work to wake a thread".to_owned()),
        ([], Some(&"far")) => ("far", "serial: fetching what one core has takes longer".to_owned()),
        ([], Some(&"dependence")) => ("dependence", "serial: iterations depend on each other".to_owned()),
        ([], Some(&code)) => (code, "serial".to_owned()),
        ([], None) => ("no-loop", "serial: no loop".to_owned()),
        (extents, _) => {
            let extents: Vec<String> = extents.iter().map(ToString::to_string).collect();
            ("parallel", format!("parallel loops of {} iterations", extents.join(", ")))
        }
    };
    Remark {
        pass: NAME,
        code,
        producer: nest.name.clone(),
        consumer: None,
        bytes: 0,
        applied: !marked.is_empty(),
        message,
    }
}
