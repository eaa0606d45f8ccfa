//! The order of the loops of a contraction: around the tile, so that the fewest bytes move between the caches, and
//! within it, so that operands are read as they lie in memory.
//!
//! Which loops are tiled and by how much is `choose`'s decision.

use nestjit_ir::visit::Extents;
use nestjit_ir::{Load, Program, Role, Var};
use smallvec::SmallVec;

use super::choose::Tile;
use super::dot::Group;
use super::leaf::{Leaf, footprint};
use super::machine::TileMachine;
use crate::passes::schedule::indices::{index_uses, stride};

/// How much more traffic an outermost loop that tiles do not divide is worth avoiding.
const RAGGED: f64 = 1.25;

/// The best order of the perfectly nested independent loops at the end of the leaf's path, outermost first:
/// the one that moves the fewest bytes into the caches. `None` if they stand well already.
pub fn order(program: &Program, leaf: &Leaf, tile: &Tile, machine: &TileMachine) -> Option<Vec<Var>> {
    let mut start = leaf.path.len();
    while start > 0 {
        let l = &leaf.path[start - 1];
        if !l.independent || (start < leaf.path.len() && !l.perfect) {
            break;
        }
        start -= 1;
    }
    let chain = &leaf.path[start..];
    let is = |v: Option<Var>| chain.iter().filter(move |l| Some(l.var) == v).map(|l| l.var);
    let columns: Vec<Var> = is(Some(tile.columns.0)).collect();
    let rows: Vec<Var> = is(tile.rows.map(|r| r.0)).collect();
    let others: Vec<Var> =
        chain.iter().map(|l| l.var).filter(|v| !columns.contains(v) && !rows.contains(v)).collect();
    let groups = [&others, &rows, &columns];
    let current: Vec<Var> = chain.iter().map(|l| l.var).collect();
    // What remains of an outermost loop becomes a statement of its own, which has no parallel loop around it.
    let cost = |order: &[Var]| {
        let outer = chain.iter().find(|l| order.first() == Some(&l.var)).map_or(1, |l| l.extent);
        let sizes = [Some(tile.columns), tile.rows];
        let size = sizes.iter().flatten().find(|s| order.first() == Some(&s.0)).map_or(1, |s| s.1);
        let ragged = start == 0 && outer % size != 0;
        traffic(program, leaf, tile, machine, order) * if ragged { RAGGED } else { 1.0 }
    };
    let mut best = (cost(&current), current.clone());
    // Without rows, say, several orders are the same.
    let mut seen: Vec<Vec<Var>> = Vec::new();
    for [a, b, c] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
        let candidate = [groups[a].as_slice(), groups[b], groups[c]].concat();
        if candidate == current || seen.contains(&candidate) {
            continue;
        }
        seen.push(candidate.clone());
        let cost = cost(&candidate);
        if cost < best.0 * 0.95 {
            best = (cost, candidate);
        }
    }
    (best.1 != current).then_some(best.1)
}

/// Cycles to bring the operands into the second-level cache when the loops stand in the best order. All loops of
/// the path are taken to be free to move.
pub fn misses(program: &Program, leaf: &Leaf, tile: &Tile, machine: &TileMachine) -> f64 {
    let is_tiled = |v: Var| v == tile.columns.0 || tile.rows.is_some_and(|r| r.0 == v);
    let mut chain: Vec<Var> = leaf.path.iter().map(|l| l.var).filter(|v| !is_tiled(*v)).collect();
    let rows = tile.rows.map(|r| r.0);
    let orders = [[rows, Some(tile.columns.0)], [Some(tile.columns.0), rows]];
    let inner = orders.map(|o| {
        let order: Vec<Var> = chain.iter().copied().chain(o.into_iter().flatten()).collect();
        moved(program, leaf, tile, machine, &order)[1]
    });
    // Or the columns outside of everything: each panel of a constant is brought in once.
    chain.insert(0, tile.columns.0);
    chain.extend(rows);
    inner.into_iter().fold(moved(program, leaf, tile, machine, &chain)[1], f64::min) * machine.byte_cycles[1]
}

/// Puts the loops that contractions are reduced over into the order in which their operands lie in memory
/// (constants aside, which are packed for the loops), those that are cut into groups innermost, and returns the orders
/// that are new.
pub fn reduction_orders(program: &Program, leaf: &mut Leaf, groups: &[Option<Group>]) -> Vec<Vec<Var>> {
    let mut orders: Vec<Vec<Var>> = Vec::new();
    for (c, group) in leaf.contractions.iter_mut().zip(groups) {
        let moving = |load: &&Load| program.buf(load.buf).role != Role::Const;
        let step = |var: Var| {
            let strides = c.loads.iter().filter(moving).map(|l| stride(program, l.buf, &l.index, var));
            strides.map(|s| s.map_or(i64::MAX, i64::abs)).max().unwrap_or(0)
        };
        let mut reduced = c.reduced.clone();
        let is_cut = |r: &(Var, usize)| group.is_some_and(|g| g.along.0 == r.0);
        reduced.sort_by_key(|r| (is_cut(r), std::cmp::Reverse(step(r.0))));
        if c.alone && reduced != c.reduced {
            orders.push(reduced.iter().map(|r| r.0).collect());
            c.reduced = reduced;
        }
    }
    orders
}

/// Cycles to bring the operands of the contractions from the cache level below, for both levels, when the
/// loops of the chain stand in this order.
fn traffic(program: &Program, leaf: &Leaf, tile: &Tile, machine: &TileMachine, chain: &[Var]) -> f64 {
    moved(program, leaf, tile, machine, chain).iter().zip(machine.byte_cycles).map(|(m, c)| m * c).sum()
}

/// Bytes of the operands that are brought into both levels of the caches.
fn moved(program: &Program, leaf: &Leaf, tile: &Tile, machine: &TileMachine, chain: &[Var]) -> [f64; 2] {
    let mut loads: Vec<&Load> = Vec::new();
    let mut inner = Extents::default();
    for c in &leaf.contractions {
        loads.extend(&c.loads);
        c.reduced.iter().for_each(|&(v, n)| inner.set(v, n));
    }
    let sizes = [Some(tile.columns), tile.rows];
    for &(var, size) in sizes.iter().flatten() {
        inner.set(var, size);
    }
    let bytes = |l: &Load, inner: &Extents| footprint(l, inner) * program.buf(l.buf).dtype.size() as f64;
    let mut whole: SmallVec<[f64; 4]> = loads.iter().map(|l| bytes(l, &inner)).collect();
    let mut moved = [whole.clone(), whole.clone()];
    for &var in chain.iter().rev() {
        let extent = leaf.output_loop(var).map_or(1, |l| l.extent);
        let size = sizes.iter().flatten().find(|s| s.0 == var).map_or(1, |s| s.1);
        // What one iteration touches is still there in the next, if it fits.
        let iteration: f64 = whole.iter().sum();
        inner.set(var, extent);
        for (w, l) in whole.iter_mut().zip(&loads).filter(|(_, l)| index_uses(&l.index, var)) {
            *w = bytes(l, &inner);
        }
        for (moved, cache) in moved.iter_mut().zip(machine.caches) {
            for (m, w) in moved.iter_mut().zip(&whole) {
                *m = if iteration <= 0.75 * cache { *w } else { *m * extent.div_ceil(size) as f64 };
            }
        }
    }
    moved.map(|m| m.iter().sum())
}
