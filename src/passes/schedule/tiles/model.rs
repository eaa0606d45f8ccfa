//! What a register tile of a contraction costs: cycles of a core that starts so many vector operations and loads per cycle,
//! and waits so long for a sum, as the machine's description says.
//!
//! Which tiles there are to compare is `choose`'s to know.

use nestjit_ir::{Affine, BufId, Index, Kind, Load, Program, Role, Var};
use smallvec::{SmallVec, smallvec};

use super::choose::TileKind;
use super::dot::{Group, Products, groups};
use super::leaf::{Computed, Contraction, Leaf, OutputLoop};
use super::machine::TileMachine;
use super::relayout::packable;
use crate::lanes;
use crate::passes::schedule::indices::stride;

/// Operations for dot products of a vector where they are several instructions: those that multiply and add pairs, and a
/// share of those that take bytes apart. Operands are two registers then.
const DOT_OPERATIONS: f64 = 4.0;

/// Cycles until a sum of dot products of bytes can be added to again (`vpdpbusd` of Ice Lake: uops.info), and one of products
/// of integers, whose addition is quick.
const DOT_LATENCY: f64 = 5.0;
const INTEGER_LATENCY: f64 = 4.0;

/// Cycles to bring a byte into all lanes.
const SPREAD_CYCLES: f64 = 2.0;

/// The share of the time of the less busy of two units that the busier one waits for it.
const OVERLAP: f64 = 0.1;

/// The share of the lines of a set that rows may take, so that they stay until all of their elements are read.
const SET_SHARE: f64 = 0.75;

/// A choice of rows.
#[derive(Clone, Copy)]
pub struct TileRows<'a> {
    pub of: &'a OutputLoop,
    /// Iterations that a tile holds.
    pub tile: usize,
    /// From how many rows on operands push each other out of the first-level cache.
    pub crowded: f64,
    /// What [`TileModel::moves`] says of them.
    pub moves: &'a [Moves],
}

/// What rows, if there are any, and columns are to an operand.
pub(super) struct Moves {
    /// Whether each row reads other elements.
    by_row: bool,
    /// The indices by which a tile moves it.
    dims: SmallVec<[Moved; 4]>,
}

/// An index of an operand, whose values in a tile are counted as [`super::leaf::footprint`] counts them.
struct Moved {
    /// How many values the loops that are reduced over give it, and how far apart the first and the last one are, if that
    /// can be counted.
    values: f64,
    span: Option<i64>,
    /// The coefficients of the columns and of the rows.
    columns: Option<i64>,
    rows: Option<i64>,
}

impl Moved {
    fn of(a: &Affine, reduced: &[(Var, usize)], columns: Var, rows: Option<Var>) -> Moved {
        let mut moved = Moved { values: 1.0, span: Some(0), columns: None, rows: None };
        for &(v, c) in a.terms() {
            if rows == Some(v) {
                moved.rows = Some(c);
            } else if v == columns {
                moved.columns = Some(c);
            } else if let Some(&(_, extent)) = reduced.iter().rev().find(|r| r.0 == v) {
                moved.add(extent, c);
            }
        }
        moved
    }

    fn add(&mut self, extent: usize, coefficient: i64) {
        self.values *= extent as f64;
        let last = extent.checked_sub(1).and_then(|last| i64::try_from(last).ok());
        let width = last.and_then(|last| coefficient.checked_mul(last)?.checked_abs());
        self.span = self.span.zip(width).and_then(|(span, width)| span.checked_add(width));
    }

    /// How many values it has in a tile.
    fn in_tile(&self, width: usize, height: usize) -> f64 {
        let mut moved = Moved { ..*self };
        for (extent, coefficient) in [(width, self.columns), (height, self.rows)] {
            coefficient.into_iter().for_each(|c| moved.add(extent, c));
        }
        moved.values.min(moved.span.map_or(1.0, |span| span as f64 + 1.0))
    }
}

/// The cost model for one choice of the vectorised loop.
pub struct TileModel<'a> {
    leaf: &'a Leaf,
    columns: Var,
    machine: &'a TileMachine,
    contractions: Vec<Steps<'a>>,
    /// What columns are to each operand.
    alone: Vec<Moves>,
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
    operands: Vec<TileOperand<'a>>,
    /// Factors that are computed.
    computed: &'a [Computed],
}

/// A load of a contraction, as the vectorised loop sees it.
struct TileOperand<'a> {
    load: &'a Load,
    /// Bytes of an element.
    size: usize,
    /// The same, or of those of a dot product.
    bytes: usize,
    /// Whether lanes read different elements.
    along: bool,
    /// Whether these are neighbours.
    contiguous: bool,
    /// Whether they are extended when they are loaded, which a multiply-add cannot do on the way.
    widened: bool,
    /// How many lines of the cache a vector of them lies in, on average.
    lines: f64,
    /// Loops of the path that move it as far as a loop of the reduction, and the extents of these: neighbouring rows read
    /// the same elements in neighbouring steps.
    overlaps: Vec<(Var, usize)>,
}

impl<'a> TileModel<'a> {
    pub fn new(
        program: &Program,
        leaf: &'a Leaf,
        machine: &'a TileMachine,
        columns: Var,
        kind: TileKind,
    ) -> TileModel<'a> {
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
            let aligned = packed || !along || is_aligned(program, leaf, load, (c, columns), machine.lanes);
            let lines = if aligned { 1.0 } else { 1.0 + ((machine.lanes - 1) * size) as f64 / machine.line };
            let overlaps = overlaps(load, c);
            TileOperand { load, size, bytes, along, contiguous, widened, lines, overlaps }
        };
        let groups = groups(program, leaf, columns, (machine, kind));
        let spread = !machine.dot && groups.iter().flatten().any(|g| g.of == Products::Bytes);
        let contractions = leaf
            .contractions
            .iter()
            .zip(groups)
            .map(|(c, group)| {
                let registers = lanes::registers(c.sum);
                let (operations, latency) = match (group.map(|g| g.of), c.sum.kind()) {
                    (Some(Products::Halves), _) => (1.0, machine.fma_latency + 2.0),
                    (Some(Products::Bytes), _) if machine.dot => (1.0, DOT_LATENCY),
                    (Some(Products::Bytes), _) => (DOT_OPERATIONS, DOT_LATENCY),
                    (None, Kind::Float) => (1.0, machine.fma_latency),
                    // Bytes are widened, then one instruction multiplies and adds.
                    (None, _) if c.products == Some(Products::Bytes) && machine.dot => (2.0, DOT_LATENCY),
                    // Multiplied and added by two instructions, the first of which is slow.
                    (None, Kind::Signed | Kind::Unsigned | Kind::Bool) => (4.0, INTEGER_LATENCY),
                };
                let cycles = operations * machine.op_cycles;
                let count = group.map_or(c.steps(), |g| g.steps(c)) as f64;
                let operands = c.loads.iter().map(|l| operand(l, c, group)).collect();
                let cycles = cycles * registers as f64;
                Steps { count, cycles, latency, registers, operands, computed: &c.computed }
            })
            .collect();
        let (adjacent, apart): (Vec<_>, Vec<_>) = leaf.epilogue.iter().partition(|(b, i)| unit(*b, i));
        let along = |(buf, index): &(BufId, Vec<Index>)| -> Vec<Var> {
            let exchanged = lanes::exchanged(program.buf(*buf).dtype);
            let adjacent = |l: &&OutputLoop| exchanged && stride(program, *buf, index, l.var) == Some(1);
            leaf.path.iter().filter(adjacent).map(|l| l.var).collect()
        };
        let apart = apart.into_iter().map(along).collect();
        let offsets = offsets(leaf, machine, columns);
        let epilogue = machine.load_cycles * adjacent.len() as f64;
        let alone = moves(leaf, columns, None);
        TileModel { leaf, columns, machine, contractions, alone, spread, offsets, epilogue, apart, copies }
    }

    /// What rows of this loop, or none, and the columns are to each operand, those of all contractions in turn.
    pub fn moves(&self, rows: Option<Var>) -> Vec<Moves> {
        moves(self.leaf, self.columns, rows)
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
    pub fn fits(&self, of: Option<TileRows<'_>>, vectors: usize) -> bool {
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
    pub fn crowded(&self, program: &Program, rows: Var) -> f64 {
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
    pub fn cost(&self, columns: &OutputLoop, width: usize, rows: Option<TileRows<'_>>) -> f64 {
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

    fn tile(&self, width: usize, height: usize, rows: Option<TileRows<'_>>) -> f64 {
        let (lanes, load) = (self.machine.lanes, self.machine.load_cycles);
        // A ragged last vector costs more than a full one: masks, or element by element.
        let ragged = if width.is_multiple_of(lanes) { 0.0 } else { 0.5 };
        let (vectors, height) = (width.div_ceil(lanes) as f64 + ragged, height as f64);
        let products = vectors * height;
        let mut cycles = 10.0 + products * (1.0 + self.epilogue(rows.map(|r| r.of.var), height));
        let mut moves = rows.map_or(&*self.alone, |r| r.moves).iter();
        for Steps { count, cycles: each, latency, operands, computed, .. } in &self.contractions {
            let crowded = rows.is_some_and(|r| height > r.crowded);
            let mut loads = 0.0;
            for (o, moves) in operands.iter().zip(&mut moves) {
                let times = if moves.by_row { height } else { 1.0 };
                // Columns of operands that do not stay in the first-level cache come from the second.
                let room = 0.5 * self.machine.caches[0];
                let panel = times * count * (width * o.bytes) as f64;
                let missed = self.machine.panel_byte_cycles * (lanes * o.bytes) as f64;
                // Windows overlap.
                let misses = panel > room && (times == 1.0 || moves.panel(o, width, times as usize) > room);
                let column = if misses { missed.max(load) } else { load };
                let guard = if o.load.otherwise.is_some() { 2.0 } else { 1.0 };
                loads += times
                    * guard
                    * match (o.along, o.contiguous) {
                        (false, _) if crowded => 2.0 * load,
                        (false, _) => load,
                        (true, true) if o.widened => {
                            vectors
                                * column.max((1.0 + o.lines) * load)
                                * self.loaded(o, vectors, height, rows)
                        }
                        (true, true) => vectors * column.max(o.lines * load),
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
                loads += (self.machine.op_cycles * factor.operations + spread) * vectors * height;
            }
            // The units work side by side, but never perfectly.
            let (more, less) = ((products * each).max(loads), (products * each).min(loads));
            cycles += count * (0.25 + (more + OVERLAP * less).max(*latency));
        }
        cycles
    }

    /// The share of the elements of an operand that are loaded, if what overlapping windows share stays in registers.
    fn loaded(&self, o: &TileOperand<'_>, vectors: f64, height: f64, rows: Option<TileRows<'_>>) -> f64 {
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

impl Moves {
    /// The bytes of the operand that a tile of so many columns and rows reads.
    fn panel(&self, o: &TileOperand<'_>, width: usize, height: usize) -> f64 {
        self.dims.iter().map(|dim| dim.in_tile(width, height)).product::<f64>() * o.size as f64
    }
}

fn moves(leaf: &Leaf, columns: Var, rows: Option<Var>) -> Vec<Moves> {
    let of = |load: &Load, c: &Contraction| {
        let affine = load.index.iter().filter_map(Index::as_affine);
        Moves {
            by_row: rows.is_some_and(|rows| leaf.varies(load, rows)),
            dims: affine.map(|a| Moved::of(a, &c.reduced, columns, rows)).collect(),
        }
    };
    leaf.contractions.iter().flat_map(|c| c.loads.iter().map(move |l| of(l, c))).collect()
}

/// Whether vectors of an operand along the columns start where a vector does, in every iteration of all other loops: windows
/// along the columns do not, and neither do rows whose lengths vectors do not divide.
fn is_aligned(
    program: &Program,
    leaf: &Leaf,
    load: &Load,
    (c, columns): (&Contraction, Var),
    lanes: usize,
) -> bool {
    let others = leaf.path.iter().map(|l| l.var).filter(|&v| v != columns);
    others.chain(c.reduced.iter().map(|r| r.0)).all(|v| {
        stride(program, load.buf, &load.index, v)
            .is_some_and(|s| s.unsigned_abs().is_multiple_of(lanes as u64))
    })
}

/// What is subtracted from parts of integers, if there are such factors: it is loaded once for many steps. Where bits become
/// a number in one instruction, each part has an offset of its own.
fn offsets<'a>(leaf: &'a Leaf, machine: &TileMachine, columns: Var) -> Option<Vec<&'a Load>> {
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
pub fn parts(extent: usize, tile: usize) -> SmallVec<[(usize, usize); 2]> {
    let mut parts = SmallVec::new();
    if extent / tile > 0 {
        parts.push((tile, extent / tile));
    }
    if !extent.is_multiple_of(tile) {
        parts.push((extent % tile, 1));
    }
    parts
}
