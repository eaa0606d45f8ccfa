//! Parallelize: the outermost profitable independent loop of each statement of a nest runs on several threads.
//!
//! Only which iterations run where is decided here; the arithmetic stays as it is, so that results do not
//! depend on the number of threads.

use std::collections::BTreeSet;

use nestjit_ir::visit::{declared_temps, walk_exprs, walk_stmts};
use nestjit_ir::{BinOp, BufId, Expr, For, LoopKind, Nest, Program, Reduce, Role, Stmt};

use super::PassContext;
use super::loops::{drop_bare_unit_loops, expr_work, independent, rechain, unchain};
use crate::error::Result;
use crate::unit::{Remark, Unit};

const NAME: &str = "Parallelize";

/// The least work that a thread must get for waking it to pay, in nanoseconds.
const WORK_PER_THREAD: f64 = 4_000.0;

/// Marks parallel loops.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    for n in 0..unit.program.nests.len() {
        let mut nest = std::mem::take(&mut unit.program.nests[n]);
        drop_bare_unit_loops(&mut nest.body);
        let mut marked = Vec::new();
        let mut reasons = BTreeSet::new();
        for stmt in &mut nest.body {
            match parallelize(stmt, ctx.threads, ctx.target.isa.f32_lanes()) {
                Ok(extent) => marked.push(extent),
                Err(reason) => {
                    reasons.insert(reason);
                }
            }
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
fn parallelize(stmt: &mut Stmt, threads: usize, lanes: usize) -> Choice {
    let Stmt::For(l) = stmt else { return Err("no-loop") };
    if threads < 2 {
        return Err("one-thread");
    }
    if l.extent as f64 * nanoseconds(&l.body, lanes as f64) < WORK_PER_THREAD * threads as f64 {
        return Err("small");
    }
    let empty = For { var: l.var, extent: 0, kind: LoopKind::Serial, body: Vec::new() };
    let (mut chain, body) = unchain(std::mem::replace(l, empty));
    let result = choose(&chain, &body, threads);
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

/// The extent or position of the loop chosen, or the reason code why there is none.
type Choice = std::result::Result<usize, &'static str>;

/// The position in the chain of the loop to run in parallel: the outermost that splits evenly enough, or else
/// the one that splits best. Loops may only move outwards over independent ones.
fn choose(chain: &[For], body: &[Stmt], threads: usize) -> Choice {
    let mut best: Option<(f64, usize)> = None;
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
        if best.is_none_or(|b| even > b.0 + 0.05) {
            best = Some((even, at));
        }
        if even > 0.9 {
            break;
        }
    }
    match best {
        Some((even, at)) if chain[at].extent > 1 && even > 0.3 => Ok(at),
        Some(_) => Err("uneven"),
        None => Err("dependence"),
    }
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
