//! Matrix tiles (AMX): whether a contraction of bytes or of `bf16` is computed in them, and at what cost.
//!
//! A block of 32 x 32 sums is two by two tiles, which take all that there are together with those of the operands. It
//! lies in memory between what starts the sums, the products and the epilogue; the loop of its rows is a loop like any other.
//! Code generation recognises the result by its strides (`codegen/vcode/select/matrix.rs`); what is asked of a contraction
//! here is what it needs there.

use nestjit_ir::{Index, Load, Program, Var};

use super::choose::{Tile, TileKind, usable_columns};
use super::dot::{Group, groups};
use super::leaf::{Leaf, OutputLoop};
use super::machine::TileMachine;
use super::model::{TileModel, parts};
use crate::lanes;

/// Rows and columns of a block.
pub const SIDE: usize = 32;
/// Rows and columns of a tile.
const TILE: usize = lanes::TILE_ROWS;

/// The share of the peak of the multiplier that blocks reach in loops, loads of operands included (measured on Granite
/// Rapids with operands in the second-level cache: 3,881 of 6,803 billion operations per second).
const SHARE: f64 = 0.57;
/// Cycles for a row of a tile of sums: it is stored, loaded into the tile, stored again and loaded by the epilogue.
const ROW_CYCLES: f64 = 3.0;
/// Cycles for a vector of sums in memory and a group that is left to dot products.
const REST_CYCLES: f64 = 2.0;
/// Cycles for the loops of a block.
const BLOCK_CYCLES: f64 = 60.0;

/// The best block for a leaf; `None` if tiles cannot compute it. The loops of a block are not `shared` with other leaves.
pub fn choose(
    program: &Program,
    leaf: &Leaf,
    machine: &TileMachine,
    shared: &dyn Fn(Var) -> bool,
) -> Option<Tile> {
    let [contraction] = leaf.contractions.as_slice() else { return None };
    if !(machine.tiles || machine.bf16_tiles) || contraction.loads.len() != 2 {
        return None;
    }
    let mut best: Option<Tile> = None;
    for columns in leaf.path.iter().filter(|l| !shared(l.var) && usable_columns(program, leaf, machine, l)) {
        let group = groups(program, leaf, columns.var, (machine, TileKind::Matrix))[0];
        let Some(group) = group else { continue };
        let model = TileModel::new(program, leaf, machine, columns.var, TileKind::Matrix);
        for rows in leaf.path.iter().filter(|l| l.var != columns.var && !shared(l.var)) {
            if !usable(program, leaf, columns, rows) {
                continue;
            }
            let (height, width) = (rows.extent.min(SIDE), columns.extent.min(SIDE));
            let block = |h: usize, w: usize| block(&model, leaf, &group, h, w);
            let mut cost = 0.0;
            for (h, n) in parts(rows.extent, height) {
                for (w, m) in parts(columns.extent, width) {
                    cost += (n * m) as f64 * block(h, w);
                }
            }
            let others = leaf.path.iter().filter(|l| l.var != columns.var && l.var != rows.var);
            let cost = others.map(|l| l.extent as f64).product::<f64>() * cost + model.copies();
            if best.is_none_or(|b| cost < b.cost) {
                let rows = Some((rows.var, height));
                best = Some(Tile { columns: (columns.var, width), rows, kind: TileKind::Matrix, cost });
            }
        }
    }
    best
}

/// Whether the loads are those of tiles for these rows and columns: nothing is guarded, each operand moves with one of them.
fn usable(program: &Program, leaf: &Leaf, columns: &OutputLoop, rows: &OutputLoop) -> bool {
    let plain = |l: &Load| l.otherwise.is_none() && l.index.iter().all(|i| matches!(i, Index::Affine(_)));
    let loads = &leaf.contractions[0].loads;
    let moves = |l: &Load| (leaf.varies(l, rows.var), leaf.varies(l, columns.var));
    let apart = matches!(
        (moves(&loads[0]), moves(&loads[1])),
        ((true, false), (false, true)) | ((false, true), (true, false))
    );
    // A block of each local that they enclose would be too much memory but for the sums.
    let small = [columns, rows].iter().all(|l| leaf.enclosed_bytes(program, l.var) <= size_of::<f64>());
    rows.jammable && rows.extent > 1 && small && loads.iter().all(plain) && apart
}

/// Cycles for a block of so many rows and columns.
fn block(model: &TileModel<'_>, leaf: &Leaf, group: &Group, height: usize, width: usize) -> f64 {
    let groups = group.along.1 / group.size();
    let tail = usize::from(!group.along.1.is_multiple_of(group.size()));
    let at_once = lanes::tile_groups(groups);
    let steps = groups.checked_div(at_once).unwrap_or(0);
    let rest = groups - steps * at_once;
    // How often the loop that is cut into groups runs.
    let times = leaf.contractions[0].steps() as f64 / group.along.1.max(1) as f64;
    let (high, wide) = (height.div_ceil(TILE), width.div_ceil(TILE));
    let products = (height * wide * steps) as f64 / SHARE;
    // A part that is not full takes as long to load.
    let loads = (8 * (high + wide) * steps) as f64;
    let vectors = (height * wide) as f64;
    let left = REST_CYCLES * vectors * (rest + tail) as f64;
    let epilogue = vectors * (1.0 + model.epilogue(None, height as f64));
    times * (products.max(loads) + left) + ROW_CYCLES * vectors + epilogue + BLOCK_CYCLES
}
