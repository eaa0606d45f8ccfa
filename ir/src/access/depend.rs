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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

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
        let mut vars = HashSet::new();
        visit::walk_loops(side.body, &mut |l| {
            vars.insert(l.var);
        });
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
    inner1: HashSet<Var>,
    inner2: HashSet<Var>,
    extents: &'a Extents,
}

/// An interval of integers; empty if the first is larger.
type Interval = (i128, i128);

/// Which instance of a variable is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Instance {
    Shared,
    First,
    Second,
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
        let mut rest: BTreeMap<(Instance, Var), i128> = BTreeMap::new();
        for &(v, c) in x.terms() {
            match v {
                v if Some(v) == self.v1 => c1 = c.into(),
                v if self.inner1.contains(&v) => {
                    *rest.entry((Instance::First, v)).or_default() += i128::from(c)
                }
                v => *rest.entry((Instance::Shared, v)).or_default() += i128::from(c),
            }
        }
        for &(v, c) in y.terms() {
            match v {
                v if Some(v) == self.v2 => c2 = c.into(),
                v if self.inner2.contains(&v) => {
                    *rest.entry((Instance::Second, v)).or_default() -= i128::from(c)
                }
                v => *rest.entry((Instance::Shared, v)).or_default() -= i128::from(c),
            }
        }
        rest.retain(|_, c| *c != 0);
        let constant = i128::from(x.offset()) - i128::from(y.offset());

        let divisor = rest.values().fold(gcd(c1, c2), |g, &c| gcd(g, c));
        if (divisor == 0 && constant != 0) || (divisor != 0 && constant % divisor != 0) {
            return None;
        }
        if c1 == c2 {
            self.drop_high_digits(&mut rest, c1, constant);
        }
        let mut sum = Some((constant, constant));
        for (&(_, v), &c) in &rest {
            sum = add(sum, self.multiple(c, Some(v)));
        }
        let mut result = (i128::MIN, i128::MAX);
        if c1 == 0 && c2 == 0 {
            return match sum {
                Some((lo, hi)) if lo > 0 || hi < 0 => None,
                _ => Some(result),
            };
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
    fn drop_high_digits(&self, rest: &mut BTreeMap<(Instance, Var), i128>, c: i128, constant: i128) {
        let divisors: BTreeSet<i128> = rest.values().map(|c| c.abs()).collect();
        for divisor in divisors {
            let low = rest.iter().filter(|(_, k)| *k % divisor != 0);
            let low = low
                .fold(Some((constant, constant)), |sum, (&(_, v), &k)| add(sum, self.multiple(k, Some(v))));
            // The distance may have either sign.
            let distance = [self.v1, self.v2].map(|v| self.multiple(c.abs(), v).map(|r| r.1));
            let [Some(before), Some(after)] = distance else { return };
            let distance = before.max(after);
            if let Some((lo, hi)) = add(low, Some((-distance, distance)))
                && -divisor < lo
                && hi < divisor
            {
                rest.retain(|_, k| *k % divisor != 0);
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
mod tests {
    use super::*;
    use crate::{Buffer, DType, Expr, NestBuilder, ReduceOp, Role, SCALAR};

    /// Two loops over `0..8` whose bodies are written by the closures, in one nest; buffers %a and %b of 16.
    fn pair(
        first: impl FnOnce(&mut NestBuilder<'_>, [BufId; 2], Var),
        second: impl FnOnce(&mut NestBuilder<'_>, [BufId; 2], Var),
    ) -> Result<(), String> {
        let mut p = Program::default();
        let a = p.add_buffer(Buffer::new("a", DType::F32, &[16], Role::Temp));
        let c = p.add_buffer(Buffer::new("b", DType::F32, &[16], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_("i", 8, |b, i| first(b, [a, c], i));
        b.for_("j", 8, |b, j| second(b, [a, c], j));
        b.finish();
        let body = &p.nests[0].body;
        let (Stmt::For(l1), Stmt::For(l2)) = (&body[0], &body[1]) else { panic!("two loops") };
        can_fuse(&p, &l1.body, l1.var, &l2.body, l2.var, &Extents::of(body)).map_err(|c| c.to_string())
    }

    #[test]
    fn fusion_needs_values_that_exist_already() {
        let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i], Expr::f32(1.0));
        let read = |offset: i64, scale: i64| {
            pair(produce, move |b, [a, c], j| {
                b.store(c, [j], Expr::load_or(a, [j * scale + offset], Expr::f32(0.0)));
            })
        };
        assert_eq!(read(0, 1), Ok(()));
        assert_eq!(read(-2, 1), Ok(()));
        let early =
            |index, by| Err(format!("%a[i] and %a[{index}]: the value is needed up to {by} too early"));
        assert_eq!(read(1, 1), early("j+1", "1 iteration"));
        assert_eq!(read(0, 2), early("2*j", "3 iterations"));
        assert_eq!(read(7, -1), early("-j+7", "7 iterations"));
        assert_eq!(read(8, 1), Ok(()), "never touches what was written");
    }

    #[test]
    fn mixed_radix_indices_are_independent_in_any_order_of_loops() {
        let carried = |radix: i64, shift: i64| {
            let mut p = Program::default();
            let y = p.add_buffer(Buffer::new("y", DType::F32, &[64], Role::Out));
            let mut b = NestBuilder::new(&mut p, "f");
            b.for_("i", 8, |b, i| {
                b.for_("n", 3, |b, n| {
                    b.store(y, [n * radix + i], Expr::f32(1.0));
                    b.store(y, [n * radix + i + shift], Expr::f32(2.0));
                });
            });
            b.finish();
            let Stmt::For(l) = &p.nests[0].body[0] else { panic!("a loop") };
            carried_by(&p, l, &Extents::default(), Reductions::Conflict).is_err()
        };
        assert!(!carried(8, 0));
        assert!(!carried(20, 10));
        assert!(carried(7, 0));
        assert!(carried(8, 1));
        assert!(carried(20, 16));
    }

    #[test]
    fn tiles_match_tile_by_tile() {
        let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| {
            b.for_("ii", 2, |b, ii| b.store(a, [i * 2 + ii], Expr::f32(1.0)));
        };
        let read = |extent, offset: i64| {
            pair(produce, move |b, [a, c], j| {
                b.for_("jj", extent, |b, jj| {
                    b.store(c, [j * 2 + jj], Expr::load_or(a, [j * 2 + jj + offset], Expr::f32(0.0)));
                });
            })
        };
        assert_eq!(read(2, 0), Ok(()));
        assert_eq!(read(2, -1), Ok(()));
        assert!(read(2, 1).is_err());
        assert!(read(3, 0).is_err());
        assert_eq!(read(0, 0), Ok(()), "never runs");
    }

    #[test]
    fn strides_that_never_meet_do_not_conflict() {
        let produce =
            |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i * 2], Expr::f32(1.0));
        let read = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], j: Var| {
            b.for_("k", 3, |b, k| b.store(c, [j], Expr::load(a, [j * -2 + k * 4 + 15])));
        };
        assert_eq!(pair(produce, read), Ok(()));
    }

    #[test]
    fn reductions_commute_with_their_own_kind_only() {
        let update = |op| {
            move |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], _: Var| {
                b.reduce(op, a, [0], Expr::f32(1.0));
            }
        };
        assert_eq!(pair(update(ReduceOp::Add), update(ReduceOp::Add)), Ok(()));
        assert_eq!(
            pair(update(ReduceOp::Add), update(ReduceOp::Max)),
            Err("%a[0] and %a[0]: the element would be written first up to 7 iterations too early".to_owned())
        );
    }

    #[test]
    fn overwriting_what_is_still_read_is_a_conflict() {
        let read =
            |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], i: Var| b.store(c, [i], Expr::load(a, [i + 3]));
        let write = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], j: Var| b.store(a, [j], Expr::f32(0.0));
        assert_eq!(pair(read, write), Ok(()), "%a[i+3] is overwritten three iterations later");
        let read = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], i: Var| {
            b.store(c, [i], Expr::load_or(a, [i - 3], Expr::f32(0.0)));
        };
        assert_eq!(
            pair(read, write),
            Err("%a[i-3] and %a[j]: the element would be overwritten up to 3 iterations too early".to_owned())
        );
    }

    #[test]
    fn gathers_and_calls_may_touch_anything() {
        let produce = |b: &mut NestBuilder<'_>, [a, _]: [BufId; 2], i: Var| b.store(a, [i], Expr::f32(1.0));
        let gather = |b: &mut NestBuilder<'_>, [a, c]: [BufId; 2], j: Var| {
            b.store(c, [j], Expr::load(a, [Expr::load(a, [j]).cast(DType::I64)]));
        };
        assert!(pair(produce, gather).is_err());
        assert!(pair(produce, |b, [a, c], _| b.call("sort", &[a], &[c], &[])).is_err());
        assert_eq!(pair(produce, |b, [_, c], _| b.call("fill", &[], &[c], &[])), Ok(()));
    }

    #[test]
    fn iterations_of_a_contraction() {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[8, 8], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[8], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_("i", 8, |b, i| {
            let t = b.temp("t", DType::F32, &[]);
            b.store(t, SCALAR, Expr::f32(0.0));
            b.for_("k", 8, |b, k| b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [i, k])));
            b.store(y, [i], Expr::load(t, SCALAR));
        });
        b.finish();
        let Stmt::For(i) = &p.nests[0].body[0] else { panic!("a loop") };
        let Stmt::For(k) = &i.body[2] else { panic!("a loop") };
        let outer = Extents::default();
        assert_eq!(carried_by(&p, i, &outer, Reductions::Conflict), Ok(()));
        assert_eq!(carried_by(&p, k, &outer, Reductions::Commute), Ok(()));
        assert_eq!(
            carried_by(&p, k, &outer, Reductions::Conflict).unwrap_err().to_string(),
            "%t and %t: different iterations of k may touch the same element"
        );
        assert!(can_swap(&p, &i.body[..1], &i.body[1..2], &outer).is_err(), "a declaration and its use");
        assert!(can_swap(&p, &i.body[1..2], &i.body[2..3], &outer).is_err());
        assert!(can_swap(&p, &i.body[1..2], &i.body[..0], &outer).is_ok());
    }

    #[test]
    fn a_loop_that_splits_a_dimension_is_independent() {
        let mut p = Program::default();
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[32], Role::Out));
        let carried = |p: &mut Program, step: i64, inner: usize| {
            let mut b = NestBuilder::new(p, "f");
            b.for_("i", 4, |b, i| b.for_("j", inner, |b, j| b.store(y, [i * step + j], Expr::f32(0.0))));
            b.finish();
            let Some(Stmt::For(i)) = p.nests.last().map(|n| &n.body[0]) else { panic!("a loop") };
            carried_by(p, i, &Extents::default(), Reductions::Conflict).is_err()
        };
        assert!(!carried(&mut p, 8, 8));
        assert!(carried(&mut p, 7, 8));
        assert!(!carried(&mut p, 8, 1));
        assert!(carried(&mut p, 0, 1));
    }
}
