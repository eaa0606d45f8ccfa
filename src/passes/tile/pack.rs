//! Physical layouts for operands, so that register tiles stream them.
//!
//! Layouts never change meaning; this module only sees to it that each reader of an operand gets a buffer in
//! the layout it asked for: constants are packed when they are bound, other operands are copied by statements
//! before the one that reads them.

use std::sync::Arc;

use nestjit_ir::hash::FastMap;
use nestjit_ir::visit::{replace_buf, walk_exprs, walk_loops, walk_stmts, walk_stmts_mut};
use nestjit_ir::{
    Affine, BufId, Expr, Index, Layout, Load, LoopKind, Program, Role, Stmt, Store, Var, indices,
};

use crate::passes::schedule::chain::{drop_unit_loops, looped};
use crate::passes::schedule::indices::index_uses;
use crate::passes::schedule::tiles::choose::Tile;
use crate::passes::schedule::tiles::dot::Group;
use crate::passes::schedule::tiles::leaf::Leaf;
use crate::passes::schedule::tiles::relayout::{packable, relayable};
use crate::unit::Unit;

/// A reader's wish: inside the loop over `within`, `buf` should be laid out like this.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wish {
    /// The nest's position.
    pub nest: usize,
    /// The innermost loop around all reads that the wish is for.
    pub within: Var,
    /// The operand.
    pub buf: BufId,
    /// The layout.
    pub layout: Layout,
}

/// What a tiled leaf wishes for its constant operands.
pub(super) fn wishes(
    program: &Program,
    leaf: &Leaf,
    tile: &Tile,
    groups: &[Option<Group>],
    nest: usize,
) -> Vec<Wish> {
    let Some(within) = leaf.path.last().map(|l| l.var) else { return Vec::new() };
    let mut wishes: Vec<Wish> = Vec::new();
    let path: Vec<Var> = leaf.path.iter().map(|l| l.var).collect();
    for (c, group) in leaf.contractions.iter().zip(groups) {
        let reduced: Vec<Var> = c.reduced.iter().map(|r| r.0).collect();
        for load in &c.loads {
            let wanted = match group {
                Some(group) => grouped(program, leaf, load, tile, &reduced, *group),
                None => wanted(program, leaf, load, tile, &reduced),
            };
            let wanted = wanted.unwrap_or_else(|| program.buf(load.buf).layout.clone());
            if program.buf(load.buf).role != Role::Local {
                wishes.push(Wish { nest, within, buf: load.buf, layout: wanted });
            }
        }
    }
    // What is read beside the contractions, in each step of a loop that stays within the tile.
    let carries = |index: &[Index]| leaf.path.iter().any(|l| !l.independent && index_uses(index, l.var));
    for (buf, index) in leaf.epilogue.iter().filter(|(_, index)| carries(index)) {
        let load = Load { buf: *buf, index: index.clone(), otherwise: None };
        if program.buf(*buf).role == Role::Const && leaf.varies(&load, tile.columns.0) {
            let layout = wanted(program, leaf, &load, tile, &path);
            let layout = layout.unwrap_or_else(|| program.buf(*buf).layout.clone());
            wishes.push(Wish { nest, within, buf: *buf, layout });
        }
    }
    // Reads of one constant that want different things keep what there is.
    let all = wishes.clone();
    wishes.retain(|w| {
        w.layout != program.buf(w.buf).layout && all.iter().all(|o| o.buf != w.buf || o.layout == w.layout)
    });
    wishes.dedup();
    wishes
}

/// What dot products want: the operand of the columns with the bytes of a group innermost, the other as it is.
fn grouped(
    program: &Program,
    leaf: &Leaf,
    load: &Load,
    tile: &Tile,
    reduced: &[Var],
    group: Group,
) -> Option<Layout> {
    let (var, size) = tile.columns;
    if !leaf.varies(load, var) {
        return None;
    }
    let dim = relayable(program, leaf, load, var)?;
    let panel = panel(program, leaf, load, dim, (var, size));
    let interleave = Some((group.dim, group.size()));
    Some(Layout { order: along(load, dim, reduced), panel, interleave })
}

fn wanted(program: &Program, leaf: &Leaf, load: &Load, tile: &Tile, reduced: &[Var]) -> Option<Layout> {
    let (var, size, vector) = match (packable(program, leaf, load, tile.columns.0), tile.rows) {
        (Some(_), _) => (tile.columns.0, tile.columns.1, true),
        (None, Some((var, size))) => (var, size, false),
        (None, None) => return None,
    };
    let constant = program.buf(load.buf).role == Role::Const;
    let dim = packable(program, leaf, load, var).filter(|_| constant || vector)?;
    let panel = panel(program, leaf, load, dim, (var, size));
    if !vector && panel.is_none() {
        return None;
    }
    Some(Layout { order: along(load, dim, reduced), panel, interleave: None })
}

/// Panels for the tiles of a loop that runs through `dim`, if these begin where panels do. Only what is packed at compile
/// time can be cut into panels.
fn panel(
    program: &Program,
    leaf: &Leaf,
    load: &Load,
    dim: usize,
    (var, size): (Var, usize),
) -> Option<(usize, usize)> {
    let buffer = program.buf(load.buf);
    let steps = |c: i64| i64::try_from(size).is_ok_and(|size| c % size == 0);
    let exact = load.index[dim].as_affine().is_some_and(|a| {
        steps(a.offset()) && a.terms().iter().all(|&(v, c)| if v == var { c == 1 } else { steps(c) })
    });
    let many = leaf.output_loop(var).is_some_and(|_| buffer.shape[dim] > size);
    (exact && many && buffer.role == Role::Const).then_some((dim, size))
}

/// The order in which `dim` lies innermost; then come the dimensions that the reduction runs through, in the order of
/// its loops.
fn along(load: &Load, dim: usize, reduced: &[Var]) -> Vec<usize> {
    let depth = |d: usize| match &load.index[d] {
        Index::Affine(a) => reduced.iter().rposition(|&v| a.uses(v)).map_or(0, |p| p + 1),
        Index::Value(_) => 0,
    };
    let mut order: Vec<usize> = (0..load.index.len()).filter(|&d| d != dim).collect();
    order.sort_by_key(|&d| depth(d));
    order.push(dim);
    order
}

/// Fulfils the wishes. A constant whose readers all wish for the same is laid out so; otherwise there will be
/// a buffer per layout, over the same data.
pub(super) fn grant(unit: &mut Unit, wishes: &[Wish]) {
    let mut readers: FastMap<BufId, usize> = FastMap::default();
    for nest in &unit.program.nests {
        count_reads(&nest.body, &mut readers);
    }
    let mut granted: FastMap<(BufId, Layout), BufId> = FastMap::default();
    let mut covered: FastMap<BufId, usize> = FastMap::default();
    for w in wishes {
        let mut reads = FastMap::default();
        let body = &unit.program.nests[w.nest].body;
        walk_stmts(body, &mut |s| {
            if let Stmt::For(l) = s
                && l.var == w.within
            {
                count_reads(&l.body, &mut reads);
            }
        });
        *covered.entry(w.buf).or_default() += reads.get(&w.buf).copied().unwrap_or(0);
    }
    for w in wishes {
        if unit.program.buf(w.buf).role != Role::Const {
            copied(unit, w);
            continue;
        }
        let key = (w.buf, w.layout.clone());
        let target = match granted.get(&key) {
            Some(&b) => b,
            None => {
                let taken = granted.keys().any(|k| k.0 == w.buf);
                let b = if !taken && covered.get(&w.buf) == readers.get(&w.buf) {
                    unit.program.buf_mut(w.buf).layout = w.layout.clone();
                    w.buf
                } else {
                    copy(unit, w.buf, &w.layout)
                };
                granted.insert(key, b);
                b
            }
        };
        if target != w.buf {
            redirect(&mut unit.program.nests[w.nest].body, w, target);
        }
    }
}

fn redirect(body: &mut [Stmt], w: &Wish, target: BufId) {
    walk_stmts_mut(body, &mut |s| {
        if let Stmt::For(l) = s
            && l.var == w.within
        {
            replace_buf(&mut l.body, w.buf, target);
        }
    });
}

/// Copies an operand that is not constant, before the statement that reads it.
fn copied(unit: &mut Unit, w: &Wish) {
    let program = &mut unit.program;
    let mut buffer = program.buf(w.buf).clone();
    let shape = buffer.shape.clone();
    buffer.name = program.unique_buffer_name(&format!("{}.packed", buffer.name));
    buffer.layout = w.layout.clone();
    buffer.role = Role::Temp;
    let new = program.add_buffer(buffer);
    let mut copy = match w.layout.interleave {
        Some(cut) => grouped_copy(program, w, new, &shape, cut),
        None => {
            let vars: Vec<Var> = (0..shape.len()).map(|d| program.add_var(format!("p{d}"))).collect();
            let store = Store { buf: new, index: indices(&vars), value: Expr::load(w.buf, &vars) };
            let loops = vars.iter().zip(&shape).rev();
            loops.fold(vec![Stmt::Store(store)], |body, (&var, &extent)| {
                vec![looped(var, extent, LoopKind::Serial, body)]
            })
        }
    };
    drop_unit_loops(&mut copy);
    let body = &mut program.nests[w.nest].body;
    let at = body.iter().position(|s| {
        let mut found = false;
        walk_loops(std::slice::from_ref(s), &mut |l| found |= l.var == w.within);
        found
    });
    if let Some(at) = at {
        redirect(&mut body[at..=at], w, new);
        body.splice(at..at, copy);
    }
}

/// A copy into an interleaved layout, in the order of its elements: whole groups first, then those that are not full. The
/// loop over the dimension that lies beside the groups is a vector loop.
fn grouped_copy(
    program: &mut Program,
    w: &Wish,
    new: BufId,
    shape: &[usize],
    (dim, group): (usize, usize),
) -> Vec<Stmt> {
    let (full, rest) = (shape[dim] / group, shape[dim] % group);
    let lanes = w.layout.order.last().copied().filter(|&d| d != dim);
    let mut out = Vec::new();
    for (count, first, size) in [(full, 0, group), (1, full * group, rest)] {
        if count == 0 || size == 0 {
            continue;
        }
        let vars: Vec<Var> = (0..shape.len()).map(|d| program.add_var(format!("p{d}"))).collect();
        let place = program.add_var("g");
        let at = |d: usize| match d == dim {
            true => Affine::term(vars[d], group as i64).plus(first as i64).add(&Affine::var(place)),
            false => Affine::var(vars[d]),
        };
        let index: Vec<Affine> = (0..shape.len()).map(at).collect();
        let store = Store { buf: new, index: indices(index.clone()), value: Expr::load(w.buf, index) };
        let mut body = vec![looped(place, size, LoopKind::Unrolled, vec![Stmt::Store(store)])];
        for &d in w.layout.order.iter().rev() {
            let kind = if Some(d) == lanes { LoopKind::Vector } else { LoopKind::Serial };
            body = vec![looped(vars[d], if d == dim { count } else { shape[d] }, kind, body)];
        }
        out.append(&mut body);
    }
    out
}

fn copy(unit: &mut Unit, buf: BufId, layout: &Layout) -> BufId {
    let mut buffer = unit.program.buf(buf).clone();
    buffer.name = unit.program.unique_buffer_name(&format!("{}.packed", buffer.name));
    buffer.layout = layout.clone();
    let new = unit.program.add_buffer(buffer);
    if let Some(data) = unit.consts.get(&buf) {
        let data = Arc::clone(data);
        unit.consts.insert(new, data);
    }
    new
}

fn count_reads(body: &[Stmt], reads: &mut FastMap<BufId, usize>) {
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            *reads.entry(l.buf).or_default() += 1;
        }
    });
    walk_stmts(body, &mut |s| {
        if let Stmt::Call(c) = s {
            for &b in &c.inputs {
                *reads.entry(b).or_default() += 1;
            }
        }
    });
}
