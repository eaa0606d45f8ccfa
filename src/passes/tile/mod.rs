//! Tile: contractions become register tiles.
//!
//! Which contractions there are, which tiles suit them and in which order their loops stand is found in `schedule::tiles`;
//! `pack` lays out constant operands, `associate` says which factors are multiplied first, `start` what sums of integers
//! start with, and `schedule::jam` rewrites the loops. Loops that are not part of a contraction are left to Vectorize.

mod associate;
mod pack;
mod start;

use nestjit_ir::excerpt::{Excerpt, Placement, Uses};
use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::visit::walk_stmts_mut;
use nestjit_ir::{BufId, For, Program, Role, Stmt, Var};

use self::pack::Wish;
use super::PassContext;
use super::each_nest::{Part, each_nest, each_nest_of};
use crate::error::Result;
use crate::passes::schedule::chain::{drop_unit_loops, rechain, unchain};
use crate::passes::schedule::indices::stride;
use crate::passes::schedule::jam::{Limits, PointKind, Split, jam};
use crate::passes::schedule::tiles::choose::{self, Tile, TileKind};
use crate::passes::schedule::tiles::dot::{self, Group};
use crate::passes::schedule::tiles::leaf::{Leaf, leaves};
use crate::passes::schedule::tiles::machine::TileMachine;
use crate::passes::schedule::tiles::order;
use crate::passes::schedule::tiles::relayout::packable;
use crate::remark::{Reason, Remark, Tiling};
use crate::unit::Unit;

/// Contractions with less than this share of the largest in their nest get small tiles.
const SMALL: f64 = 0.1;

/// Tiles every contraction for which that pays.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let machine = TileMachine::of(ctx.target);
    let limits = Limits { lanes: machine.lanes, unroll: 8 * machine.registers };
    let mut planned: Vec<(FastMap<Var, Split>, bool)> = Vec::new();
    let mut wishes = Vec::new();
    let placed = &mut |n, plan: &TilePlan, placement: &Placement| {
        wishes.extend(plan.wishes.iter().map(|w| Wish {
            nest: n,
            within: placement.var(w.within),
            buf: placement.buf(w.buf),
            layout: w.layout.clone(),
        }));
        let splits = plan.splits.iter().map(|(&v, &split)| (placement.var(v), split));
        planned.push((splits.collect(), plan.changed));
    };
    let plan = |part: &mut Part<'_>| plan(part, &machine);
    each_nest(&mut unit.program, ctx.threads, remarks, &|_, _| Vec::new(), &plan, placed);
    pack::grant(unit, &wishes);

    let splits_of = |n: usize, uses: &Uses| -> Vec<(Var, Split)> {
        let mut splits: Vec<_> =
            planned[n].0.iter().filter_map(|(&v, &split)| Some((uses.var(v)?, split))).collect();
        splits.sort_unstable_by_key(|s| s.0);
        splits
    };
    let hint = |n: usize, uses: &Uses| {
        let splits = splits_of(n, uses);
        splits
            .iter()
            .flat_map(|(v, split)| [[v.0 as u64, split.tile as u64], split.kind.words()].concat())
            .collect()
    };
    let cut = |part: &mut Part<'_>| {
        let splits: FastMap<Var, Split> = splits_of(part.at, part.uses).into_iter().collect();
        if !splits.is_empty() {
            part.body = jam(part.program, &splits, limits, std::mem::take(&mut part.body), 0);
        }
    };
    let is_cut = |n: usize, _: &[Stmt]| !planned[n].0.is_empty();
    each_nest_of(&mut unit.program, &is_cut, ctx.threads, remarks, &hint, &cut, &mut |_, (), _| {});
    Ok(planned.iter().any(|(splits, changed)| *changed || !splits.is_empty()))
}

/// What is to become of a nest.
struct TilePlan {
    /// How its loops are cut.
    splits: FastMap<Var, Split>,
    /// The layouts that it wants.
    wishes: Vec<Wish>,
    /// Whether its statements have changed.
    changed: bool,
}

/// Chooses the tiles of a nest, and puts its loops into the order for them.
fn plan(part: &mut Part<'_>, machine: &TileMachine) -> TilePlan {
    let program = &*part.program;
    let changed = drop_unit_loops(&mut part.body) | start::start(program, &mut part.body);
    let mut plan: FastMap<Var, Split> = FastMap::default();
    let mut wishes = Vec::new();
    let mut taken: FastSet<Var> = FastSet::default();
    let mut packed: FastSet<BufId> = FastSet::default();
    let mut leaves = leaves(program, &part.body);
    leaves.sort_by(|a, b| b.macs().total_cmp(&a.macs()));
    let most = leaves.first().map_or(0.0, Leaf::macs);
    for leaf in &leaves {
        // Little work (a border, say) gets little code, unless it shares the operand of much work.
        let constants: Vec<BufId> = constants(program, leaf).collect();
        let shared = constants.iter().any(|b| packed.contains(b));
        let small = leaf.macs() < SMALL * most && !shared;
        packed.extend(constants);
        let machine =
            &if small { TileMachine { registers: machine.registers / 2, ..*machine } } else { *machine };
        let others = leaves.iter().filter(|l| !std::ptr::eq(*l, leaf)).flat_map(|l| &l.path);
        let shared: FastSet<Var> = others.map(|l| l.var).collect();
        let kept: FastSet<Var> = taken.iter().copied().chain(apart(program, leaf, &leaves, most)).collect();
        let tile = choose::choose(program, leaf, machine, &plan, &kept, &shared).map(|(tile, _)| tile);
        part.remarks.push(remark(leaf, tile.as_ref()));
        let Some(tile) = tile else { continue };
        for (var, split) in tile.splits(machine) {
            plan.entry(var).or_insert(split);
        }
        taken.extend(leaf.path.iter().map(|l| l.var));
        let mut leaf = leaf.clone();
        let groups = dot::groups(program, &leaf, tile.columns.0, (machine, tile.kind));
        let cut = |g: &Group| Split { tile: g.size(), kind: PointKind::Group };
        plan.extend(groups.iter().flatten().map(|g| (g.along.0, cut(g))));
        for order in order::reduction_orders(program, &mut leaf, &groups) {
            reorder(&mut part.body, &order);
        }
        associate::associate(&mut part.body, &leaf, &tile, machine.lanes);
        wishes.extend(pack::wishes(program, &leaf, &tile, &groups, part.at));
        if let Some(order) = order::order(program, &leaf, &tile, machine) {
            reorder(&mut part.body, &order);
        }
    }
    TilePlan { splits: plan, wishes, changed }
}

/// The constants that a leaf multiplies with.
fn constants(program: &Program, leaf: &Leaf) -> impl Iterator<Item = BufId> {
    let loads = leaf.contractions.iter().flat_map(|c| &c.loads).map(|l| l.buf);
    loads.filter(|b| program.buf(*b).role == Role::Const)
}

/// The loops around a leaf whose operands are neighbours along them that are around others too, whose operands lie apart: their
/// iterations had better not be lanes.
fn apart<'a>(
    program: &'a Program,
    leaf: &'a Leaf,
    leaves: &'a [Leaf],
    most: f64,
) -> impl Iterator<Item = Var> + 'a {
    let others = move |l: &&Leaf| !std::ptr::eq(*l, leaf) && l.macs() >= SMALL * most;
    let lies_apart = move |other: &Leaf, var: Var| {
        let mut loads = other.contractions.iter().flat_map(|c| &c.loads);
        loads.any(|load| {
            other.varies(load, var)
                && !matches!(stride(program, load.buf, &load.index, var), Some(0 | 1))
                && packable(program, other, load, var).is_none()
        })
    };
    leaf.path.iter().map(|l| l.var).filter(move |&var| !lies_apart(leaf, var)).filter(move |&var| {
        leaves.iter().filter(others).any(|other| other.output_loop(var).is_some() && lies_apart(other, var))
    })
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

fn remark(leaf: &Leaf, tile: Option<&Tile>) -> Remark {
    let blocked = leaf.path.iter().find(|l| !l.jammable);
    let tiling = match (tile, blocked) {
        (Some(Tile { kind, rows, columns, .. }), _) => {
            Tiling::Made { matrix: *kind == TileKind::Matrix, rows: *rows, columns: *columns }
        }
        (None, Some(l)) => Tiling::Dependence(l.var),
        (None, None) => Tiling::NoUnitStride,
    };
    Remark::nest(Excerpt::NEST, Reason::Tile(tiling))
}
