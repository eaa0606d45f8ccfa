//! Choosing register tiles, analytically.
//!
//! A tile is `rows x columns` accumulators of a contraction, columns in vectors. Its cost is counted in cycles
//! of a core that issues two vector operations and two loads per cycle with a multiply-add latency of four; all
//! full and remainder tiles of the loops are added up, so that tiles that divide the shape win. The number of
//! threads plays no part: results must not depend on it.

use std::collections::{HashMap, HashSet};

use nestjit_ir::{BufId, Index, Kind, Load, Program, Role, Var};
use smallvec::{SmallVec, smallvec};

use super::dot::{Group, Products, groups};
use super::jam::{PointKind, Split};
use super::leaf::{Computed, Contraction, Leaf, OutputLoop};
use super::machine::Machine;
use super::pack::packable;
use super::{matrix, order};
use crate::lanes;
use crate::passes::loops::stride;

/// Where the sums of a tile are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TileKind {
    /// In vector registers.
    Vectors,
    /// In matrix tiles: see [`super::matrix`].
    Matrix,
}

/// A chosen register tile.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tile {
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
    pub fn splits(&self, machine: &Machine) -> Vec<(Var, Split)> {
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

/// Cycles for dot products of a vector where they are several instructions: those that multiply and add pairs, and a share
/// of those that take bytes apart. Operands are two registers then.
const DOT_CYCLES: f64 = 2.0;

/// Cycles to bring a byte into all lanes.
const SPREAD_CYCLES: f64 = 2.0;

/// The share of the time of the less busy of two units that the busier one waits for it.
const OVERLAP: f64 = 0.1;

/// The share of the time for bringing operands into the second-level cache that computing does not hide.
const EXPOSED: f64 = 0.5;

/// Tiles that compute this many times as long as the best cannot make up for it by their traffic.
const WORTH: f64 = 1.4;

/// The share of the lines of a set that rows may take, so that they stay until all of their elements are read.
const SET_SHARE: f64 = 0.75;

/// The best tile for a leaf by itself, and the estimated cycles with it, or without one, for computing and for bringing
/// operands into the caches.
pub(super) fn estimate(program: &Program, leaf: &Leaf, machine: &Machine) -> (Option<Tile>, f64) {
    match choose(program, leaf, machine, &HashMap::new(), &HashSet::new(), &HashSet::new()) {
        Some((tile, cycles)) => (Some(tile), cycles),
        None => (None, untiled(program, leaf, machine)),
    }
}

/// The best tile for a leaf, and the estimated cycles with it for computing and for bringing operands into the caches;
/// `None` if computing the dot products one by one is estimated to be as good.
/// Loops in `fixed` are already cut, and stay as they are; other loops in `taken` are around tiles that cutting them would
/// multiply, those in `shared` around other leaves.
pub(super) fn choose(
    program: &Program,
    leaf: &Leaf,
    machine: &Machine,
    fixed: &HashMap<Var, Split>,
    taken: &HashSet<Var>,
    shared: &HashSet<Var>,
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
        let model = Model::new(program, leaf, machine, columns.var, TileKind::Vectors);
        let mut consider = |rows: Option<Rows<'_>>| {
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
            consider(Some(Rows { of, tile, crowded: model.crowded(program, of.var) }));
            continue;
        }
        consider(None);
        let usable = |l: &&&OutputLoop| l.var != columns.var && usable_rows(program, leaf, machine, l);
        for &of in free.iter().filter(usable) {
            let crowded = model.crowded(program, of.var);
            for tile in 2..=of.extent.min(machine.registers) {
                consider(Some(Rows { of, tile, crowded }));
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

pub(super) fn usable_columns(program: &Program, leaf: &Leaf, machine: &Machine, l: &OutputLoop) -> bool {
    // A copy for each lane of the locals that the loop encloses stays in the second-level cache.
    let copies = machine.lanes.min(l.extent) * leaf.enclosed_bytes(program, l.var);
    l.jammable && l.vectorizable && l.extent > 1 && copies as f64 <= machine.caches[1] / 2.0
}

/// Rows that share no operand would only cost registers.
fn usable_rows(program: &Program, leaf: &Leaf, machine: &Machine, l: &OutputLoop) -> bool {
    let shared = |load: &Load| !leaf.varies(load, l.var);
    // Copies of what the loop encloses stay in the first-level cache.
    let light = leaf.enclosed_bytes(program, l.var) as f64 <= machine.caches[0] / 8.0;
    l.jammable && light && leaf.contractions.iter().all(|c| c.loads.iter().any(shared))
}

/// A choice of rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    of: &'a OutputLoop,
    /// Iterations that a tile holds.
    tile: usize,
    /// From how many rows on operands push each other out of the first-level cache.
    crowded: f64,
}

/// The cost model for one choice of the vectorised loop.
pub(super) struct Model<'a> {
    leaf: &'a Leaf,
    columns: Var,
    machine: &'a Machine,
    contractions: Vec<Steps<'a>>,
    /// Whether there are dot products that are several instructions.
    spread: bool,
    /// What is subtracted from parts of integers, a register for each vector, if there are such factors.
    offsets: Option<Vec<&'a Load>>,
    /// Cycles of the epilogue for each vector, and its accesses whose lanes lie apart: the loops of the path along
    /// which they are adjacent, so that a tile with rows of these can be transposed.
    epilogue: f64,
    apart: Vec<Vec<Var>>,
    /// Cycles for copying operands into another layout.
    copies: f64,
}

/// What a contraction does for one output.
struct Steps<'a> {
    /// How often a product is computed, or a dot product of several.
    count: f64,
    /// Cycles for a vector of products.
    cycles: f64,
    /// Cycles until a sum can be added to again.
    latency: f64,
    /// Registers for a vector of sums.
    registers: usize,
    operands: Vec<Operand<'a>>,
    /// Factors that are computed.
    computed: &'a [Computed],
}

/// A load of a contraction, as the vectorised loop sees it.
struct Operand<'a> {
    load: &'a Load,
    /// Bytes of an element, or of those of a dot product.
    bytes: usize,
    /// Whether lanes read different elements.
    along: bool,
    /// Whether these are neighbours.
    contiguous: bool,
    /// Whether they are extended when they are loaded, which a multiply-add cannot do on the way.
    widened: bool,
    /// Loops of the path that move it as far as a loop of the reduction, and the extents of these: neighbouring rows read
    /// the same elements in neighbouring steps.
    overlaps: Vec<(Var, usize)>,
}

impl<'a> Model<'a> {
    pub fn new(
        program: &Program,
        leaf: &'a Leaf,
        machine: &'a Machine,
        columns: Var,
        kind: TileKind,
    ) -> Model<'a> {
        let unit = |buf, index: &[Index]| matches!(stride(program, buf, index, columns), Some(0 | 1));
        let mut copies = 0.0;
        let overlaps = |load: &Load, c: &Contraction| {
            let step = |v: Var| stride(program, load.buf, &load.index, v).filter(|s| *s != 0);
            let window = |l: &OutputLoop| {
                let moved = step(l.var)?;
                c.reduced.iter().find(|r| step(r.0) == Some(moved)).map(|r| (l.var, r.1))
            };
            leaf.path.iter().filter_map(window).collect()
        };
        let mut operand = |load: &'a Load, c: &Contraction, group: Option<Group>| {
            let along = leaf.varies(load, columns);
            let packed = match group {
                Some(_) => along,
                None => packable(program, leaf, load, columns).is_some(),
            };
            if packed && program.buf(load.buf).role != Role::Const {
                copies += 2.0 * program.buf(load.buf).len() as f64;
            }
            let contiguous = packed || unit(load.buf, &load.index);
            let size = program.buf(load.buf).dtype.size();
            let bytes = size * group.map_or(1, |g| g.size());
            let widened = bytes < size_of::<f32>();
            Operand { load, bytes, along, contiguous, widened, overlaps: overlaps(load, c) }
        };
        let groups = groups(program, leaf, columns, (machine, kind));
        let spread = !machine.dot && groups.iter().flatten().any(|g| g.of == Products::Bytes);
        let contractions = leaf
            .contractions
            .iter()
            .zip(groups)
            .map(|(c, group)| {
                let registers = lanes::registers(c.sum);
                let (cycles, latency) = match (group.map(|g| g.of), c.sum.kind()) {
                    (Some(Products::Halves), _) => (0.5, 6.0),
                    (Some(Products::Bytes), _) if machine.dot => (0.5, 5.0),
                    (Some(Products::Bytes), _) => (DOT_CYCLES, 5.0),
                    (None, Kind::Float) => (0.5, 4.0),
                    // Bytes are widened, then one instruction multiplies and adds.
                    (None, _) if c.products == Some(Products::Bytes) && machine.dot => (1.0, 5.0),
                    // Multiplied and added by two instructions, the first of which is slow.
                    (None, Kind::Signed | Kind::Unsigned | Kind::Bool) => (2.0, 4.0),
                };
                let count = group.map_or(c.steps(), |g| g.steps(c)) as f64;
                let operands = c.loads.iter().map(|l| operand(l, c, group)).collect();
                let cycles = cycles * registers as f64;
                Steps { count, cycles, latency, registers, operands, computed: &c.computed }
            })
            .collect();
        let (adjacent, apart): (Vec<_>, Vec<_>) = leaf.epilogue.iter().partition(|(b, i)| unit(*b, i));
        let along = |(buf, index): &(BufId, Vec<Index>)| -> Vec<Var> {
            let adjacent = |l: &&OutputLoop| stride(program, *buf, index, l.var) == Some(1);
            leaf.path.iter().filter(adjacent).map(|l| l.var).collect()
        };
        let apart = apart.into_iter().map(along).collect();
        let offsets = offsets(leaf, machine, columns);
        let epilogue = 0.5 * adjacent.len() as f64;
        Model { leaf, columns, machine, contractions, spread, offsets, epilogue, apart, copies }
    }

    /// Cycles of the epilogue for each vector of a tile of so many rows.
    pub fn epilogue(&self, rows: Option<Var>, height: f64) -> f64 {
        let lanes = self.machine.lanes as f64;
        let apart = self.apart.iter().map(|along| match rows {
            Some(rows) if height > 1.0 && along.contains(&rows) => {
                // Half a shuffle in each step, and the accesses to whole rows.
                0.5 * lanes.log2() + (lanes / height).max(1.0)
            }
            _ => lanes,
        });
        self.epilogue + apart.sum::<f64>()
    }

    /// Cycles for copying operands into another layout.
    pub fn copies(&self) -> f64 {
        self.copies
    }

    /// Whether accumulators, operands and the epilogue's temporaries fit into the registers.
    fn fits(&self, of: Option<Rows<'_>>, vectors: usize) -> bool {
        let rows = of.map_or(1, |r| r.tile);
        // Several contractions may add to one sum.
        let mut sums: SmallVec<[BufId; 4]> = SmallVec::new();
        let mut accumulators = 0;
        for (c, steps) in self.leaf.contractions.iter().zip(&self.contractions) {
            if !sums.contains(&c.into) {
                sums.push(c.into);
                accumulators += steps.registers * rows * vectors;
            }
        }
        let width = self.contractions.iter().map(|c| c.registers).max().unwrap_or(1);
        let operands = width * (rows.min(vectors) + 1);
        // And one for products of pairs.
        let operands = if self.spread { 2 * operands + 1 } else { operands };
        let by_row = |load: &Load| of.is_some_and(|r| self.leaf.varies(load, r.of.var));
        let offset = |load: &&Load| vectors * if by_row(load) { rows } else { 1 };
        // And the integer and its part; and for a single row, which memory keeps busy with weights, the sums over blocks, to
        // which those of a block are added every few steps.
        let kept = if of.is_none() { 2 + accumulators } else { 2 };
        let parts = self.offsets.as_ref().map_or(0, |all| all.iter().map(offset).sum::<usize>() + kept);
        let operands = operands + parts;
        let epilogue = if self.leaf.heavy { 4 } else { 2 };
        rows * vectors == 1 || accumulators + operands.max(epilogue) <= self.machine.registers
    }

    /// How many rows of this loop the first-level cache keeps at once: the same element of each row of an operand
    /// may lie in the same set.
    fn crowded(&self, program: &Program, rows: Var) -> f64 {
        let distance = self.machine.set_distance;
        let ways = self.machine.caches[0] / distance as f64;
        let operands = self.contractions.iter().flat_map(|c| &c.operands).filter(|o| !o.along);
        let kept = operands.filter_map(|o| {
            let elements = stride(program, o.load.buf, &o.load.index, rows)?.unsigned_abs() as usize;
            let bytes = elements * program.buf(o.load.buf).dtype.size();
            // The largest power of two, as far as it matters, that divides the distance of rows.
            let apart = distance.min(1 << bytes.trailing_zeros().min(30));
            (bytes > 0).then(|| SET_SHARE * ways * (distance / apart) as f64)
        });
        kept.fold(f64::INFINITY, f64::min)
    }

    /// Cycles for all tiles, full and remaining.
    fn cost(&self, columns: &OutputLoop, width: usize, rows: Option<Rows<'_>>) -> f64 {
        let others: f64 = self
            .leaf
            .path
            .iter()
            .filter(|l| l.var != columns.var && rows.is_none_or(|r| r.of.var != l.var))
            .map(|l| l.extent as f64)
            .product();
        let column_parts = parts(columns.extent, width);
        let row_parts = rows.map_or(smallvec![(1, 1)], |r| parts(r.of.extent, r.tile));
        let mut total = 0.0;
        for &(width, n) in &column_parts {
            for &(height, m) in &row_parts {
                total += (n * m) as f64 * self.tile(width, height, rows);
            }
        }
        let pieces = (column_parts.len() * row_parts.len() - 1) as f64;
        others * total * (1.0 + 0.01 * pieces) + self.copies
    }

    fn tile(&self, width: usize, height: usize, rows: Option<Rows<'_>>) -> f64 {
        let lanes = self.machine.lanes;
        // A ragged last vector costs more than a full one: masks, or element by element.
        let ragged = if width.is_multiple_of(lanes) { 0.0 } else { 0.5 };
        let (vectors, height) = (width.div_ceil(lanes) as f64 + ragged, height as f64);
        let products = vectors * height;
        let mut cycles = 10.0 + products * (1.0 + self.epilogue(rows.map(|r| r.of.var), height));
        for Steps { count, cycles: each, latency, operands, computed, .. } in &self.contractions {
            let crowded = rows.is_some_and(|r| height > r.crowded);
            let mut loads = 0.0;
            for o in operands {
                // Columns of operands that do not stay in the first-level cache come from the second.
                let panel = count * (width * o.bytes) as f64;
                let missed = self.machine.panel_byte_cycles * (lanes * o.bytes) as f64;
                let column = if panel > 0.5 * self.machine.caches[0] { missed.max(0.5) } else { 0.5 };
                let times =
                    if rows.is_some_and(|r| self.leaf.varies(o.load, r.of.var)) { height } else { 1.0 };
                let guard = if o.load.otherwise.is_some() { 2.0 } else { 1.0 };
                loads += times
                    * guard
                    * match (o.along, o.contiguous) {
                        (false, _) if crowded => 1.0,
                        (false, _) => 0.5,
                        (true, true) if o.widened => {
                            vectors * column.max(1.0) * self.loaded(o, vectors, height, rows)
                        }
                        (true, true) => vectors * column,
                        (true, false) => vectors * 1.5 * lanes as f64,
                    };
            }
            // A factor is computed once for all rows or columns with which it does not vary, on units that multiply-adds
            // leave free.
            for factor in *computed {
                let along = self.leaf.varies(&factor.load, self.columns);
                let by_row = rows.is_some_and(|r| self.leaf.varies(&factor.load, r.of.var));
                let (vectors, height) =
                    (if along { vectors } else { 1.0 }, if by_row { height } else { 1.0 });
                // The same integer in all lanes: bytes are brought there through other registers.
                let spread = if factor.is_part && !along { SPREAD_CYCLES } else { 0.0 };
                loads += (0.5 * factor.operations + spread) * vectors * height;
            }
            // The units work side by side, but never perfectly.
            let (more, less) = ((products * each).max(loads), (products * each).min(loads));
            cycles += count * (0.25 + (more + OVERLAP * less).max(*latency));
        }
        cycles
    }

    /// The share of the elements of an operand that are loaded, if what overlapping windows share stays in registers.
    fn loaded(&self, o: &Operand<'_>, vectors: f64, height: f64, rows: Option<Rows<'_>>) -> f64 {
        let window = rows.and_then(|r| o.overlaps.iter().find(|w| w.0 == r.of.var));
        match window {
            // Beside the sums, there are a window's elements for each row, and the other operand.
            Some(&(_, extent)) => {
                let extent = extent as f64;
                let registers = vectors * (2.0 * height + extent);
                if registers > self.machine.registers as f64 {
                    return 1.0;
                }
                (height + extent - 1.0) / (height * extent)
            }
            None => 1.0,
        }
    }
}

/// What is subtracted from parts of integers, if there are such factors: it is loaded once for many steps. Where bits become
/// a number in one instruction, each part has an offset of its own.
fn offsets<'a>(leaf: &'a Leaf, machine: &Machine, columns: Var) -> Option<Vec<&'a Load>> {
    let computed = leaf.contractions.iter().flat_map(|c| &c.computed);
    let parts: Vec<&Computed> = computed.filter(|f| f.is_part).collect();
    let mut offsets: Vec<&Load> = Vec::new();
    for offset in parts.iter().flat_map(|f| &f.others).filter(|l| leaf.varies(l, columns)) {
        if machine.ternary || !offsets.contains(&offset) {
            offsets.push(offset);
        }
    }
    (!parts.is_empty()).then_some(offsets)
}

/// Tile sizes and how many of each.
pub(super) fn parts(extent: usize, tile: usize) -> SmallVec<[(usize, usize); 2]> {
    let mut parts = SmallVec::new();
    if extent / tile > 0 {
        parts.push((tile, extent / tile));
    }
    if !extent.is_multiple_of(tile) {
        parts.push((extent % tile, 1));
    }
    parts
}

/// Cycles for the leaf without a tile: each output on its own, vectors along the reduction if they can be.
fn untiled(program: &Program, leaf: &Leaf, machine: &Machine) -> f64 {
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
