//! Unroll and jam: loops are cut into tiles, and the loops over a tile become the innermost loops of every
//! statement.
//!
//! The rewriting only; that the loops are independent (or carry reductions only) is the caller's to know, and
//! which loops to cut, by how much, is decided in `choose`.

use nestjit_ir::hash::FastMap;
use nestjit_ir::visit::{
    fresh_copy, subst_var, walk_exprs, walk_exprs_mut, walk_loops, walk_stmts, walk_stmts_mut,
};
use nestjit_ir::{Affine, BufId, Expr, For, Index, Layout, LoopKind, Program, Stmt, Var};

use crate::passes::schedule::chain::{has_loop, looped};

/// How one loop is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Split {
    /// Iterations of a full tile; the rest becomes a smaller tile.
    pub tile: usize,
    /// What the loop over the tile is.
    pub kind: PointKind,
}

/// What the loop over a tile is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PointKind {
    /// Unrolled rows.
    Rows,
    /// Rows of a block that stays in memory: a loop.
    Block,
    /// One vector loop, innermost.
    Vector,
    /// Vector loops of this many lanes, each within an unrolled loop outside the rows: for tiles that have
    /// more vectors than rows, so that only one operand vector is live at a time.
    Chunks(usize),
    /// The terms of a sum that are added up together: innermost, within the vector.
    Group,
}

impl PointKind {
    /// Whether the iterations of a tile are lanes.
    pub fn has_lanes(self) -> bool {
        match self {
            PointKind::Vector | PointKind::Chunks(_) => true,
            PointKind::Rows | PointKind::Block | PointKind::Group => false,
        }
    }

    /// What tells kinds apart, as numbers.
    pub fn words(self) -> [u64; 2] {
        match self {
            PointKind::Rows => [0, 0],
            PointKind::Block => [1, 0],
            PointKind::Vector => [2, 0],
            PointKind::Chunks(lanes) => [3, lanes as u64],
            PointKind::Group => [4, 0],
        }
    }
}

/// What the rewriting needs to know besides the splits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `f32` elements of a register.
    pub lanes: usize,
    /// How many vector statements an unrolled loop inside a tile may become.
    pub unroll: usize,
}

/// A loop over a tile that waits to be wrapped around statements. Its variable is a placeholder: each wrapped
/// group gets a variable of its own.
#[derive(Clone, Debug)]
struct Point {
    var: Var,
    extent: usize,
    kind: LoopKind,
    /// Points with a smaller depth are wrapped further out.
    depth: u8,
}

/// Cuts the loops of `splits` wherever they occur in `body`, which stands inside `depth` loops.
pub fn jam(
    program: &mut Program,
    splits: &FastMap<Var, Split>,
    limits: Limits,
    body: Vec<Stmt>,
    depth: usize,
) -> Vec<Stmt> {
    Jam { program, splits: splits.clone(), limits, depth }.outer(body)
}

struct Jam<'a> {
    program: &'a mut Program,
    /// Grows when loops are copied for remainders.
    splits: FastMap<Var, Split>,
    limits: Limits,
    /// How many loops are around the statements at hand, those over points aside.
    depth: usize,
}

impl Jam<'_> {
    /// Statements that no tile is around.
    fn outer(&mut self, stmts: Vec<Stmt>) -> Vec<Stmt> {
        let mut out = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::For(l) if self.splits.contains_key(&l.var) => out.extend(self.split(l, &[])),
                Stmt::For(mut l) => {
                    self.depth += 1;
                    l.body = self.outer(l.body);
                    self.depth -= 1;
                    out.push(Stmt::For(l));
                }
                other => out.push(other),
            }
        }
        out
    }

    /// Cuts a loop: full tiles, then the remainder. A part that runs once is not a loop any more, except that
    /// locals are not declared outside of all loops: threads would share them.
    fn split(&mut self, l: For, points: &[Point]) -> Vec<Stmt> {
        let split = self.splits[&l.var];
        let (full, rest) = (l.extent / split.tile, l.extent % split.tile);
        let rest_body = match (full, rest) {
            (_, 0) => Vec::new(),
            (0, _) => l.body.clone(),
            _ => self.copy(&l.body),
        };
        let name = self.program.var_name(l.var).to_owned();
        let mut out = Vec::new();
        if full > 0 {
            let tile_var = self.program.add_var(format!("{name}o"));
            let base =
                if full == 1 { Affine::constant(0) } else { Affine::term(tile_var, split.tile as i64) };
            self.depth += usize::from(full > 1);
            let inner = self.part(l.body, l.var, base, split, split.tile, points);
            self.depth -= usize::from(full > 1);
            if split.kind == PointKind::Group && full > 1 {
                let l = For { var: tile_var, extent: full, kind: LoopKind::Serial, body: inner };
                out.extend(self.inner_loop(l, points, split.tile));
            } else {
                self.emit(tile_var, full, inner, points, &mut out);
            }
        }
        if rest > 0 {
            let tile_var = self.program.add_var(format!("{name}o"));
            let base = Affine::constant((full * split.tile) as i64);
            let inner = self.part(rest_body, l.var, base, split, rest, points);
            self.emit(tile_var, 1, inner, points, &mut out);
        }
        out
    }

    /// A copy with loops of its own, to be cut as the originals are.
    fn copy(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        let copy = fresh_copy(self.program, body);
        let (mut from, mut to) = (Vec::new(), Vec::new());
        walk_loops(body, &mut |l| from.push(l.var));
        walk_loops(&copy, &mut |l| to.push(l.var));
        for (old, new) in from.iter().zip(to) {
            if let Some(&split) = self.splits.get(old) {
                self.splits.insert(new, split);
            }
        }
        copy
    }

    fn emit(&mut self, var: Var, extent: usize, inner: Vec<Stmt>, points: &[Point], out: &mut Vec<Stmt>) {
        let outermost = self.depth == 0 && points.is_empty();
        let scoped = outermost && inner.iter().any(|s| matches!(s, Stmt::Temp(_)));
        if extent > 1 || scoped {
            out.push(looped(var, extent, LoopKind::Serial, inner));
        } else {
            out.extend(inner);
        }
    }

    /// One tile: `base + the points` replaces the variable.
    fn part(
        &mut self,
        mut body: Vec<Stmt>,
        var: Var,
        base: Affine,
        split: Split,
        tile: usize,
        points: &[Point],
    ) -> Vec<Stmt> {
        let name = self.program.var_name(var).to_owned();
        let mut new = Vec::new();
        let mut point = |program: &mut Program, suffix: &str, extent, kind, depth| {
            let var = program.add_var(format!("{name}{suffix}"));
            new.push(Point { var, extent, kind, depth });
            var
        };
        let index = match split.kind {
            // A single row needs no loop.
            PointKind::Rows | PointKind::Block | PointKind::Group if tile == 1 => base,
            PointKind::Group => base.add(&point(self.program, "g", tile, LoopKind::Unrolled, 3).into()),
            PointKind::Block => base.add(&point(self.program, "i", tile, LoopKind::Serial, 1).into()),
            PointKind::Rows => base.add(&point(self.program, "i", tile, LoopKind::Unrolled, 1).into()),
            PointKind::Chunks(lanes) if tile.is_multiple_of(lanes) && tile > lanes => {
                let chunk = point(self.program, "u", tile / lanes, LoopKind::Unrolled, 0);
                let lane = point(self.program, "i", lanes, LoopKind::Vector, 2);
                base.add(&(chunk * lanes as i64 + lane))
            }
            PointKind::Chunks(_) | PointKind::Vector => {
                base.add(&point(self.program, "i", tile, LoopKind::Vector, 2).into())
            }
        };
        subst_var(&mut body, var, &index);
        let mut points = points.to_vec();
        points.extend(new);
        points.sort_by_key(|p| p.depth);
        self.block(body, &points)
    }

    /// Statements inside a tile: loops that lead to further splits, or that a vector must go into, stay
    /// outside the points; everything else is wrapped in groups.
    fn block(&mut self, mut stmts: Vec<Stmt>, points: &[Point]) -> Vec<Stmt> {
        if points.is_empty() {
            return self.outer(stmts);
        }
        let expanded = self.expand_temps(&mut stmts, points);
        let mut out = Vec::new();
        let mut group: Vec<Stmt> = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::For(l) if self.enters(&l, points) => {
                    self.flush(&mut group, points, &mut out);
                    if self.splits.contains_key(&l.var) {
                        out.extend(self.split(l, points));
                    } else {
                        let inner = self.block(l.body, points);
                        out.extend(self.inner_loop(For { body: inner, ..l }, points, 1));
                    }
                }
                Stmt::Temp(b) if expanded.contains(&b) => out.push(Stmt::Temp(b)),
                other => group.push(other),
            }
        }
        self.flush(&mut group, points, &mut out);
        out
    }

    fn enters(&self, l: &For, points: &[Point]) -> bool {
        let mut inside = self.splits.contains_key(&l.var);
        walk_loops(&l.body, &mut |l| inside |= self.splits.contains_key(&l.var));
        inside || points.iter().any(|p| p.kind == LoopKind::Vector)
    }

    /// Gives each local that lives across groups one copy per point, and returns these locals.
    fn expand_temps(&mut self, stmts: &mut [Stmt], points: &[Point]) -> Vec<BufId> {
        let mut group = 0;
        let mut declared: Vec<(BufId, usize)> = Vec::new();
        let mut crossing: Vec<BufId> = Vec::new();
        for stmt in stmts.iter() {
            if let Stmt::For(l) = stmt
                && self.enters(l, points)
            {
                group += 1;
                crossing.extend(declared.iter().map(|d| d.0).filter(|&b| mentions(stmt, b)));
                group += 1;
                continue;
            }
            if let Stmt::Temp(b) = stmt {
                declared.push((*b, group));
                continue;
            }
            crossing.extend(declared.iter().filter(|d| d.1 != group && mentions(stmt, d.0)).map(|d| d.0));
        }
        crossing.sort_unstable();
        crossing.dedup();
        for &buf in &crossing {
            let dims = points.iter().map(|p| p.extent);
            let b = self.program.buf_mut(buf);
            b.shape.splice(0..0, dims);
            // Lanes are neighbours in memory, if the local is in memory at all.
            let lanes = |d: &usize| points[*d].kind == LoopKind::Vector;
            let (inner, mut order): (Vec<usize>, Vec<usize>) = (0..points.len()).partition(lanes);
            order.extend(b.layout.order.iter().map(|d| d + points.len()));
            order.extend(inner);
            b.layout = Layout::ordered(order);
            let prefix: Vec<Index> = points.iter().map(|p| Index::from(p.var)).collect();
            prefix_indices(stmts, buf, &prefix);
        }
        crossing
    }

    fn flush(&mut self, group: &mut Vec<Stmt>, points: &[Point], out: &mut Vec<Stmt>) {
        if group.is_empty() {
            return;
        }
        let mut body = std::mem::take(group);
        let with_loops = has_loop(&body);
        for p in points.iter().rev() {
            let name = self.program.var_name(p.var).to_owned();
            let var = self.program.add_var(name);
            subst_var(&mut body, p.var, &Affine::var(var));
            let kind = if with_loops { LoopKind::Serial } else { p.kind };
            body = vec![looped(var, p.extent, kind, body)];
        }
        out.append(&mut body);
    }

    /// A loop inside a tile, unrolled as far as code size allows. An instruction adds up so many terms of a sum.
    fn inner_loop(&mut self, l: For, points: &[Point], terms: usize) -> Vec<Stmt> {
        let vector = points.iter().any(|p| p.kind == LoopKind::Vector);
        // What a block is computed with goes around all of it.
        let vector = vector && points.iter().all(|p| p.kind != LoopKind::Serial);
        if l.kind != LoopKind::Serial || !vector || l.extent < 2 {
            return vec![Stmt::For(l)];
        }
        let weight = emitted(&l.body, self.limits.lanes).div_ceil(terms);
        if weight * l.extent <= self.limits.unroll {
            return vec![Stmt::For(For { kind: LoopKind::Unrolled, ..l })];
        }
        let factor =
            [4, 2].into_iter().find(|&f| l.extent.is_multiple_of(f) && weight * f * 2 <= self.limits.unroll);
        let Some(factor) = factor else { return vec![Stmt::For(l)] };
        let name = self.program.var_name(l.var).to_owned();
        let outer = self.program.add_var(format!("{name}o"));
        let inner = self.program.add_var(format!("{name}u"));
        let mut body = l.body;
        subst_var(&mut body, l.var, &(outer * factor as i64 + inner));
        let body = vec![looped(inner, factor, LoopKind::Unrolled, body)];
        vec![looped(outer, l.extent / factor, LoopKind::Serial, body)]
    }
}

/// How many vector statements the code of one execution holds.
pub fn emitted(body: &[Stmt], lanes: usize) -> usize {
    body.iter()
        .map(|s| match s {
            Stmt::For(l) => {
                let inner = emitted(&l.body, lanes);
                match l.kind {
                    LoopKind::Unrolled => inner * l.extent,
                    LoopKind::Vector => inner * l.extent.div_ceil(lanes),
                    LoopKind::Serial | LoopKind::Parallel(_) => inner + 2,
                }
            }
            Stmt::Store(_) | Stmt::Reduce(_) => 1,
            Stmt::Temp(_) => 0,
            Stmt::Call(_) => 10,
        })
        .sum()
}

fn mentions(stmt: &Stmt, buf: BufId) -> bool {
    let mut found = false;
    let stmts = std::slice::from_ref(stmt);
    walk_stmts(stmts, &mut |s| match s {
        Stmt::Store(s) => found |= s.buf == buf,
        Stmt::Reduce(r) => found |= r.buf == buf,
        Stmt::Call(c) => found |= c.inputs.contains(&buf) || c.outputs.contains(&buf),
        Stmt::For(_) | Stmt::Temp(_) => {}
    });
    walk_exprs(stmts, &mut |e| found |= matches!(e, Expr::Load(l) if l.buf == buf));
    found
}

/// Puts more indices before those of all accesses of a buffer.
pub fn prefix_indices(stmts: &mut [Stmt], buf: BufId, prefix: &[Index]) {
    let insert = |index: &mut Vec<Index>| {
        index.splice(0..0, prefix.iter().cloned());
    };
    walk_stmts_mut(stmts, &mut |s| match s {
        Stmt::Store(s) if s.buf == buf => insert(&mut s.index),
        Stmt::Reduce(r) if r.buf == buf => insert(&mut r.index),
        _ => {}
    });
    walk_exprs_mut(stmts, &mut |e| {
        if let Expr::Load(l) = e
            && l.buf == buf
        {
            insert(&mut l.index);
        }
    });
}
