//! Whether some iteration of loops brings several indices into given ranges at once.
//!
//! Indices that share variables do not take all combinations of their values: that each of them can be in its range does
//! not say that all can. The search tries values of variables, those with the largest coefficients first, and only those
//! that the rest of the variables can still make good.

use crate::affine::{Affine, Var};
use crate::visit::Extents;

/// How many values of variables are tried. Indices of windows and of tiles need a few for each loop.
const TRIES: usize = 1 << 12;

/// Values of `wanted` in an iteration in which each lies in its range (both ends included), when each variable runs over
/// its extent. `None` if there is no such iteration, or if none was found: then nothing is certain.
pub(crate) fn meet(wanted: &[(Affine, (i64, i64))], extents: &Extents) -> Option<Vec<i64>> {
    let mut vars: Vec<Var> = wanted.iter().flat_map(|(a, _)| a.vars()).collect();
    vars.sort_unstable();
    vars.dedup();
    let weight = |v: Var| wanted.iter().map(|(a, _)| a.coeff(v).unsigned_abs()).max();
    vars.sort_by_key(|v| std::cmp::Reverse(weight(*v)));
    let last = |v: &Var| Some(i128::try_from(extents.get(*v)?).ok()? - 1).filter(|last| *last >= 0);
    let last: Vec<i128> = vars.iter().map(last).collect::<Option<_>>()?;
    let dims: Vec<Dim> = wanted.iter().map(|(a, range)| Dim::new(a, *range, &vars, &last)).collect();
    let offsets: Vec<i128> = wanted.iter().map(|(a, _)| a.offset().into()).collect();
    let found = Search { dims, last, tries: TRIES }.complete(0, offsets)?;
    found.into_iter().map(|value| i64::try_from(value).ok()).collect()
}

/// An index, by variables in the order of the search.
struct Dim {
    coefficients: Vec<i128>,
    /// What the variables from the n-th on can add, at least and at most.
    rest: Vec<(i128, i128)>,
    range: (i128, i128),
}

impl Dim {
    fn new(a: &Affine, range: (i64, i64), vars: &[Var], last: &[i128]) -> Dim {
        let coefficients: Vec<i128> = vars.iter().map(|v| a.coeff(*v).into()).collect();
        let mut rest = vec![(0, 0); vars.len() + 1];
        for n in (0..vars.len()).rev() {
            let span = coefficients[n] * last[n];
            rest[n] = (rest[n + 1].0 + span.min(0), rest[n + 1].1 + span.max(0));
        }
        Dim { coefficients, rest, range: (range.0.into(), range.1.into()) }
    }

    /// The values of the n-th variable, within `all`, with which the variables behind it can bring this index into its range.
    fn fitting(&self, n: usize, offset: i128, all: (i128, i128)) -> (i128, i128) {
        let (least, most) =
            (self.range.0 - offset - self.rest[n + 1].1, self.range.1 - offset - self.rest[n + 1].0);
        let (lo, hi) = match self.coefficients[n] {
            0 if least <= 0 && most >= 0 => return all,
            0 => return (0, -1),
            c if c > 0 => (-(-least).div_euclid(c), most.div_euclid(c)),
            c => (-most.div_euclid(-c), (-least).div_euclid(-c)),
        };
        (all.0.max(lo), all.1.min(hi))
    }
}

struct Search {
    dims: Vec<Dim>,
    /// The largest value of each variable.
    last: Vec<i128>,
    tries: usize,
}

impl Search {
    /// Values of the indices, given what they are with the variables before the n-th, and 0 for the others.
    fn complete(&mut self, n: usize, offsets: Vec<i128>) -> Option<Vec<i128>> {
        let inside = |(d, offset): (&Dim, &i128)| {
            offset + d.rest[n].0 >= d.range.0 && offset + d.rest[n].1 <= d.range.1
        };
        if self.dims.iter().zip(&offsets).all(inside) {
            return Some(offsets);
        }
        let last = *self.last.get(n)?;
        let fit = |all, (d, offset): (&Dim, &i128)| d.fitting(n, *offset, all);
        let (lo, hi) = self.dims.iter().zip(&offsets).fold((0, last), fit);
        let mut value = lo;
        while value <= hi {
            self.tries = self.tries.checked_sub(1)?;
            let offsets =
                self.dims.iter().zip(&offsets).map(|(d, o)| o + d.coefficients[n] * value).collect();
            if let Some(found) = self.complete(n + 1, offsets) {
                return Some(found);
            }
            value += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values of the indices, by running the loops.
    fn every(wanted: &[(Affine, (i64, i64))], extents: [usize; 3]) -> bool {
        (0..extents.iter().product::<usize>()).any(|n| {
            let at = [n % extents[0], n / extents[0] % extents[1], n / extents[0] / extents[1]];
            wanted.iter().all(|(a, (lo, hi))| {
                let value = a.eval(|v| at[v.0 as usize] as i64);
                value >= *lo && value <= *hi
            })
        })
    }

    #[test]
    fn the_search_finds_what_running_the_loops_finds() {
        let mut state = 1u64;
        let mut draw = |n: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i64 % n
        };
        let mut met = [0, 0];
        for _ in 0..5000 {
            let sizes = [0; 3].map(|_| 1 + draw(5) as usize);
            let mut extents = Extents::default();
            for (v, n) in sizes.iter().enumerate() {
                extents.set(Var(v as u32), *n);
            }
            let wanted: Vec<(Affine, (i64, i64))> = (0..1 + draw(3))
                .map(|_| {
                    let mut a = Affine::constant(draw(15) - 7);
                    for v in 0..3 {
                        a.add_term(Var(v), draw(9) - 4);
                    }
                    let lo = draw(15) - 7;
                    (a, (lo, lo + draw(4) - 1))
                })
                .collect();
            let found = meet(&wanted, &extents);
            assert_eq!(found.is_some(), every(&wanted, sizes), "{wanted:?} {sizes:?}");
            for (value, (_, (lo, hi))) in found.iter().flatten().zip(&wanted) {
                assert!(value >= lo && value <= hi, "{wanted:?} {sizes:?}: {found:?}");
            }
            met[usize::from(found.is_some())] += 1;
        }
        assert!(met.iter().all(|n| *n > 500), "{met:?}");
    }

    #[test]
    fn what_takes_too_long_and_what_is_unknown_is_not_certain() {
        let (a, b) = (Var(0), Var(1));
        let mut extents = Extents::default();
        extents.set(a, 1 << 40);
        // Even numbers are never odd, but there are many.
        let both = [(Affine::term(a, 2).add(&Affine::term(b, -2)), (1, 1))];
        assert_eq!(meet(&both, &extents), None);
        extents.set(b, 1 << 40);
        assert_eq!(meet(&both, &extents), None);
        assert_eq!(meet(&[(Affine::term(a, 2), (1 << 40, 1 << 40))], &extents), Some(vec![1 << 40]));
        extents.set(b, 0);
        assert_eq!(meet(&[(Affine::var(b), (0, 0))], &extents), None);
        assert_eq!(meet(&[], &extents), Some(vec![]));
    }
}
