//! Dependences between the iterations of loops: the legality of fusion, reordering and parallel execution.
//!
//! Two accesses conflict if they may touch the same element and at least one of them writes (two reductions
//! with the same operation commute). For a conflicting pair, one in iteration `i1` of a loop and one in
//! iteration `i2`, all that matters is the *distance* `i2 - i1`. In every dimension both sides give an affine
//! expression; that they are equal is a linear equation, from which an interval for the distance follows:
//!
//! ```text
//! c1*i1 + r1 = c2*i2 + r2     =>     c2*(i2 - i1) = (c1 - c2)*i1 + r1 - r2
//! ```
//!
//! where `r1` and `r2` hold inner variables (different instances on both sides, each anywhere in its range)
//! and outer variables (the same value on both sides, so they cancel). The intervals of all dimensions are
//! intersected. What cannot be bounded is assumed to happen.

use std::fmt;

use smallvec::SmallVec;

use super::{Access, AccessKind, accesses};
use crate::affine::{Affine, Var};
use crate::nest::{BufId, For, Index, Program, Stmt};
use crate::visit::{self, Extents};

/// Whether two reductions with the same operation into the same element may be exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reductions {
    /// They commute: the order of execution changes, but each runs alone.
    Commute,
    /// They conflict: they may run at the same time.
    Conflict,
}

/// A pair of accesses that must stay in order, and how many iterations they may be apart.
#[derive(Clone, Debug)]
pub struct Dependence<'a> {
    /// The buffer.
    pub buf: BufId,
    /// The access that comes first in the unchanged program (for iterations of one loop: either).
    pub first: Access<'a>,
    /// The other access.
    pub second: Access<'a>,
    /// The smallest possible `i2 - i1`.
    pub min: i64,
    /// The largest possible `i2 - i1`.
    pub max: i64,
}

/// Why a transformation is not legal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The buffer whose elements would be touched in the wrong order.
    pub buf: BufId,
    /// The first access as text: `%t[n,m]`.
    pub first: String,
    /// The second access as text: `%t[n,m+1]`.
    pub second: String,
    /// What is wrong with them, as a clause.
    pub reason: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}: {}", self.first, self.second, self.reason)
    }
}

impl std::error::Error for Conflict {}

/// The statements of one iteration of a loop.
#[derive(Clone, Copy)]
struct Side<'a> {
    body: &'a [Stmt],
    /// The variable of the loop, if iterations of a loop are looked at.
    var: Option<Var>,
}

/// All dependences from `first` (in iteration `i1` of the loop over `v1`) to `second` (in iteration `i2` of
/// the loop over `v2`), when all of the first loop runs before all of the second. `extents` holds the extents
/// of both loops and of those around them.
pub fn dependences<'a>(
    program: &Program,
    first: &'a [Stmt],
    v1: Var,
    second: &'a [Stmt],
    v2: Var,
    extents: &Extents,
) -> Vec<Dependence<'a>> {
    let (a, b) = (Side { body: first, var: Some(v1) }, Side { body: second, var: Some(v2) });
    between(program, a, b, extents, Reductions::Commute)
}

/// Whether `first(i); second(i)` for each `i` means the same as `first` for all `i`, then `second` for all
/// `i`. Only loops of the same extent can be fused; that they have it is for the caller to see to.
pub fn can_fuse(
    program: &Program,
    first: &[Stmt],
    v1: Var,
    second: &[Stmt],
    v2: Var,
    extents: &Extents,
) -> Result<(), Conflict> {
    let worst = dependences(program, first, v1, second, v2, extents).into_iter().min_by_key(|d| d.min);
    match worst {
        Some(d) if d.min < 0 => {
            let unit = if d.min == -1 { "iteration" } else { "iterations" };
            let what = match (d.first.kind, d.second.kind) {
                (AccessKind::Read, _) => "the element would be overwritten up to",
                (_, AccessKind::Read) => "the value is needed up to",
                _ => "the element would be written first up to",
            };
            Err(conflict(program, &d, format!("{what} {} {unit} too early", -d.min)))
        }
        _ => Ok(()),
    }
}

/// All dependences between different iterations of a loop: those with a distance other than 0. `outer` holds
/// the extents of the loops around it.
pub fn carried_dependences<'a>(
    program: &Program,
    l: &'a For,
    outer: &Extents,
    reductions: Reductions,
) -> Vec<Dependence<'a>> {
    let mut extents = outer.clone();
    extents.set(l.var, l.extent);
    let side = Side { body: &l.body, var: Some(l.var) };
    let mut all = between(program, side, side, &extents, reductions);
    all.retain(|d| d.min < 0 || d.max > 0);
    all
}

/// Whether the iterations of a loop may run in any order ([`Reductions::Commute`]) or at the same time
/// ([`Reductions::Conflict`]). Locals declared in the body belong to one iteration each.
pub fn carried_by(
    program: &Program,
    l: &For,
    outer: &Extents,
    reductions: Reductions,
) -> Result<(), Conflict> {
    match carried_dependences(program, l, outer, reductions).first() {
        None => Ok(()),
        Some(d) => {
            let name = program.vars.get(l.var.0 as usize).map_or("?", String::as_str);
            Err(conflict(program, d, format!("different iterations of {name} may touch the same element")))
        }
    }
}

/// Whether two neighbouring statement lists of one block may be exchanged. `outer` holds the extents of the
/// loops around both.
pub fn can_swap(program: &Program, first: &[Stmt], second: &[Stmt], outer: &Extents) -> Result<(), Conflict> {
    for stmt in first {
        let Stmt::Temp(t) = stmt else { continue };
        if let Some(user) = accesses(second).iter().find(|a| a.buf == *t) {
            let declaration = program.show_stmt(stmt).to_string().trim_end().to_owned();
            let reason = "the declaration must come first".to_owned();
            return Err(Conflict { buf: *t, first: declaration, second: user.show(program), reason });
        }
    }
    let (a, b) = (Side { body: first, var: None }, Side { body: second, var: None });
    match between(program, a, b, outer, Reductions::Commute).first() {
        None => Ok(()),
        Some(d) => Err(conflict(program, d, "both may touch the same element".to_owned())),
    }
}

fn conflict(program: &Program, d: &Dependence<'_>, reason: String) -> Conflict {
    Conflict { buf: d.buf, first: d.first.show(program), second: d.second.show(program), reason }
}

fn between<'a>(
    program: &Program,
    a: Side<'a>,
    b: Side<'a>,
    extents: &Extents,
    reductions: Reductions,
) -> Vec<Dependence<'a>> {
    let mut extents = extents.clone();
    extents.collect(a.body);
    extents.collect(b.body);
    let inner = |side: Side<'_>| {
        let mut vars = SmallVec::new();
        visit::walk_loops(side.body, &mut |l| vars.push(l.var));
        vars
    };
    let shared = |side: Side<'a>| {
        // What an iteration declares is its own. Between statements of one block it is not.
        let locals = side.var.map_or_else(Vec::new, |_| visit::declared_temps(side.body));
        let mut list = accesses(side.body);
        list.retain(|a| !a.is_dead() && !locals.contains(&a.buf));
        list
    };
    let pairing = Pairing { v1: a.var, v2: b.var, inner1: inner(a), inner2: inner(b), extents: &extents };
    let (first, second) = (shared(a), shared(b));
    let mut result = Vec::new();
    for x in &first {
        for y in second.iter().filter(|y| y.buf == x.buf) {
            let ordered = match (x.kind, y.kind) {
                (AccessKind::Read, AccessKind::Read) => false,
                (AccessKind::Update(p), AccessKind::Update(q)) => {
                    p != q || reductions == Reductions::Conflict
                }
                _ => true,
            };
            if !ordered {
                continue;
            }
            let rank = program.buffers.get(x.buf.0 as usize).map_or(0, |b| b.shape.len());
            if let Some((min, max)) = pairing.distance(x, y, rank) {
                result.push(Dependence { buf: x.buf, first: x.clone(), second: y.clone(), min, max });
            }
        }
    }
    result
}

/// The two instances of loop iterations that accesses are compared in.
struct Pairing<'a> {
    v1: Option<Var>,
    v2: Option<Var>,
    /// The variables of the loops inside, in no order: they are few.
    inner1: SmallVec<[Var; 8]>,
    inner2: SmallVec<[Var; 8]>,
    extents: &'a Extents,
}

/// An interval of integers; empty if the first is larger.
type Interval = (i128, i128);

/// Which instance of a variable is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Instance {
    Shared,
    First,
    Second,
}

/// A sum of variables, each with its coefficient.
#[derive(Default)]
struct Sum(SmallVec<[((Instance, Var), i128); 6]>);

impl Sum {
    fn add(&mut self, instance: Instance, var: Var, coefficient: i128) {
        match self.0.iter_mut().find(|t| t.0 == (instance, var)) {
            Some(term) => term.1 += coefficient,
            None => self.0.push(((instance, var), coefficient)),
        }
    }

    fn terms(&self) -> impl Iterator<Item = (Var, i128)> {
        self.0.iter().map(|&((_, v), c)| (v, c))
    }

    fn retain(&mut self, f: impl Fn(i128) -> bool) {
        self.0.retain(|t| f(t.1));
    }
}

impl Pairing<'_> {
    /// The interval of distances at which the accesses may touch the same element; `None` if never.
    fn distance(&self, x: &Access<'_>, y: &Access<'_>, rank: usize) -> Option<(i64, i64)> {
        let last = |v: Option<Var>| match v {
            Some(v) => self.extents.get(v).map_or(i128::from(i64::MAX), |n| n as i128 - 1),
            None => 0,
        };
        let (mut lo, mut hi) = (-last(self.v1), last(self.v2));
        if let (Some(x), Some(y)) = (x.index, y.index) {
            for (x, y) in x.iter().zip(y).take(rank) {
                if let (Index::Affine(x), Index::Affine(y)) = (x, y) {
                    let (l, h) = self.dimension(x, y)?;
                    (lo, hi) = (lo.max(l), hi.min(h));
                }
            }
        }
        if lo > hi {
            return None;
        }
        let clamp = |v: i128| v.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Some((clamp(lo), clamp(hi)))
    }

    /// The distances that one dimension allows; `None` if the indices are never equal.
    fn dimension(&self, x: &Affine, y: &Affine) -> Option<Interval> {
        // c1*i1 - c2*i2 + rest + constant = 0.
        let (mut c1, mut c2) = (0i128, 0i128);
        let mut rest = Sum::default();
        for &(v, c) in x.terms() {
            match v {
                v if Some(v) == self.v1 => c1 = c.into(),
                v if self.inner1.contains(&v) => rest.add(Instance::First, v, c.into()),
                v => rest.add(Instance::Shared, v, c.into()),
            }
        }
        for &(v, c) in y.terms() {
            match v {
                v if Some(v) == self.v2 => c2 = c.into(),
                v if self.inner2.contains(&v) => rest.add(Instance::Second, v, -i128::from(c)),
                v => rest.add(Instance::Shared, v, -i128::from(c)),
            }
        }
        rest.retain(|c| c != 0);
        let constant = i128::from(x.offset()) - i128::from(y.offset());

        let divisor = rest.terms().fold(gcd(c1, c2), |g, (_, c)| gcd(g, c));
        if (divisor == 0 && constant != 0) || (divisor != 0 && constant % divisor != 0) {
            return None;
        }
        if c1 == c2 {
            self.drop_high_digits(&mut rest, c1, constant);
        }
        let mut sum = Some((constant, constant));
        for (v, c) in rest.terms() {
            sum = add(sum, self.multiple(c, Some(v)));
        }
        let mut result = (i128::MIN, i128::MAX);
        if c1 == 0 && c2 == 0 {
            return match sum {
                Some((lo, hi)) if lo > 0 || hi < 0 => None,
                _ => Some(result),
            };
        }
        // Whatever the distance, the equation has a solution among the iterations, if they are known (Banerjee).
        let all = add(add(sum, self.multiple(c1, self.v1)), self.multiple(-c2, self.v2));
        if all.is_some_and(|(lo, hi)| lo > 0 || hi < 0) {
            return None;
        }
        // Either i2 = i1 + d or i1 = i2 - d is put into the equation; both must hold.
        for (divide_by, v) in [(c2, self.v1), (c1, self.v2)] {
            if let (Some((lo, hi)), true) = (add(sum, self.multiple(c1 - c2, v)), divide_by != 0) {
                let (lo, hi) = if divide_by < 0 { (-hi, -lo) } else { (lo, hi) };
                let by = divide_by.abs();
                let (lo, hi) = (-(-lo).div_euclid(by), hi.div_euclid(by));
                result = (result.0.max(lo), result.1.min(hi));
            }
        }
        (result.0 <= result.1).then_some(result)
    }

    /// Removes terms that must cancel out on their own: where all other terms together, `constant` and `c`
    /// times the distance among them, are smaller than a common divisor of these. So two indices `8*n + i`
    /// with `i < 8` are equal only if `i` is.
    fn drop_high_digits(&self, rest: &mut Sum, c: i128, constant: i128) {
        let mut divisors: SmallVec<[i128; 6]> = rest.terms().map(|(_, c)| c.abs()).collect();
        divisors.sort_unstable();
        divisors.dedup();
        for divisor in divisors {
            let low = rest
                .terms()
                .filter(|(_, k)| k % divisor != 0)
                .try_fold((constant, constant), |sum, (v, k)| add(Some(sum), self.multiple(k, Some(v))));
            // The distance may have either sign.
            let distance = [self.v1, self.v2].map(|v| self.multiple(c.abs(), v).map(|r| r.1));
            let [Some(before), Some(after)] = distance else { return };
            let distance = before.max(after);
            if let Some((lo, hi)) = add(low, Some((-distance, distance)))
                && -divisor < lo
                && hi < divisor
            {
                rest.retain(|k| k % divisor != 0);
            }
        }
    }

    /// The range of `c * v`; `None` if unknown.
    fn multiple(&self, c: i128, v: Option<Var>) -> Option<Interval> {
        if c == 0 {
            return Some((0, 0));
        }
        let last = (self.extents.get(v?)? as i128 - 1).max(0);
        let end = c.checked_mul(last)?;
        Some((end.min(0), end.max(0)))
    }
}

fn add(a: Option<Interval>, b: Option<Interval>) -> Option<Interval> {
    let (a, b) = (a?, b?);
    Some((a.0.checked_add(b.0)?, a.1.checked_add(b.1)?))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
