//! Walking and rewriting statements and expressions.
//!
//! Walks visit parents before children, rewrites children before parents. Nothing here judges whether a
//! rewrite keeps the meaning: see [`crate::access`].

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::affine::{Affine, Var};
use crate::check::Site;
use crate::hash::FastMap;
use crate::nest::{BufId, Call, Expr, For, Index, Load, Program, Stmt};

/// Calls `f` on every statement, outer loops before their bodies.
pub fn walk_stmts<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for stmt in body {
        f(stmt);
        if let Stmt::For(l) = stmt {
            walk_stmts(&l.body, f);
        }
    }
}

/// Calls `f` on every statement, loop bodies before their loops.
pub fn walk_stmts_mut(body: &mut [Stmt], f: &mut dyn FnMut(&mut Stmt)) {
    for stmt in body {
        if let Stmt::For(l) = stmt {
            walk_stmts_mut(&mut l.body, f);
        }
        f(stmt);
    }
}

/// Calls `f` on every loop, outer before inner.
pub fn walk_loops<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a For)) {
    walk_stmts(body, &mut |s| {
        if let Stmt::For(l) = s {
            f(l);
        }
    });
}

/// Calls `f` on `expr` and everything in it: operands, index expressions, `otherwise`.
pub fn walk_expr<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Expr)) {
    f(expr);
    match expr {
        Expr::Const(_) | Expr::Index(_) => {}
        Expr::Load(l) => {
            walk_index(&l.index, f);
            if let Some(e) = &l.otherwise {
                walk_expr(e, f);
            }
        }
        Expr::Unary(_, a) | Expr::Cast(_, a) => walk_expr(a, f),
        Expr::Check(c) => walk_expr(&c.value, f),
        Expr::Binary(_, a, b) => {
            walk_expr(a, f);
            walk_expr(b, f);
        }
        Expr::Select(c, a, b) => {
            walk_expr(c, f);
            walk_expr(a, f);
            walk_expr(b, f);
        }
    }
}

fn walk_index<'a>(index: &'a [Index], f: &mut dyn FnMut(&'a Expr)) {
    for i in index {
        if let Index::Value(e) = i {
            walk_expr(e, f);
        }
    }
}

/// Calls `f` on `expr` and everything in it, operands first, so that `f` may replace what it is given.
pub fn walk_expr_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Const(_) | Expr::Index(_) => {}
        Expr::Load(l) => {
            walk_index_mut(&mut l.index, f);
            if let Some(e) = &mut l.otherwise {
                walk_expr_mut(e, f);
            }
        }
        Expr::Unary(_, a) | Expr::Cast(_, a) => walk_expr_mut(a, f),
        Expr::Check(c) => walk_expr_mut(&mut c.value, f),
        Expr::Binary(_, a, b) => {
            walk_expr_mut(a, f);
            walk_expr_mut(b, f);
        }
        Expr::Select(c, a, b) => {
            walk_expr_mut(c, f);
            walk_expr_mut(a, f);
            walk_expr_mut(b, f);
        }
    }
    f(expr);
}

fn walk_index_mut(index: &mut [Index], f: &mut dyn FnMut(&mut Expr)) {
    for i in index {
        if let Index::Value(e) = i {
            walk_expr_mut(e, f);
        }
    }
}

/// Calls `f` on every expression in the statements: stored values and index expressions, and all within.
pub fn walk_exprs<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Expr)) {
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => {
            walk_index(&s.index, f);
            walk_expr(&s.value, f);
        }
        Stmt::Reduce(r) => {
            walk_index(&r.index, f);
            walk_expr(&r.value, f);
        }
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
}

/// Calls `f` on every expression in the statements, operands first, so that `f` may replace it.
pub fn walk_exprs_mut(body: &mut [Stmt], f: &mut dyn FnMut(&mut Expr)) {
    walk_stmts_mut(body, &mut |s| match s {
        Stmt::Store(s) => {
            walk_index_mut(&mut s.index, f);
            walk_expr_mut(&mut s.value, f);
        }
        Stmt::Reduce(r) => {
            walk_index_mut(&mut r.index, f);
            walk_expr_mut(&mut r.value, f);
        }
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
}

/// Calls `f` on every affine expression in `expr`.
pub fn walk_expr_affine<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Affine)) {
    walk_expr(expr, &mut |e| match e {
        Expr::Index(a) => f(a),
        Expr::Load(l) => l.index.iter().filter_map(Index::as_affine).for_each(&mut *f),
        _ => {}
    });
}

/// Calls `f` on every affine expression in `expr`, to be changed.
pub fn walk_expr_affine_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Affine)) {
    walk_expr_mut(expr, &mut |e| match e {
        Expr::Index(a) => f(a),
        Expr::Load(l) => affine_mut(&mut l.index, f),
        _ => {}
    });
}

fn affine_mut(index: &mut [Index], f: &mut dyn FnMut(&mut Affine)) {
    for i in index {
        if let Index::Affine(a) = i {
            f(a);
        }
    }
}

/// Calls `f` on every affine expression in the statements: indices of loads, stores and reductions, and
/// index expressions used as values.
pub fn walk_affine<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Affine)) {
    walk_stmts(body, &mut |s| {
        if let Some(index) = target_index(s) {
            index.iter().filter_map(Index::as_affine).for_each(&mut *f);
        }
    });
    walk_exprs(body, &mut |e| match e {
        Expr::Index(a) => f(a),
        Expr::Load(l) => l.index.iter().filter_map(Index::as_affine).for_each(&mut *f),
        _ => {}
    });
}

/// Calls `f` on every affine expression in the statements, to be changed.
pub fn walk_affine_mut(body: &mut [Stmt], f: &mut dyn FnMut(&mut Affine)) {
    walk_stmts_mut(body, &mut |s| match s {
        Stmt::Store(s) => affine_mut(&mut s.index, f),
        Stmt::Reduce(r) => affine_mut(&mut r.index, f),
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
    walk_exprs_mut(body, &mut |e| match e {
        Expr::Index(a) => f(a),
        Expr::Load(l) => affine_mut(&mut l.index, f),
        _ => {}
    });
}

/// The index a statement writes to, if it is a store or a reduction.
pub fn target_index(stmt: &Stmt) -> Option<&[Index]> {
    match stmt {
        Stmt::Store(s) => Some(&s.index),
        Stmt::Reduce(r) => Some(&r.index),
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => None,
    }
}

/// Replaces `var` in every index.
pub fn subst_var(body: &mut [Stmt], var: Var, with: &Affine) {
    walk_affine_mut(body, &mut |a| {
        if a.uses(var) {
            *a = a.subst(var, with);
        }
    });
}

/// Replaces `var` in every index of an expression.
pub fn subst_var_expr(expr: &mut Expr, var: Var, with: &Affine) {
    walk_expr_affine_mut(expr, &mut |a| {
        if a.uses(var) {
            *a = a.subst(var, with);
        }
    });
}

/// Lets every access, declaration and call of `from` mean `to`.
pub fn replace_buf(body: &mut [Stmt], from: BufId, to: BufId) {
    rename_bufs(body, &mut |b| if b == from { to } else { b });
}

/// Renames every buffer by `f`.
pub fn rename_bufs(body: &mut [Stmt], f: &mut dyn FnMut(BufId) -> BufId) {
    walk_stmts_mut(body, &mut |s| match s {
        Stmt::For(_) => {}
        Stmt::Store(s) => s.buf = f(s.buf),
        Stmt::Reduce(r) => r.buf = f(r.buf),
        Stmt::Temp(b) => *b = f(*b),
        Stmt::Call(Call { inputs, outputs, .. }) => {
            inputs.iter_mut().chain(outputs).for_each(|b| *b = f(*b));
        }
    });
    walk_exprs_mut(body, &mut |e| {
        if let Expr::Load(l) = e {
            l.buf = f(l.buf);
        }
    });
}

/// Renames every variable by `f`, where loops bind it and where indices use it.
pub fn rename_vars(body: &mut [Stmt], f: &mut dyn FnMut(Var) -> Var) {
    walk_stmts_mut(body, &mut |s| {
        if let Stmt::For(l) = s {
            l.var = f(l.var);
        }
    });
    walk_affine_mut(body, &mut |a| rename_affine(a, f));
}

fn rename_affine(a: &mut Affine, f: &mut dyn FnMut(Var) -> Var) {
    if a.as_const().is_none() {
        let mut renamed = Affine::constant(a.offset());
        a.terms().iter().for_each(|&(v, c)| renamed.add_term(f(v), c));
        *a = renamed;
    }
}

/// Replaces the loads for which `f` returns an expression. Loads inside a load's index or `otherwise` are
/// replaced first; what `f` returns is not looked at again.
pub fn map_loads(body: &mut [Stmt], f: &mut dyn FnMut(&Load) -> Option<Expr>) {
    walk_exprs_mut(body, &mut |e| map_load(e, f));
}

/// Replaces the loads of an expression for which `f` returns an expression; see [`map_loads`].
pub fn map_loads_expr(expr: &mut Expr, f: &mut dyn FnMut(&Load) -> Option<Expr>) {
    walk_expr_mut(expr, &mut |e| map_load(e, f));
}

fn map_load(expr: &mut Expr, f: &mut dyn FnMut(&Load) -> Option<Expr>) {
    if let Expr::Load(l) = expr
        && let Some(new) = f(l)
    {
        *expr = new;
    }
}

/// The variables that occur without being bound by a loop in `body`, ascending.
pub fn free_vars(body: &[Stmt]) -> Vec<Var> {
    let mut used = BTreeSet::new();
    walk_affine(body, &mut |a| used.extend(a.vars()));
    walk_loops(body, &mut |l| {
        used.remove(&l.var);
    });
    used.into_iter().collect()
}

/// The variables that occur in an expression, ascending.
pub fn expr_vars(expr: &Expr) -> Vec<Var> {
    let mut used = BTreeSet::new();
    walk_expr_affine(expr, &mut |a| used.extend(a.vars()));
    used.into_iter().collect()
}

/// The local buffers declared in `body`, in order of declaration.
pub fn declared_temps(body: &[Stmt]) -> Vec<BufId> {
    let mut temps = Vec::new();
    walk_stmts(body, &mut |s| {
        if let Stmt::Temp(b) = s {
            temps.push(*b);
        }
    });
    temps
}

/// How often innermost statements run in one execution of `body`; declarations are none. Saturates.
pub fn work(body: &[Stmt]) -> usize {
    body.iter()
        .map(|s| match s {
            Stmt::For(l) => l.extent.saturating_mul(work(&l.body)),
            Stmt::Temp(_) => 0,
            Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => 1,
        })
        .fold(0, usize::saturating_add)
}

/// How many statements there are, nested ones included.
pub fn count_stmts(body: &[Stmt]) -> usize {
    let mut n = 0;
    walk_stmts(body, &mut |_| n += 1);
    n
}

/// The sites of the checks in `body`, each once, in the order of [`walk_exprs`].
pub fn check_sites(body: &[Stmt]) -> Vec<Arc<Site>> {
    let mut sites: Vec<Arc<Site>> = Vec::new();
    walk_exprs(body, &mut |e| {
        if let Expr::Check(c) = e
            && !sites.contains(&c.site)
        {
            sites.push(Arc::clone(&c.site));
        }
    });
    sites
}

/// The extents of loop variables, in their order: there are few, and many of these are made.
#[derive(Clone, Default, Debug)]
pub struct Extents(SmallVec<[(Var, usize); 8]>);

impl Extents {
    /// The extents of all loops in `body`.
    pub fn of(body: &[Stmt]) -> Extents {
        let mut extents = Extents::default();
        extents.collect(body);
        extents
    }

    /// Adds all loops in `body`.
    pub fn collect(&mut self, body: &[Stmt]) {
        walk_loops(body, &mut |l| self.set(l.var, l.extent));
    }

    /// These and others, which count where both know a variable.
    pub fn with(&self, others: &Extents) -> Extents {
        let mut all = self.clone();
        others.0.iter().for_each(|&(v, n)| all.set(v, n));
        all
    }

    /// Sets the extent of one variable.
    pub fn set(&mut self, var: Var, extent: usize) {
        match self.0.last() {
            Some(last) if last.0 >= var => match self.0.binary_search_by_key(&var, |e| e.0) {
                Ok(at) => self.0[at].1 = extent,
                Err(at) => self.0.insert(at, (var, extent)),
            },
            Some(_) | None => self.0.push((var, extent)),
        }
    }

    /// The extent, if the variable is known.
    #[inline]
    pub fn get(&self, var: Var) -> Option<usize> {
        self.0.binary_search_by_key(&var, |e| e.0).ok().map(|at| self.0[at].1)
    }

    /// The smallest and the largest value of an expression; `None` if a variable is unknown or has extent 0.
    pub fn range(&self, affine: &Affine) -> Option<(i64, i64)> {
        affine.range(|v| self.get(v).unwrap_or(0))
    }
}

/// A copy of `body` that may stand beside the original: loops bind new variables of the same names, and
/// declared locals are new buffers.
pub fn fresh_copy(program: &mut Program, body: &[Stmt]) -> Vec<Stmt> {
    let mut copy = body.to_vec();
    let (mut vars, mut bufs): (FastMap<Var, Var>, FastMap<BufId, BufId>) = Default::default();
    walk_stmts_mut(&mut copy, &mut |s| match s {
        Stmt::For(l) => {
            let name = program.var_name(l.var).to_owned();
            let new = program.add_var(name);
            vars.insert(l.var, new);
            l.var = new;
        }
        Stmt::Temp(b) => {
            let mut buffer = program.buf(*b).clone();
            buffer.name = program.unique_buffer_name(&buffer.name);
            bufs.insert(*b, program.add_buffer(buffer));
        }
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => {}
    });
    rename_bufs(&mut copy, &mut |b| bufs.get(&b).copied().unwrap_or(b));
    walk_affine_mut(&mut copy, &mut |a| rename_affine(a, &mut |v| vars.get(&v).copied().unwrap_or(v)));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, DType, NestBuilder, ReduceOp, Role, SCALAR};

    fn sample() -> (Program, BufId, BufId) {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[4, 8], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
        let mut b = NestBuilder::new(&mut p, "sum");
        b.for_("i", 4, |b, i| {
            let t = b.temp("t", DType::F32, &[]);
            b.store(t, SCALAR, Expr::f32(0.0));
            b.for_("k", 8, |b, k| {
                let at = Expr::load_or(x, [Affine::from(i), k - 1], Expr::load(x, [i, i]));
                b.reduce(ReduceOp::Add, t, SCALAR, at);
            });
            b.store(y, [i], Expr::load(t, SCALAR));
        });
        b.finish();
        (p, x, y)
    }

    #[test]
    fn free_variables_and_extents() {
        let (p, _, _) = sample();
        let body = &p.nests[0].body;
        assert!(free_vars(body).is_empty());
        let Stmt::For(l) = &body[0] else { panic!("a loop") };
        assert_eq!(free_vars(&l.body), [l.var]);
        let extents = Extents::of(body);
        assert_eq!(extents.get(l.var), Some(4));
        assert_eq!(extents.range(&(l.var * 3 - 2)), Some((-2, 7)));
        assert_eq!(extents.range(&Affine::var(Var(99))), None);
        assert_eq!(count_stmts(body), 6);
    }

    #[test]
    fn substitution_reaches_loads_within_otherwise() {
        let (mut p, _, _) = sample();
        let Stmt::For(l) = &mut p.nests[0].body[0] else { panic!("a loop") };
        let var = l.var;
        subst_var(&mut l.body, var, &Affine::constant(2));
        assert!(free_vars(&l.body).is_empty());
    }

    #[test]
    fn loads_are_replaced_innermost_first() {
        let (mut p, x, _) = sample();
        let mut seen = Vec::new();
        map_loads(&mut p.nests[0].body, &mut |l| {
            seen.push((l.buf, l.otherwise.clone()));
            (l.buf == x && l.otherwise.is_none()).then(|| Expr::f32(7.0))
        });
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[1].1.as_deref(), Some(&Expr::f32(7.0)));
    }

    #[test]
    fn a_fresh_copy_shares_no_variable_and_no_local() {
        let (mut p, x, y) = sample();
        let body = p.nests[0].body.clone();
        let copy = fresh_copy(&mut p, &body);
        assert!(free_vars(&copy).is_empty());
        assert_eq!(declared_temps(&copy).len(), 1);
        assert_ne!(declared_temps(&copy), declared_temps(&body));
        let (a, b) = (Extents::of(&body), Extents::of(&copy));
        walk_loops(&copy, &mut |l| assert!(a.get(l.var).is_none() && b.get(l.var).is_some()));
        let mut bufs = BTreeSet::new();
        walk_exprs(&copy, &mut |e| {
            if let Expr::Load(l) = e {
                bufs.insert(l.buf);
            }
        });
        assert!(bufs.contains(&x) && !bufs.contains(&declared_temps(&body)[0]) && !bufs.contains(&y));
    }
}
