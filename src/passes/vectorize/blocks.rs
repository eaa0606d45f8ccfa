//! Loops that copy from one order of dimensions to another: whichever loop has the lanes, some accesses are
//! strided, but adjacent along a second loop. Both become blocks that code generation transposes in registers:
//! `for o { for u < lanes unrolled { for v vector { .. } } }`.

use nestjit_ir::access::carried::independent;
use nestjit_ir::hash::FastSet;
use nestjit_ir::visit::{Extents, declared_temps, fresh_copy, subst_var, walk_exprs};
use nestjit_ir::{Affine, BufId, Expr, For, Index, LoopKind, Program, Stmt};

use crate::lanes;
use crate::passes::cost::{expr_work, transposed_access};
use crate::passes::schedule::chain::{looped, rechain};
use crate::passes::schedule::indices::{guarded_by, stride, vectorizable};

/// From this distance of lanes on, in elements, each row of a block lies in a page of its own.
const FAR: i64 = 1024;

/// Blocks that then follow each other along their rows, so that pages are entered less often and lines of the cache
/// come in runs.
const RUN: usize = 4;

/// Two loops of a chain to be emitted as blocks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Blocks {
    /// The position of the loop whose iterations are unrolled.
    along: usize,
    /// The position of the loop that has the lanes.
    across: usize,
    /// Vector operations per execution of the body.
    pub cost: f64,
    /// How far apart the lanes of what is transposed lie, summed up. Code runs along the lanes: it reads or writes
    /// as many rows at a time as a register has lanes, and scattered pieces on the other side, which had better
    /// not lie far apart.
    distance: i64,
}

/// The best blocks for a perfect chain of loops around simple statements, if there are any.
pub(super) fn blocks(
    program: &Program,
    extents: &Extents,
    chain: &[&For],
    body: &[Stmt],
    lanes: usize,
) -> Option<Blocks> {
    if !stored_once(body) || !vectorizable(program, body) {
        return None;
    }
    let free = |at: usize| {
        let l = chain[at];
        l.kind == LoopKind::Serial
            && l.extent > 1
            && independent(l, extents)
            && !guarded_by(program, extents, &l.body, l.var)
    };
    let mut best: Option<Blocks> = None;
    let free: Vec<usize> = (0..chain.len()).filter(|&at| free(at)).collect();
    for &across in &free {
        for &along in free.iter().filter(|&&at| at != across) {
            let Some((cost, distance)) = cost(program, body, chain[along], chain[across], lanes) else {
                continue;
            };
            if best.is_none_or(|b| cost < b.cost || (cost == b.cost && distance < b.distance)) {
                best = Some(Blocks { along, across, cost, distance });
            }
        }
    }
    best
}

/// Whether statements only store, and each buffer from outside is either read or stored to once.
fn stored_once(body: &[Stmt]) -> bool {
    let own = declared_temps(body);
    let mut stored: FastSet<BufId> = FastSet::default();
    let simple = body.iter().all(|s| match s {
        Stmt::Store(s) => own.contains(&s.buf) || stored.insert(s.buf),
        Stmt::Temp(_) => true,
        Stmt::For(_) | Stmt::Reduce(_) | Stmt::Call(_) => false,
    });
    let mut apart = true;
    walk_exprs(body, &mut |e| apart &= !matches!(e, Expr::Load(l) if stored.contains(&l.buf)));
    simple && apart
}

/// Vector operations per execution of the body, and the distance of lanes; `None` if nothing is transposed, or
/// accesses stay strided.
fn cost(program: &Program, body: &[Stmt], along: &For, across: &For, lanes: usize) -> Option<(f64, i64)> {
    let full = |n: usize| n.next_multiple_of(lanes) as f64 / n as f64;
    let share = full(across.extent) / lanes as f64;
    let exchange = transposed_access(lanes) * full(along.extent) * share;
    let (mut total, mut distance, mut fine) = (0.0, 0i64, true);
    let mut access = |buf: BufId, index: &[Index]| match (
        stride(program, buf, index, across.var),
        stride(program, buf, index, along.var),
    ) {
        (Some(0 | 1), _) => total += share,
        (Some(stride), Some(1)) if lanes::exchanged(program.buf(buf).dtype) => {
            total += exchange;
            distance = distance.saturating_add(stride.saturating_abs());
        }
        _ => fine = false,
    };
    let mut work = 0.0;
    for stmt in body {
        if let Stmt::Store(s) = stmt {
            access(s.buf, &s.index);
            work += expr_work(&s.value);
        }
    }
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            access(l.buf, &l.index);
            work -= 1.0;
        }
    });
    (distance > 0 && fine).then_some((total + work * share, distance))
}

impl Blocks {
    /// Rewrites the chain.
    pub fn apply(
        self,
        program: &mut Program,
        mut chain: Vec<For>,
        body: Vec<Stmt>,
        lanes: usize,
    ) -> Vec<Stmt> {
        let (first, second) = (self.along.max(self.across), self.along.min(self.across));
        let (first, second) = (chain.remove(first), chain.remove(second));
        let (along, across) = if self.along > self.across { (first, second) } else { (second, first) };
        let (full, rest) = (along.extent / lanes, along.extent % lanes);
        let name = program.var_name(along.var).to_owned();
        // `rows` iterations of `along` from `base` on, `lanes` the loop across.
        let block = |program: &mut Program, body, (lanes, extent), base: Affine, rows| {
            let mut inner = vec![looped(lanes, extent, LoopKind::Vector, body)];
            let row = program.add_var(format!("{name}u"));
            subst_var(&mut inner, along.var, &base.add(&row.into()));
            looped(row, rows, LoopKind::Unrolled, inner)
        };
        let all = (across.var, across.extent);
        let in_runs = self.distance >= FAR
            && (full > RUN && full.is_multiple_of(RUN))
            && (across.extent > lanes && across.extent.is_multiple_of(lanes));
        let mut pieces = Vec::new();
        if in_runs {
            let [run, column, place] =
                ["r", "o", "b"].map(|suffix| program.add_var(format!("{name}{suffix}")));
            let lane = program.add_var(format!("{}v", program.var_name(across.var)));
            let mut body = body.clone();
            subst_var(&mut body, across.var, &Affine::term(column, lanes as i64).add(&lane.into()));
            let base = Affine::term(run, (RUN * lanes) as i64).add(&Affine::term(place, lanes as i64));
            let inner = block(program, body, (lane, lanes), base, lanes);
            let loops = [(place, RUN), (column, across.extent / lanes), (run, full / RUN)];
            let around = |inner, (var, extent)| looped(var, extent, LoopKind::Serial, vec![inner]);
            pieces.push(loops.into_iter().fold(inner, around));
        } else if full > 0 {
            let at = program.add_var(format!("{name}o"));
            let base = if full > 1 { Affine::term(at, lanes as i64) } else { Affine::constant(0) };
            let inner = block(program, body.clone(), all, base, lanes);
            pieces.push(if full > 1 { looped(at, full, LoopKind::Serial, vec![inner]) } else { inner });
        }
        if rest > 0 {
            let inner = block(program, body, all, Affine::constant((full * lanes) as i64), rest);
            let copy = if full > 0 { fresh_copy(program, &[inner]) } else { vec![inner] };
            pieces.extend(copy);
        }
        rechain(chain, pieces)
    }
}
