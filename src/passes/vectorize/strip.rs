//! Strip-mining of an innermost loop into vectors.
//!
//! Long loops run several registers at a time, the rest in ever smaller exact steps. A reduction along the loop
//! gets an accumulator per lane and register (`temp %sv: f32[16]`), combined after the loop in a fixed order:
//! the result depends on the shape and the vector width only.

use nestjit_ir::access::carried::{Carried, carried_in};
use nestjit_ir::hash::FastSet;
use nestjit_ir::visit::{fresh_copy, subst_var};
use nestjit_ir::{
    Affine, BufId, Buffer, DType, Expr, For, Index, LoopKind, Program, Reduce, ReduceOp, Role, Stmt, Store,
    Var,
};

use crate::passes::cost::has_transcendental;
use crate::passes::schedule::chain::{extents_of, looped};
use crate::passes::schedule::jam::Limits;

/// A loop to be cut.
pub(super) struct Strip {
    /// Loops between the lane accumulators and the vectorised loop, outermost first, without bodies.
    pub outer: Vec<For>,
    /// The vectorised loop's variable.
    pub var: Var,
    /// Its extent.
    pub extent: usize,
    /// Its body: no loops.
    pub body: Vec<Stmt>,
    /// Lanes and code size.
    pub limits: Limits,
}

/// How many instructions, roughly, statements without loops become; loops count once.
pub(super) fn weight(body: &[Stmt]) -> usize {
    body.iter()
        .map(|s| match s {
            Stmt::For(l) => weight(&l.body),
            Stmt::Store(s) => value_weight(&s.value),
            Stmt::Reduce(r) => 1 + value_weight(&r.value),
            Stmt::Temp(_) => 0,
            Stmt::Call(_) => 100,
        })
        .sum()
}

fn value_weight(value: &Expr) -> usize {
    let transcendental = if has_transcendental(value) { 8 } else { 0 };
    1 + transcendental
}

/// A reduction along the vectorised loop and its lane accumulators.
#[derive(Clone)]
struct Lanes {
    op: ReduceOp,
    buf: BufId,
    index: Vec<Index>,
    lanes: BufId,
}

/// Cuts the loop.
pub(super) fn strip(program: &mut Program, request: Strip) -> Vec<Stmt> {
    let Strip { outer, var, extent, body, limits } = request;
    let lanes = limits.lanes;
    if extent < lanes {
        // Adding up the lanes of a few elements takes longer than adding the elements.
        let reduces = body.iter().any(|s| matches!(s, Stmt::Reduce(_)));
        let vector = extent * 2 >= lanes && !(reduces && extent < 8);
        let kind = if vector { LoopKind::Vector } else { LoopKind::Unrolled };
        let stmts = vec![looped(var, extent, kind, body)];
        return wrap(outer, stmts);
    }
    let unroll = [4, 2, 1]
        .into_iter()
        .find(|u| extent / lanes >= *u && (*u == 1 || u * weight(&body) <= limits.unroll / 4))
        .unwrap_or(1);
    let mut out = Vec::new();
    let reductions = lane_accumulators(program, &outer, var, extent, &body, unroll * lanes);
    for r in &reductions {
        out.push(Stmt::Temp(r.lanes));
        let identity = Expr::Const(r.op.identity(program.buf(r.lanes).dtype));
        out.extend(registers(program, unroll, lanes, &mut |_, at| {
            Stmt::Store(Store { buf: r.lanes, index: vec![Index::Affine(at)], value: identity.clone() })
        }));
    }

    // Full steps of `unroll` registers, single registers, and what is left of one.
    let step = unroll * lanes;
    let (full, singles, rest) = (extent / step, (extent % step) / lanes, extent % lanes);
    let mut pieces = Vec::new();
    let mut copies = vec![body];
    for needed in [singles > 0, rest > 0] {
        if needed {
            copies.push(fresh_copy(program, &copies[0]));
        }
    }
    let mut next = || copies.pop().unwrap_or_default();
    if rest > 0 {
        let name = program.var_name(var).to_owned();
        let lane = program.add_var(format!("{name}i"));
        let mut tail = next();
        // Kernels keep accumulators of `f32` in registers where vectors are added to a part of them.
        let single = |r: &&Lanes| rest > 1 && program.buf(r.buf).dtype == DType::F32;
        let in_part: Vec<Lanes> = reductions.iter().filter(single).cloned().collect();
        into_lanes(&mut tail, &in_part, &Affine::from(lane));
        subst_var(&mut tail, var, &Affine::from(lane).plus((extent - rest) as i64));
        pieces.push(looped(lane, rest, LoopKind::Vector, tail));
    }
    if singles > 0 {
        let piece = step_body(
            program,
            next(),
            var,
            Affine::constant((full * step) as i64),
            singles,
            lanes,
            &reductions,
        );
        pieces.push(piece);
    }
    let name = program.var_name(var).to_owned();
    let block = program.add_var(format!("{name}o"));
    let base = if full > 1 { Affine::term(block, step as i64) } else { Affine::constant(0) };
    let main = step_body(program, next(), var, base, unroll, lanes, &reductions);
    pieces.push(if full > 1 { looped(block, full, LoopKind::Serial, vec![main]) } else { main });
    pieces.reverse();
    out.extend(wrap(outer, pieces));

    for r in &reductions {
        out.extend(combine(program, r, unroll, lanes));
    }
    out
}

/// `for u { for lane { body } }` with the variable replaced by `base + lanes * u + lane`; reductions go to
/// their lane accumulators.
fn step_body(
    program: &mut Program,
    mut body: Vec<Stmt>,
    var: Var,
    base: Affine,
    registers: usize,
    lanes: usize,
    reductions: &[Lanes],
) -> Stmt {
    let name = program.var_name(var).to_owned();
    let lane = program.add_var(format!("{name}i"));
    let mut at = Affine::from(lane);
    let unrolled = (registers > 1).then(|| program.add_var(format!("{name}u")));
    if let Some(u) = unrolled {
        at = at.add(&Affine::term(u, lanes as i64));
    }
    into_lanes(&mut body, reductions, &at);
    subst_var(&mut body, var, &base.add(&at));
    let vector = looped(lane, lanes, LoopKind::Vector, body);
    match unrolled {
        Some(u) => looped(u, registers, LoopKind::Unrolled, vec![vector]),
        None => vector,
    }
}

/// Lets reductions go to the accumulators of lanes, at this place.
fn into_lanes(body: &mut [Stmt], reductions: &[Lanes], at: &Affine) {
    for stmt in body {
        if let Stmt::Reduce(r) = stmt
            && let Some(l) = reductions.iter().find(|l| l.buf == r.buf && l.index == r.index)
        {
            r.buf = l.lanes;
            r.index = vec![Index::Affine(at.clone())];
        }
    }
}

/// Declares lane accumulators for the reductions that the loop carries.
fn lane_accumulators(
    program: &mut Program,
    outer: &[For],
    var: Var,
    extent: usize,
    body: &[Stmt],
    width: usize,
) -> Vec<Lanes> {
    let Carried::Reductions(bufs) = carried_in((var, extent), body, &extents_of(outer)) else {
        return Vec::new();
    };
    let mut seen: FastSet<BufId> = FastSet::default();
    let mut found = Vec::new();
    for stmt in body {
        let Stmt::Reduce(r) = stmt else { continue };
        let moves = r.index.iter().any(|i| match i {
            Index::Affine(a) => a.uses(var) || outer.iter().any(|o| a.uses(o.var)),
            Index::Value(_) => true,
        });
        if !bufs.contains(&r.buf) || moves || !seen.insert(r.buf) {
            continue;
        }
        let name = program.unique_buffer_name(&format!("{}.lanes", program.buf(r.buf).name));
        let dtype = program.buf(r.buf).dtype;
        let lanes = program.add_buffer(Buffer::new(name, dtype, &[width], Role::Local));
        found.push(Lanes { op: r.op, buf: r.buf, index: r.index.clone(), lanes });
    }
    found
}

/// Statements `f(variable, index)` for each register of lane accumulators.
fn registers(
    program: &mut Program,
    registers: usize,
    lanes: usize,
    f: &mut dyn FnMut(Var, Affine) -> Stmt,
) -> Vec<Stmt> {
    let lane = program.add_var("lane");
    if registers == 1 {
        return vec![looped(lane, lanes, LoopKind::Vector, vec![f(lane, lane.into())])];
    }
    let u = program.add_var("u");
    let stmt = f(lane, Affine::term(u, lanes as i64).add(&lane.into()));
    let vector = looped(lane, lanes, LoopKind::Vector, vec![stmt]);
    vec![looped(u, registers, LoopKind::Unrolled, vec![vector])]
}

/// Adds up registers first, then the lanes of the first one.
fn combine(program: &mut Program, r: &Lanes, unroll: usize, lanes: usize) -> Vec<Stmt> {
    let mut out = Vec::new();
    if unroll > 1 {
        let (u, lane) = (program.add_var("u"), program.add_var("lane"));
        let from = Affine::term(u, lanes as i64).add(&lane.into()).plus(lanes as i64);
        let stmt = Stmt::Reduce(Reduce {
            op: r.op,
            buf: r.lanes,
            index: vec![lane.into()],
            value: Expr::load(r.lanes, [from]),
        });
        let vector = looped(lane, lanes, LoopKind::Vector, vec![stmt]);
        out.push(looped(u, unroll - 1, LoopKind::Unrolled, vec![vector]));
    }
    let lane = program.add_var("lane");
    let stmt = Stmt::Reduce(Reduce {
        op: r.op,
        buf: r.buf,
        index: r.index.clone(),
        value: Expr::load(r.lanes, [Affine::from(lane)]),
    });
    out.push(looped(lane, lanes, LoopKind::Vector, vec![stmt]));
    out
}

fn wrap(mut chain: Vec<For>, body: Vec<Stmt>) -> Vec<Stmt> {
    let mut body = body;
    while let Some(l) = chain.pop() {
        body = vec![Stmt::For(For { body, ..l })];
    }
    body
}
