//! BlockSums: long sums of `f32` are added up in blocks, and these in turn.
//!
//! Adding n numbers one after the other has a rounding error of at most (n - 1) u times the sum of their magnitudes,
//! with u = 2^-24, and of about sqrt(n) u times as a rule; in blocks of b numbers it is b + n / b in place of n
//! (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 4.2; P. Blanchard, N. J. Higham,
//! T. Mary, A Class of Fast and Accurate Summation Algorithms, SIAM J. Sci. Comput. 42, 2020). Tiles and lanes have
//! many accumulators already, so what counts is how often one of them is added to: the pass comes after those that
//! choose accumulators, and looks at loops alone. Neither operations nor threads play a part.
//!
//! `find` says what a loop adds up; this module rewrites it.

mod find;
#[cfg(test)]
mod tests;

use nestjit_ir::excerpt::{Excerpt, Placement};
use nestjit_ir::hash::FastSet;
use nestjit_ir::visit::{Extents, fresh_copy, subst_var, walk_stmts_mut};
use nestjit_ir::{
    Affine, BufId, Buffer, DType, Expr, For, Index, Layout, LoopKind, Program, Reduce, ReduceOp, Role,
    Scalar, Stmt, Store, Var,
};

use self::find::{Places, Sum, sums, variables};
use super::PassContext;
use super::each_nest::{Part, each_nest_of};
use crate::error::Result;
use crate::passes::schedule::chain::looped;
use crate::remark::{Reason, Remark};
use crate::unit::Unit;

/// How often an element may be added to in sequence: at most 2^-13 of the magnitudes is lost, some 3e-6 as a rule.
const LONGEST: usize = 2048;

/// How many of these additions a block has. With b = sqrt(n) the bound is least, for sums of a quarter of a million
/// numbers; and moving the accumulators of a block takes less than a hundredth of the time of its products.
const BLOCK: usize = 512;

/// The largest accumulators of a block, in bytes: beyond it they leave the caches, and cost as much memory as what is
/// added up.
const MAX_BYTES: usize = 16 << 20;

/// Accumulators of a block that are set one by one, so that they may live in registers.
const MAX_REGISTERS: usize = 64;

/// Cuts loops that add to the same elements too often.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let lanes = ctx.target.isa.f32_lanes();
    let cut = |part: &mut Part<'_>| {
        let body = std::mem::take(&mut part.body);
        let (program, extents) = (&mut *part.program, Extents::of(&body));
        let mut pass = Blocker { program, extents, lanes, depth: 0, in_lanes: false, longest: 0 };
        part.body = pass.block(body);
        let longest = pass.longest;
        part.remarks.extend(
            (longest > 0).then(|| Remark::nest(Excerpt::NEST, Reason::Blocks { additions: longest })),
        );
        longest > 0
    };
    let mut changed = false;
    let placed = &mut |_, changes: &bool, _: &Placement| changed |= changes;
    let wanted = |_, body: &[Stmt]| find::most_additions(body) > LONGEST;
    each_nest_of(&mut unit.program, &wanted, ctx.threads, remarks, &|_, _| Vec::new(), &cut, placed);
    Ok(changed)
}

struct Blocker<'a> {
    program: &'a mut Program,
    /// Of all loops of the nest.
    extents: Extents,
    /// `f32` elements of a register.
    lanes: usize,
    /// How many loops are around the statements at hand.
    depth: usize,
    /// Whether one of them is a vector loop, so that each lane has accumulators of its own.
    in_lanes: bool,
    /// The most additions in sequence that were cut.
    longest: usize,
}

impl Blocker<'_> {
    fn block(&mut self, body: Vec<Stmt>) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(body.len());
        for stmt in body {
            match stmt {
                Stmt::For(l) if l.kind == LoopKind::Serial && l.extent > 1 => out.extend(self.serial(l)),
                Stmt::For(l) => out.push(self.inside(l)),
                other => out.push(other),
            }
        }
        out
    }

    /// A loop that stays as it is, but for those in it.
    fn inside(&mut self, mut l: For) -> Stmt {
        let in_lanes = self.in_lanes;
        self.depth += 1;
        self.in_lanes |= l.kind == LoopKind::Vector;
        l.body = self.block(l.body);
        self.in_lanes = in_lanes;
        self.depth -= 1;
        Stmt::For(l)
    }

    fn serial(&mut self, l: For) -> Vec<Stmt> {
        let long = |s: &Sum| s.steps.saturating_mul(l.extent) > LONGEST;
        let small = |s: &Sum| s.elements() <= MAX_BYTES / size_of::<f32>();
        let mut sums = sums(self.program, &self.extents, &l);
        sums.retain(|s| long(s) && small(s));
        let Some(most) = sums.iter().map(|s| s.steps).max() else { return vec![self.inside(l)] };
        self.longest = self.longest.max(most.saturating_mul(l.extent));

        let vars = variables(&l);
        let size = block_size(l.extent, (BLOCK / most).max(1));
        let (full, rest) = (l.extent / size, l.extent % size);
        let name = self.program.var_name(l.var).to_owned();
        let mut out = Vec::new();
        let tail = (rest > 0).then(|| {
            let copy = fresh_copy(self.program, &[Stmt::For(For { body: l.body.clone(), ..l })]);
            self.extents.collect(&copy);
            copy
        });

        let block = self.program.add_var(format!("{name}b"));
        self.extents.set(block, full);
        self.depth += 1;
        let main = self.part(l, &vars, &sums, (Affine::term(block, size as i64), size));
        self.depth -= 1;
        // Nothing but the sums of whole blocks is added up by this loop, which may still be long.
        let outer = For { var: block, extent: full, kind: LoopKind::Serial, body: main };
        out.extend(self.serial(outer));

        if let Some([Stmt::For(l)]) = tail.as_deref() {
            let vars = variables(l);
            let stmts = self.part(l.clone(), &vars, &sums, (Affine::constant((full * size) as i64), rest));
            // Locals are not declared outside of all loops: threads would share them.
            if self.depth == 0 {
                let once = self.program.add_var(format!("{name}b"));
                self.extents.set(once, 1);
                out.push(looped(once, 1, LoopKind::Serial, stmts));
            } else {
                out.extend(stmts);
            }
        }
        out
    }

    /// `size` iterations of a loop from `base` on, with accumulators of their own.
    fn part(
        &mut self,
        mut l: For,
        vars: &FastSet<Var>,
        sums: &[Sum],
        (base, size): (Affine, usize),
    ) -> Vec<Stmt> {
        let accumulators: Vec<BufId> = sums.iter().map(|s| self.accumulator(s)).collect();
        let mut out = Vec::new();
        for (sum, &acc) in sums.iter().zip(&accumulators) {
            out.push(Stmt::Temp(acc));
            out.extend(self.each(sum, &mut |at, _| {
                Stmt::Store(Store { buf: acc, index: at, value: Expr::Const(Scalar::F32(0.0)) })
            }));
        }
        let (program, extents) = (&*self.program, &self.extents);
        walk_stmts_mut(&mut l.body, &mut |s| {
            let Stmt::Reduce(r) = s else { return };
            let of_buf = sums.iter().zip(&accumulators).filter(|(s, _)| s.buf == r.buf);
            let Some(places) = Places::of(&r.index, vars, extents) else { return };
            if let Some((sum, &acc)) = of_buf.into_iter().find(|(s, _)| s.takes(&places)) {
                let dims = sum.dims(program);
                r.index = dims.iter().map(|&d| places.rest[d].plus(-sum.ranges[d].0).into()).collect();
                r.buf = acc;
            }
        });
        if size > 1 {
            let name = self.program.var_name(l.var).to_owned();
            let var = self.program.add_var(name);
            self.extents.set(var, size);
            subst_var(&mut l.body, l.var, &base.add(&Affine::var(var)));
            out.push(self.inside(For { var, extent: size, ..l }));
        } else {
            subst_var(&mut l.body, l.var, &base);
            out.extend(self.block(l.body));
        }
        for (sum, &acc) in sums.iter().zip(&accumulators) {
            out.extend(self.each(sum, &mut |at, index| {
                Stmt::Reduce(Reduce { op: ReduceOp::Add, buf: sum.buf, index, value: Expr::load(acc, at) })
            }));
        }
        out
    }

    /// A local for the elements of a sum, in the order in which they lie in memory.
    fn accumulator(&mut self, sum: &Sum) -> BufId {
        let shape: Vec<usize> = sum.dims(self.program).into_iter().map(|d| sum.extent(d)).collect();
        let name = format!("{}.block", self.program.buf(sum.buf).name);
        let name = self.program.unique_buffer_name(&name);
        let mut buffer = Buffer::new(name, DType::F32, &shape, Role::Local);
        buffer.layout = Layout::row_major(shape.len());
        self.program.add_buffer(buffer)
    }

    /// A statement for each element of a sum, given its index in the accumulators of a block and in the buffer.
    fn each(&mut self, sum: &Sum, f: &mut dyn FnMut(Vec<Index>, Vec<Index>) -> Stmt) -> Vec<Stmt> {
        let dims = sum.dims(self.program);
        let lanes = self.lanes;
        let Some((&last, outer)) = dims.split_last() else {
            return vec![f(Vec::new(), self.index(sum, &[], &[]))];
        };
        let registers = outer.iter().map(|&d| sum.extent(d)).fold(1, usize::saturating_mul);
        let registers = registers.saturating_mul(sum.extent(last).div_ceil(lanes));
        let few = registers <= MAX_REGISTERS;
        let kind = if few { LoopKind::Unrolled } else { LoopKind::Serial };
        let mut loops: Vec<(Var, usize, LoopKind)> = Vec::new();
        let mut add = |s: &mut Self, extent: usize, kind| {
            let var = s.program.add_var("e");
            s.extents.set(var, extent);
            loops.push((var, extent, kind));
            Affine::var(var)
        };
        let mut at: Vec<Affine> = outer.iter().map(|&d| add(self, sum.extent(d), kind)).collect();
        let width = sum.extent(last);
        at.push(if self.in_lanes {
            add(self, width, kind)
        } else if few && width > lanes && width.is_multiple_of(lanes) {
            let register = add(self, width / lanes, LoopKind::Unrolled);
            register.scale(lanes as i64).add(&add(self, lanes, LoopKind::Vector))
        } else {
            add(self, width, LoopKind::Vector)
        });
        let index = self.index(sum, &dims, &at);
        let stmt = f(at.into_iter().map(Index::from).collect(), index);
        let wrap = |body, (var, extent, kind)| vec![looped(var, extent, kind, body)];
        loops.into_iter().rev().fold(vec![stmt], wrap)
    }

    /// The index in the buffer of an element, given its position in some dimensions.
    fn index(&self, sum: &Sum, dims: &[usize], at: &[Affine]) -> Vec<Index> {
        let mut index: Vec<Affine> = sum.outer.iter().zip(&sum.ranges).map(|(o, r)| o.plus(r.0)).collect();
        for (&d, at) in dims.iter().zip(at) {
            index[d] = index[d].add(at);
        }
        index.into_iter().map(Index::from).collect()
    }
}

/// The iterations of a block, at most `most`: a divisor of the extent if there is one that is not much smaller.
fn block_size(extent: usize, most: usize) -> usize {
    let most = most.min(extent);
    (most.div_ceil(2)..=most).rev().find(|size| extent.is_multiple_of(*size)).unwrap_or(most)
}
