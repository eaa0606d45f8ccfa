//! Which sums a loop adds up, and how often it adds to one element.

use std::collections::BTreeSet;

use nestjit_ir::hash::FastSet;
use nestjit_ir::visit::{Extents, declared_temps, walk_exprs, walk_stmts};
use nestjit_ir::{Affine, BufId, DType, Expr, For, Index, LoopKind, Program, Reduce, ReduceOp, Stmt, Var};

/// Elements of a buffer that a loop only adds to, the same ones in every iteration.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sum {
    /// The buffer.
    pub buf: BufId,
    /// For each dimension, what the variables of loops around contribute to indices.
    pub outer: Vec<Affine>,
    /// For each dimension, the least and the largest value of the rest of the indices.
    pub ranges: Vec<(i64, i64)>,
    /// How often an iteration adds to one element, about.
    pub steps: usize,
}

impl Sum {
    /// The dimensions in which the elements differ, as they lie in memory.
    pub fn dims(&self, program: &Program) -> Vec<usize> {
        let order = program.buf(self.buf).layout.order.iter().copied();
        order.filter(|&d| self.ranges[d].0 < self.ranges[d].1).collect()
    }

    /// The number of elements in a dimension.
    pub fn extent(&self, dim: usize) -> usize {
        usize::try_from(self.ranges[dim].1 - self.ranges[dim].0 + 1).unwrap_or(usize::MAX)
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        (0..self.ranges.len()).map(|d| self.extent(d)).fold(1, usize::saturating_mul)
    }

    /// Whether additions with these indices go to the elements.
    pub fn takes(&self, places: &Places) -> bool {
        self.outer == places.outer
            && self.ranges.iter().zip(&places.ranges).all(|(all, one)| all.0 <= one.0 && one.1 <= all.1)
    }
}

/// Where a statement in a loop adds to.
pub(super) struct Places {
    /// As in [`Sum`].
    pub outer: Vec<Affine>,
    /// The rest of the index in each dimension.
    pub rest: Vec<Affine>,
    /// As in [`Sum`].
    pub ranges: Vec<(i64, i64)>,
}

impl Places {
    /// Takes the indices of a statement apart; `None` if they are not known, or no element is accessed.
    pub fn of(index: &[Index], inner: &FastSet<Var>, extents: &Extents) -> Option<Places> {
        let mut places = Places { outer: Vec::new(), rest: Vec::new(), ranges: Vec::new() };
        for i in index {
            let a = i.as_affine()?;
            let (mut outer, mut rest) = (Affine::default(), Affine::constant(a.offset()));
            for &(v, c) in a.terms() {
                let part = if inner.contains(&v) { &mut rest } else { &mut outer };
                part.add_term(v, c);
            }
            places.ranges.push(extents.range(&rest)?);
            places.outer.push(outer);
            places.rest.push(rest);
        }
        Some(places)
    }

    /// Whether the indices take every value within their ranges, in every combination.
    fn is_dense(&self, extents: &Extents) -> bool {
        let mut seen = BTreeSet::new();
        self.rest.iter().all(|a| {
            let mut terms: Vec<(i64, i64)> = Vec::new();
            for &(v, c) in a.terms() {
                if !seen.insert(v) {
                    return false;
                }
                let last = extents.get(v).unwrap_or(1) as i64 - 1;
                terms.push((c.saturating_abs(), last));
            }
            terms.sort_unstable();
            // What the terms so far cover without a gap.
            let mut covered = 1i64;
            terms.into_iter().filter(|t| t.1 > 0).all(|(step, last)| {
                let fits = step <= covered;
                covered = covered.saturating_add(step.saturating_mul(last));
                fits
            })
        })
    }
}

/// The variables of a loop and of those in it.
pub(super) fn variables(l: &For) -> FastSet<Var> {
    let mut vars = FastSet::from_iter([l.var]);
    walk_stmts(&l.body, &mut |s| {
        if let Stmt::For(l) = s {
            vars.insert(l.var);
        }
    });
    vars
}

/// How often statements add to one element in sequence, at most: what loops that the indices do not follow repeat since the
/// buffer was declared, all statements together. Most nests add up less than what is cut, and need no closer look.
pub(super) fn most_additions(body: &[Stmt]) -> usize {
    #[derive(Default)]
    struct Counter {
        path: Vec<(Var, usize)>,
        /// The number of loops around the declaration of each local.
        declared: Vec<(BufId, usize)>,
        totals: Vec<(BufId, usize)>,
    }

    impl Counter {
        fn block(&mut self, body: &[Stmt]) {
            for stmt in body {
                match stmt {
                    Stmt::For(l) => {
                        self.path.push((l.var, l.extent));
                        self.block(&l.body);
                        self.path.pop();
                    }
                    Stmt::Temp(buf) => self.declared.push((*buf, self.path.len())),
                    Stmt::Reduce(r) if r.op == ReduceOp::Add => {
                        let depth = self.declared.iter().rev().find(|d| d.0 == r.buf).map_or(0, |d| d.1);
                        let follows =
                            |v: Var| r.index.iter().any(|i| i.as_affine().is_some_and(|a| a.uses(v)));
                        let repeated = self.path[depth..].iter().filter(|l| !follows(l.0)).map(|l| l.1);
                        let times = repeated.fold(1, usize::saturating_mul);
                        match self.totals.iter_mut().find(|t| t.0 == r.buf) {
                            Some(total) => total.1 = total.1.saturating_add(times),
                            None => self.totals.push((r.buf, times)),
                        }
                    }
                    Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => {}
                }
            }
        }
    }

    let mut counter = Counter::default();
    counter.block(body);
    counter.totals.iter().map(|t| t.1).max().unwrap_or(0)
}

/// The `f32` sums of a loop that carries them from iteration to iteration. `extents` knows the loops in it.
pub(super) fn sums(program: &Program, extents: &Extents, l: &For) -> Vec<Sum> {
    let inner = variables(l);
    let others = not_only_added_to(&l.body);
    let mut found: Vec<(Places, BufId, usize)> = Vec::new();
    additions(&l.body, &mut Vec::new(), &mut |r, path| {
        if others.contains(&r.buf) || program.buf(r.buf).dtype != DType::F32 {
            return;
        }
        let Some(places) = Places::of(&r.index, &inner, extents) else { return };
        let uses = |v: Var| places.rest.iter().any(|a| a.uses(v));
        if !uses(l.var) {
            // Lanes of one element are added up as a tree.
            let repeated = path.iter().filter(|p| !uses(p.0) && p.2 != LoopKind::Vector);
            let steps = repeated.map(|p| p.1).fold(1, usize::saturating_mul);
            found.push((places, r.buf, steps));
        }
    });
    // Those that cover the most come first, so that the others find them.
    let size = |p: &Places| p.ranges.iter().map(|r| (r.1 - r.0 + 1) as f64).product::<f64>();
    found.sort_by(|a, b| size(&b.0).total_cmp(&size(&a.0)));
    let mut sums: Vec<Sum> = Vec::new();
    for (places, buf, steps) in found {
        if let Some(sum) = sums.iter_mut().find(|s| s.buf == buf && s.takes(&places)) {
            sum.steps = sum.steps.saturating_add(steps);
        } else if places.is_dense(extents) {
            sums.push(Sum { buf, outer: places.outer, ranges: places.ranges, steps });
        }
    }
    sums
}

/// A loop around a statement: its variable, extent and kind.
type Around = (Var, usize, LoopKind);

/// Calls `f` with all statements that add, and the loops around each.
fn additions(body: &[Stmt], path: &mut Vec<Around>, f: &mut dyn FnMut(&Reduce, &[Around])) {
    for stmt in body {
        match stmt {
            Stmt::For(l) => {
                path.push((l.var, l.extent, l.kind));
                additions(&l.body, path, f);
                path.pop();
            }
            Stmt::Reduce(r) if r.op == ReduceOp::Add => f(r, path),
            Stmt::Reduce(_) | Stmt::Store(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
        }
    }
}

/// The buffers that statements declare, read, or write otherwise than by adding.
fn not_only_added_to(body: &[Stmt]) -> FastSet<BufId> {
    let mut others: FastSet<BufId> = declared_temps(body).into_iter().collect();
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => drop(others.insert(s.buf)),
        Stmt::Reduce(r) if r.op != ReduceOp::Add => drop(others.insert(r.buf)),
        Stmt::Call(c) => others.extend(c.inputs.iter().chain(&c.outputs)),
        Stmt::Reduce(_) | Stmt::For(_) | Stmt::Temp(_) => {}
    });
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            others.insert(l.buf);
        }
    });
    others
}
