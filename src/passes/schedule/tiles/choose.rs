//! Choosing register tiles, analytically.
//!
//! A tile is `rows x columns` accumulators of a contraction, columns in vectors. What it costs is estimated in
//! [`super::model`]; all full and remainder tiles of the loops are added up, so that tiles that divide the shape win. The
//! number of threads plays no part: results must not depend on it.

use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::{Kind, Load, Program, Var};

use super::leaf::{Contraction, Leaf, OutputLoop};
use super::machine::TileMachine;
use super::model::{TileModel, TileRows};
use super::{matrix, order};
use crate::passes::cost;
use crate::passes::schedule::indices::stride;
use crate::passes::schedule::jam::{PointKind, Split};

/// Where the sums of a tile are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TileKind {
    /// In vector registers.
    Vectors,
    /// In matrix tiles: see [`super::matrix`].
    Matrix,
}

/// A chosen register tile.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tile {
    /// The vectorised loop and how many of its iterations a tile holds.
    pub columns: (Var, usize),
    /// The loop of the rows, if there is one to tile.
    pub rows: Option<(Var, usize)>,
    /// Where its sums are.
    pub kind: TileKind,
    /// Estimated cycles for the whole leaf.
    pub cost: f64,
}

impl Tile {
    /// The splits that make the tile.
    pub fn splits(&self, machine: &TileMachine) -> Vec<(Var, Split)> {
        let vectors = self.columns.1.div_ceil(machine.lanes);
        let rows = self.rows.map_or(1, |r| r.1);
        let (columns, rows) = match self.kind {
            TileKind::Matrix => (PointKind::Vector, PointKind::Block),
            TileKind::Vectors if vectors > rows => (PointKind::Chunks(machine.lanes), PointKind::Rows),
            TileKind::Vectors => (PointKind::Vector, PointKind::Rows),
        };
        let mut splits = vec![(self.columns.0, Split { tile: self.columns.1, kind: columns })];
        splits.extend(self.rows.map(|(v, tile)| (v, Split { tile, kind: rows })));
        splits
    }
}

/// The share of the time for bringing operands into the second-level cache that computing does not hide.
const EXPOSED: f64 = 0.5;

/// Tiles that compute this many times as long as the best cannot make up for it by their traffic.
const WORTH: f64 = 1.4;

/// The best tile for a leaf by itself, and the estimated cycles with it, or without one, for computing and for bringing
/// operands into the caches.
pub fn estimate(program: &Program, leaf: &Leaf, machine: &TileMachine) -> (Option<Tile>, f64) {
    match choose(program, leaf, machine, &FastMap::default(), &FastSet::default(), &FastSet::default()) {
        Some((tile, cycles)) => (Some(tile), cycles),
        None => (None, untiled(program, leaf, machine)),
    }
}

/// The best tile for a leaf, and the estimated cycles with it for computing and for bringing operands into the caches;
/// `None` if computing the dot products one by one is estimated to be as good.
/// Loops in `fixed` are already cut, and stay as they are; other loops in `taken` are around tiles that cutting them would
/// multiply, those in `shared` around other leaves.
pub fn choose(
    program: &Program,
    leaf: &Leaf,
    machine: &TileMachine,
    fixed: &FastMap<Var, Split>,
    taken: &FastSet<Var>,
    shared: &FastSet<Var>,
) -> Option<(Tile, f64)> {
    let cut = |columns: bool| {
        let of_kind = |l: &OutputLoop| fixed.get(&l.var).filter(|s| s.kind.has_lanes() == columns);
        leaf.path.iter().find_map(|l| of_kind(l).map(|s| (l, s.tile)))
    };
    let (fixed_rows, fixed_columns) = (cut(false), cut(true));
    // The best tile of each width: the traffic of panels, which depends on the width above all, comes on top.
    let mut best: Vec<Tile> = Vec::new();
    let free: Vec<&OutputLoop> = leaf.path.iter().rev().filter(|l| !taken.contains(&l.var)).collect();
    let columns: Vec<&OutputLoop> = fixed_columns.map_or_else(|| free.clone(), |(l, _)| vec![l]);
    for &columns in columns.iter().filter(|l| usable_columns(program, leaf, machine, l)) {
        let model = TileModel::new(program, leaf, machine, columns.var, TileKind::Vectors);
        let mut consider = |rows: Option<TileRows<'_>>| {
            for vectors in 1..=columns.extent.div_ceil(machine.lanes) {
                if !model.fits(rows, vectors) {
                    break;
                }
                let width = (vectors * machine.lanes).min(columns.extent);
                if fixed_columns.is_some_and(|(_, tile)| tile != width) {
                    continue;
                }
                let cost = model.cost(columns, width, rows);
                let rows = rows.map(|r| (r.of.var, r.tile));
                let kind = TileKind::Vectors;
                let tile = Tile { columns: (columns.var, width), rows, kind, cost };
                match best.iter_mut().find(|b| b.columns == tile.columns) {
                    Some(b) if cost < b.cost => *b = tile,
                    Some(_) => {}
                    None => best.push(tile),
                }
            }
        };
        if let Some((of, tile)) = fixed_rows {
            let moves = model.moves(Some(of.var));
            consider(Some(TileRows { of, tile, crowded: model.crowded(program, of.var), moves: &moves }));
            continue;
        }
        consider(None);
        let usable = |l: &&&OutputLoop| l.var != columns.var && usable_rows(program, leaf, machine, l);
        for &of in free.iter().filter(usable) {
            let (crowded, moves) = (model.crowded(program, of.var), model.moves(Some(of.var)));
            for tile in 2..=of.extent.min(machine.registers) {
                consider(Some(TileRows { of, tile, crowded, moves: &moves }));
            }
        }
    }
    let least = best.iter().map(|t| t.cost).fold(f64::INFINITY, f64::min);
    let whole = |t: &Tile| t.cost + EXPOSED * order::misses(program, leaf, t, machine);
    let costs = best.into_iter().filter(|t| t.cost <= WORTH * least).map(|t| (whole(&t), t));
    let other = |v: Var| fixed_columns.is_some() || fixed.contains_key(&v) || shared.contains(&v);
    let matrix = matrix::choose(program, leaf, machine, &other).map(|t| (whole(&t), t));
    let (cycles, mut best) = costs.chain(matrix).min_by(|a, b| a.0.total_cmp(&b.0))?;
    if best.cost >= untiled(program, leaf, machine) {
        return None;
    }
    if fixed_rows.is_some() {
        best.rows = None;
    }
    Some((best, cycles))
}

pub fn usable_columns(program: &Program, leaf: &Leaf, machine: &TileMachine, l: &OutputLoop) -> bool {
    // A copy for each lane of the locals that the loop encloses stays in the second-level cache.
    let copies = machine.lanes.min(l.extent) * leaf.enclosed_bytes(program, l.var);
    l.jammable && l.vectorizable && l.extent > 1 && copies as f64 <= cost::L2_ROOM * machine.caches[1]
}

/// Rows that share no operand would only cost registers.
fn usable_rows(program: &Program, leaf: &Leaf, machine: &TileMachine, l: &OutputLoop) -> bool {
    let shared = |load: &Load| !leaf.varies(load, l.var);
    // Copies of what the loop encloses stay in the first-level cache.
    let light = leaf.enclosed_bytes(program, l.var) as f64 <= machine.caches[0] / 8.0;
    l.jammable && light && leaf.contractions.iter().all(|c| c.loads.iter().any(shared))
}

/// Cycles for the leaf without a tile: each output on its own, vectors along the reduction if they can be.
fn untiled(program: &Program, leaf: &Leaf, machine: &TileMachine) -> f64 {
    let outputs: f64 = leaf.path.iter().map(|l| l.extent as f64).product();
    let dot = |c: &Contraction| {
        let products = match c.sum.kind() {
            Kind::Float => 0.5,
            Kind::Signed | Kind::Unsigned | Kind::Bool => 2.0,
        };
        let Some(&(inner, extent)) = c.reduced.last() else { return 0.0 };
        let contiguous = c
            .loads
            .iter()
            .all(|l| l.otherwise.is_none() && matches!(stride(program, l.buf, &l.index, inner), Some(0 | 1)));
        let steps = c.steps() as f64;
        if contiguous && extent >= machine.lanes {
            10.0 + steps / machine.lanes as f64 * (c.loads.len() as f64 * 0.5).max(2.0 * products)
        } else {
            steps * 4.0
        }
    };
    outputs * (10.0 + leaf.contractions.iter().map(dot).sum::<f64>())
}
