//! RoundOperands: contractions of `f32` compute in `bf16` where that was asked for and is estimated to be faster.
//!
//! A sum of products `%acc += %a[..] * %b[..]` becomes `%acc += f32(%a'[..]) * f32(%b'[..])` with operands of `bf16`, which says
//! what is computed: both operands are rounded once, products and sums are `f32`. Tile makes dot products of pairs of it.
//! Nothing is rounded in inner loops: constants are rounded now, what a nest stores is rounded when it is stored (beside the
//! `f32`, if others read that), what comes from outside is copied once.
//!
//! What is not a product of two loads, and whatever [`Unit::exact`] names, stays as it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nestjit_ir::visit::{declared_temps, map_loads_expr, walk_expr, walk_exprs, walk_stmts, walk_stmts_mut};
use nestjit_ir::{
    BinOp, BufId, DType, Expr, Load, LoopKind, Program, Reduce, ReduceOp, Role, Scalar, Stmt, Store, Var,
    bf16, indices,
};

use crate::error::{Error, Result};
use crate::passes::PassContext;
use crate::passes::schedule::chain::{drop_unit_loops, looped};
use crate::passes::schedule::tiles::choose;
use crate::passes::schedule::tiles::dot::{self, Products};
use crate::passes::schedule::tiles::leaf::{Contraction, Leaf, leaves};
use crate::passes::schedule::tiles::machine::TileMachine;
use crate::remark::{Reason, Remark};
use crate::tensor::Tensor;
use crate::threads::{compiling_threads, on_threads};
use crate::unit::Unit;

/// The estimated share of the time in `f32` above which operands are not rounded.
const GAIN: f64 = 0.95;

/// Cycles to round a vector and to store it.
const ROUND_CYCLES: f64 = 5.0;

/// Rounds the operands of contractions.
///
/// # Errors
/// [`crate::ErrorKind::Limit`] if there is no memory for constants, and what reading them meets.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    if !ctx.target.bf16 && !ctx.target.amx_bf16 {
        return Ok(false);
    }
    let machine = TileMachine::of(ctx.target);
    let mut changed = false;
    for nest in &mut unit.program.nests {
        changed |= drop_unit_loops(&mut nest.body);
    }
    let stored = only_stored(&unit.program);
    // Buffers as they would be.
    let mut trial = Program::default();
    trial.buffers.clone_from(&unit.program.buffers);
    let mut chosen = Chosen::default();
    for n in 0..unit.program.nests.len() {
        for leaf in leaves(&unit.program, &unit.program.nests[n].body) {
            let possible = |b: BufId| {
                let buffer = unit.program.buf(b);
                let given = matches!(buffer.role, Role::Const | Role::In) && !unit.exact.contains(&b);
                buffer.dtype == DType::F32 && !buffer.shape.is_empty() && (given || stored.contains(&b))
            };
            let Some(share) = share(&mut trial, &leaf, &machine, &possible) else { continue };
            let Some(within) = leaf.path.last().map(|l| l.var) else { continue };
            let rounding = Reason::Rounding { share, pays: share < GAIN };
            remarks.push(Remark::nest(&unit.program.nests[n].name, rounding));
            if share < GAIN {
                chosen.loops.insert(within);
                chosen.buffers.extend(leaf.contractions.iter().flat_map(|c| &c.loads).map(|l| l.buf));
            }
        }
    }
    if chosen.loops.is_empty() {
        return Ok(changed);
    }
    round(unit, &chosen, compiling_threads(ctx.target.cores))?;
    Ok(true)
}

/// What is to be rounded.
#[derive(Default)]
struct Chosen {
    /// The innermost loops around contractions.
    loops: HashSet<Var>,
    /// Their operands.
    buffers: HashSet<BufId>,
}

/// Buffers of the program that nests only write by storing whole elements.
fn only_stored(program: &Program) -> HashSet<BufId> {
    let (mut stored, mut otherwise) = (HashSet::new(), HashSet::new());
    for nest in &program.nests {
        walk_stmts(&nest.body, &mut |s| match s {
            Stmt::Store(s) => drop(stored.insert(s.buf)),
            Stmt::Reduce(r) => drop(otherwise.insert(r.buf)),
            Stmt::Call(c) => otherwise.extend(&c.outputs),
            Stmt::For(_) | Stmt::Temp(_) => {}
        });
    }
    &stored - &otherwise
}

/// The estimated time of a leaf with operands of `bf16`, as a share of that in `f32`; `None` if it cannot have them.
fn share(
    trial: &mut Program,
    leaf: &Leaf,
    machine: &TileMachine,
    possible: &dyn Fn(BufId) -> bool,
) -> Option<f64> {
    let operands = |c: &Contraction| c.is_product && c.sum == DType::F32 && c.loads.len() == 2;
    let loads = || leaf.contractions.iter().flat_map(|c| &c.loads);
    if !leaf.contractions.iter().all(operands) || !loads().all(|l| possible(l.buf)) {
        return None;
    }
    let now = choose::estimate(trial, leaf, machine).1;
    let mut rounded = leaf.clone();
    rounded.contractions.iter_mut().for_each(|c| c.products = Some(Products::Halves));
    let operands: HashSet<BufId> = loads().map(|l| l.buf).collect();
    operands.iter().for_each(|b| trial.buf_mut(*b).dtype = DType::BF16);
    let (tile, then) = choose::estimate(trial, &rounded, machine);
    let grouped = tile.is_some_and(|t| {
        dot::groups(trial, &rounded, t.columns.0, (machine, t.kind)).iter().all(Option::is_some)
    });
    operands.iter().for_each(|b| trial.buf_mut(*b).dtype = DType::F32);
    let elements = |b: &BufId| trial.buf(*b).len() as f64;
    let made = operands.iter().filter(|b| trial.buf(**b).role != Role::Const).map(elements).sum::<f64>();
    grouped.then(|| (then + ROUND_CYCLES * made / machine.lanes as f64) / now)
}

/// A product of two loads that a statement adds up in `f32`.
fn product(program: &Program, r: &Reduce) -> Option<[BufId; 2]> {
    let Expr::Binary(BinOp::Mul, a, b) = &r.value else { return None };
    let (Expr::Load(a), Expr::Load(b)) = (&**a, &**b) else { return None };
    (r.op == ReduceOp::Add && program.buf(r.buf).dtype == DType::F32 && a != b).then_some([a.buf, b.buf])
}

/// Calls `f` with the statements of the chosen loops that add products up.
fn each_product(body: &mut [Stmt], program: &Program, chosen: &Chosen, f: &mut dyn FnMut(&mut Reduce)) {
    walk_stmts_mut(body, &mut |s| {
        let Stmt::For(l) = s else { return };
        if !chosen.loops.contains(&l.var) {
            return;
        }
        walk_stmts_mut(&mut l.body, &mut |s| {
            if let Stmt::Reduce(r) = s
                && product(program, r).is_some_and(|p| p.iter().all(|b| chosen.buffers.contains(b)))
            {
                f(r);
            }
        });
    });
}

fn round(unit: &mut Unit, chosen: &Chosen, threads: usize) -> Result<()> {
    // The reads of operands in all, and by the products.
    let mut reads: HashMap<BufId, (usize, usize)> = HashMap::new();
    let mut nests = std::mem::take(&mut unit.program.nests);
    for nest in &mut nests {
        walk_exprs(&nest.body, &mut |e| {
            if let Expr::Load(l) = e
                && chosen.buffers.contains(&l.buf)
            {
                reads.entry(l.buf).or_default().0 += 1;
            }
        });
        walk_stmts(&nest.body, &mut |s| {
            if let Stmt::Call(c) = s {
                c.inputs.iter().for_each(|b| reads.entry(*b).or_default().0 += 1);
            }
        });
        each_product(&mut nest.body, &unit.program, chosen, &mut |r| {
            for b in product(&unit.program, r).into_iter().flatten() {
                reads.entry(b).or_default().1 += 1;
            }
        });
    }
    // Where the rounded operands are: in place of what nobody else reads.
    let mut places: BTreeMap<BufId, BufId> = BTreeMap::new();
    let mut constants = Vec::new();
    for (buf, (all, products)) in reads {
        if products == 0 {
            continue;
        }
        let role = unit.program.buf(buf).role;
        let alone = all == products && matches!(role, Role::Const | Role::Temp | Role::Local);
        let place = if alone { buf } else { copy(&mut unit.program, buf) };
        if role == Role::Const {
            let data = unit.consts.get(&buf).cloned();
            constants.push((place, data.ok_or_else(|| Error::internal("a constant has no data"))?));
        }
        places.insert(buf, place);
    }
    for nest in &mut nests {
        each_product(&mut nest.body, &unit.program, chosen, &mut |r| {
            let mut value = std::mem::replace(&mut r.value, Expr::f32(0.0));
            extended(&mut value, &places);
            r.value = value;
        });
    }
    for (buf, place) in &places {
        let fill = unit.program.buf(*buf).halo_fill.as_f64();
        let buffer = unit.program.buf_mut(*place);
        (buffer.dtype, buffer.halo_fill) = (DType::BF16, Scalar::from_f64(DType::BF16, fill));
    }
    unit.program.nests = nests;
    store_rounded(&mut unit.program, &places);
    copy_inputs(&mut unit.program, &places);
    unit.consts.extend(rounded_constants(&constants, threads)?);
    Ok(())
}

/// Extended loads of the rounded operands in place of loads.
fn extended(value: &mut Expr, places: &BTreeMap<BufId, BufId>) {
    map_loads_expr(value, &mut |l| {
        let mut load = l.clone();
        load.buf = *places.get(&l.buf)?;
        if let Some(otherwise) = load.otherwise.take() {
            load.otherwise = Some(Box::new(Expr::Cast(DType::BF16, otherwise)));
        }
        Some(Expr::Cast(DType::F32, Box::new(Expr::Load(load))))
    });
}

/// A buffer like another one, of its own.
fn copy(program: &mut Program, buf: BufId) -> BufId {
    let mut buffer = program.buf(buf).clone();
    buffer.name = program.unique_buffer_name(&format!("{}.bf16", buffer.name));
    buffer.role = match buffer.role {
        Role::In | Role::Out => Role::Temp,
        role @ (Role::Const | Role::Temp | Role::Local) => role,
    };
    if buffer.role != Role::Const {
        buffer.halo.clear();
    }
    program.add_buffer(buffer)
}

/// Rounds what is stored to operands, or stores it rounded too.
fn store_rounded(program: &mut Program, places: &BTreeMap<BufId, BufId>) {
    let mut nests = std::mem::take(&mut program.nests);
    for nest in &mut nests {
        // Declared beside what they are made of.
        let declared: HashSet<BufId> = declared_temps(&nest.body).into_iter().collect();
        block(&mut nest.body, places, &declared);
    }
    program.nests = nests;
}

fn block(body: &mut Vec<Stmt>, places: &BTreeMap<BufId, BufId>, declared: &HashSet<BufId>) {
    let mut at = 0;
    while at < body.len() {
        let more = match &mut body[at] {
            Stmt::For(l) => {
                block(&mut l.body, places, declared);
                None
            }
            Stmt::Temp(b) => {
                places.get(b).filter(|p| *p != b && declared.contains(b)).map(|p| Stmt::Temp(*p))
            }
            Stmt::Store(s) => match places.get(&s.buf) {
                Some(place) if *place == s.buf => {
                    let value = std::mem::replace(&mut s.value, Expr::f32(0.0));
                    s.value = Expr::Cast(DType::BF16, Box::new(value));
                    None
                }
                Some(place) => Some(Stmt::Store(also_rounded(s, *place))),
                None => None,
            },
            Stmt::Reduce(_) | Stmt::Call(_) => None,
        };
        if let Some(more) = more {
            at += 1;
            body.insert(at, more);
        }
        at += 1;
    }
}

/// The store of the same value, rounded.
fn also_rounded(s: &Store, place: BufId) -> Store {
    let mut reads_itself = false;
    walk_expr(&s.value, &mut |e| reads_itself |= matches!(e, Expr::Load(l) if l.buf == s.buf));
    // The same expression is computed once; but what it reads may have just been overwritten.
    let value = match reads_itself {
        true => Expr::Load(Load { buf: s.buf, index: s.index.clone(), otherwise: None }),
        false => s.value.clone(),
    };
    Store { buf: place, index: s.index.clone(), value: Expr::Cast(DType::BF16, Box::new(value)) }
}

/// Copies of what comes from outside, before the first statement that reads them.
fn copy_inputs(program: &mut Program, places: &BTreeMap<BufId, BufId>) {
    let inputs: Vec<(BufId, BufId)> =
        places.iter().map(|(b, p)| (*b, *p)).filter(|(b, _)| program.buf(*b).role == Role::In).collect();
    for (buf, place) in inputs {
        let reads = |s: &Stmt| {
            let mut found = false;
            walk_exprs(std::slice::from_ref(s), &mut |e| {
                found |= matches!(e, Expr::Load(l) if l.buf == place)
            });
            found
        };
        let found = program
            .nests
            .iter()
            .enumerate()
            .find_map(|(n, nest)| nest.body.iter().position(reads).map(|at| (n, at)));
        let Some((n, at)) = found else { continue };
        let shape = program.buf(buf).shape.clone();
        let vars: Vec<Var> = (0..shape.len()).map(|d| program.add_var(format!("p{d}"))).collect();
        let value = Expr::Cast(DType::BF16, Box::new(Expr::load(buf, &vars)));
        let mut copy = vec![Stmt::Store(Store { buf: place, index: indices(&vars), value })];
        for &d in program.buf(place).layout.order.iter().rev() {
            copy = vec![looped(vars[d], shape[d], LoopKind::Serial, copy)];
        }
        drop_unit_loops(&mut copy);
        program.nests[n].body.splice(at..at, copy);
    }
}

/// Constants rounded, on several threads.
fn rounded_constants(
    constants: &[(BufId, Arc<Tensor>)],
    threads: usize,
) -> Result<Vec<(BufId, Arc<Tensor>)>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    on_threads(threads.min(constants.len()), || {
        while let Some((buf, data)) = constants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = rounded(data).map(|data| (*buf, Arc::new(data)));
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
}

fn rounded(data: &Tensor) -> Result<Tensor> {
    let mut rounded = Tensor::zeros(DType::BF16, data.shape())?;
    let to: &mut [bf16] = rounded.values_mut()?;
    for (to, from) in to.iter_mut().zip(data.values::<f32>()?) {
        *to = bf16::from_f32(*from);
    }
    Ok(rounded)
}
