//! Tile: contractions become register tiles.
//!
//! `leaf` finds contractions and the loops around them, `choose` picks tile sizes, `order` the loop order, `pack`
//! lays out constant operands for them, `associate` says which factors are multiplied first, `dot` which products of bytes
//! are added up in groups, `matrix` which of them in matrix tiles, `rounding` which operands become `bf16` before, `start` what sums of integers start with, `jam` rewrites the loops. Loops that are not part of a contraction are left to Vectorize.

mod associate;
mod choose;
pub(super) mod dot;
pub(super) mod jam;
pub(super) mod leaf;
mod machine;
mod matrix;
mod order;
mod pack;
pub(super) mod rounding;
mod start;

use std::collections::{HashMap, HashSet};

use nestjit_ir::visit::walk_stmts_mut;
use nestjit_ir::{BufId, For, Program, Role, Stmt, Var};

use self::choose::{Tile, TileKind};
use self::dot::Group;
use self::jam::{Limits, PointKind, Split};
use self::leaf::Leaf;
use self::machine::Machine;
use super::PassContext;
use super::loops::{drop_unit_loops, rechain, unchain};
use crate::error::Result;
use crate::unit::{Remark, Unit};

/// The name of the pass.
pub(super) const NAME: &str = "Tile";

/// Contractions with less than this share of the largest in their nest get small tiles.
const SMALL: f64 = 0.1;

/// Tiles every contraction for which that pays.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let machine = Machine::of(ctx.target);
    let limits = Limits { lanes: machine.lanes, unroll: 8 * machine.registers };
    let mut changed = false;
    let mut wishes = Vec::new();
    let mut plans = Vec::new();
    for n in 0..unit.program.nests.len() {
        let mut body = std::mem::take(&mut unit.program.nests[n].body);
        changed |= drop_unit_loops(&mut body) | start::start(&unit.program, &mut body);
        unit.program.nests[n].body = body;
        let mut plan: HashMap<Var, Split> = HashMap::new();
        let mut taken: HashSet<Var> = HashSet::new();
        let mut packed: HashSet<BufId> = HashSet::new();
        let mut leaves = leaf::leaves(&unit.program, &unit.program.nests[n].body);
        leaves.sort_by(|a, b| b.macs().total_cmp(&a.macs()));
        let most = leaves.first().map_or(0.0, Leaf::macs);
        for leaf in &leaves {
            // Little work (a border, say) gets little code, unless it shares the operand of much work.
            let constants: Vec<BufId> = constants(&unit.program, leaf).collect();
            let shared = constants.iter().any(|b| packed.contains(b));
            let small = leaf.macs() < SMALL * most && !shared;
            packed.extend(constants);
            let machine =
                if small { Machine { registers: machine.registers / 2, ..machine } } else { machine };
            let others = leaves.iter().filter(|l| !std::ptr::eq(*l, leaf)).flat_map(|l| &l.path);
            let shared: HashSet<Var> = others.map(|l| l.var).collect();
            let tile =
                choose::choose(&unit.program, leaf, &machine, &plan, &taken, &shared).map(|(tile, _)| tile);
            remarks.push(remark(unit, n, leaf, tile.as_ref()));
            let Some(tile) = tile else { continue };
            for (var, split) in tile.splits(&machine) {
                plan.entry(var).or_insert(split);
            }
            taken.extend(leaf.path.iter().map(|l| l.var));
            let mut leaf = leaf.clone();
            let groups = dot::groups(&unit.program, &leaf, tile.columns.0, (&machine, tile.kind));
            let cut = |g: &Group| Split { tile: g.size(), kind: PointKind::Group };
            plan.extend(groups.iter().flatten().map(|g| (g.along.0, cut(g))));
            for order in order::reduction_orders(&unit.program, &mut leaf, &groups) {
                reorder(&mut unit.program.nests[n].body, &order);
            }
            associate::associate(&mut unit.program.nests[n].body, &leaf, &tile, machine.lanes);
            wishes.extend(pack::wishes(&unit.program, &leaf, &tile, &groups, n));
            if let Some(order) = order::order(&unit.program, &leaf, &tile, &machine) {
                reorder(&mut unit.program.nests[n].body, &order);
            }
        }
        plans.push(plan);
    }
    pack::grant(unit, &wishes);
    for (n, plan) in plans.iter().enumerate() {
        if plan.is_empty() {
            continue;
        }
        changed = true;
        let body = std::mem::take(&mut unit.program.nests[n].body);
        unit.program.nests[n].body = jam::jam(&mut unit.program, plan, limits, body, 0);
    }
    Ok(changed)
}

/// The constants that a leaf multiplies with.
fn constants(program: &Program, leaf: &Leaf) -> impl Iterator<Item = BufId> {
    let loads = leaf.contractions.iter().flat_map(|c| &c.loads).map(|l| l.buf);
    loads.filter(|b| program.buf(*b).role == Role::Const)
}

/// Puts the loops of a perfect chain into this order, outermost first. The chain starts with one of them.
fn reorder(body: &mut [Stmt], order: &[Var]) {
    let mut done = false;
    walk_stmts_mut(body, &mut |s| {
        let Stmt::For(l) = s else { return };
        if done || !order.contains(&l.var) || !starts_chain(l, order) {
            return;
        }
        let empty = For { var: l.var, extent: 0, kind: l.kind, body: Vec::new() };
        let (mut chain, inner) = unchain(std::mem::replace(l, empty));
        chain.sort_by_key(|l| order.iter().position(|&v| v == l.var).unwrap_or(usize::MAX));
        if let Some(new) = rechain(chain, inner).pop() {
            *s = new;
            done = true;
        }
    });
}

/// Whether the perfect chain from `l` inwards consists of all the loops of `order`, followed by others.
fn starts_chain(l: &For, order: &[Var]) -> bool {
    let mut found = 0;
    let mut current = l;
    loop {
        found += usize::from(order.contains(&current.var));
        match current.body.as_slice() {
            [Stmt::For(next)] if order.contains(&next.var) => current = next,
            _ => return found == order.len(),
        }
    }
}

fn remark(unit: &Unit, nest: usize, leaf: &Leaf, tile: Option<&Tile>) -> Remark {
    let program = &unit.program;
    let blocked = leaf.path.iter().find(|l| !l.jammable);
    let (code, message) = match (tile, blocked) {
        (Some(t), _) => {
            let rows = t.rows.map_or(1, |r| r.1);
            let what = if t.kind == TileKind::Matrix { "block of matrix tiles" } else { "tile" };
            let message = format!(
                "{what} {rows}x{} over {}{}",
                t.columns.1,
                t.rows.map(|r| format!("{} x ", program.var_name(r.0))).unwrap_or_default(),
                program.var_name(t.columns.0),
            );
            ("tile", message)
        }
        (None, Some(l)) => (
            "dependence",
            format!("not tiled: iterations of {} depend on each other", program.var_name(l.var)),
        ),
        (None, None) => {
            ("no-unit-stride", "not tiled: no output loop is contiguous in the operands".to_owned())
        }
    };
    Remark {
        pass: NAME,
        code,
        producer: program.nests[nest].name.clone(),
        consumer: None,
        bytes: 0,
        applied: tile.is_some(),
        message,
    }
}
