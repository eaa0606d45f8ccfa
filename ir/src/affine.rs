//! Affine index expressions: `sum(coefficient * loop variable) + constant`.
//!
//! Canonical by construction (terms sorted by variable, no zero coefficient), so equality is structural.
//! Knows nothing of buffers; bounds and strides are asked for by [`crate::access`] and by code generation.
//!
//! Arithmetic is checked: what leaves 64 bits is [`Affine::OVERFLOW`], and so is everything computed from it. It has
//! no range, so nothing can be proved of it, the verifier refuses it, and no code is generated for it.

use smallvec::{SmallVec, smallvec};

/// A loop variable. Numbers are unique within a [`crate::Program`], so nests can be merged without renaming.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Var(pub u32);

/// Indices are made, copied and dropped by the million while a program is compiled. Most have few terms, which need no
/// memory of their own.
type Terms = SmallVec<[(Var, i64); 3]>;

/// `sum(coefficient * variable) + constant`, over the integers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Affine {
    terms: Terms,
    constant: i64,
}

impl Affine {
    /// What is left of an expression of which a coefficient or the constant left 64 bits. The constant -2^63 means it,
    /// and cannot be anything else.
    pub const OVERFLOW: Affine = Affine { terms: SmallVec::new_const(), constant: i64::MIN };

    /// Whether arithmetic left 64 bits on the way to this expression: see [`Affine::OVERFLOW`].
    #[inline]
    pub fn is_overflow(&self) -> bool {
        self.constant == i64::MIN
    }

    /// Terms and a constant, if neither overflowed.
    fn checked(terms: Terms, constant: Option<i64>) -> Affine {
        match constant {
            Some(i64::MIN) | None => Affine::OVERFLOW,
            Some(constant) => Affine { terms, constant },
        }
    }

    /// A constant.
    #[inline]
    pub fn constant(value: i64) -> Affine {
        Affine { terms: Terms::new(), constant: value }
    }

    /// A single variable.
    pub fn var(var: Var) -> Affine {
        Affine { terms: smallvec![(var, 1)], constant: 0 }
    }

    /// `coefficient * var`.
    pub fn term(var: Var, coefficient: i64) -> Affine {
        if coefficient == 0 {
            return Affine::constant(0);
        }
        Affine { terms: smallvec![(var, coefficient)], constant: 0 }
    }

    /// The terms: variables in ascending order, coefficients not 0.
    #[inline]
    pub fn terms(&self) -> &[(Var, i64)] {
        &self.terms
    }

    /// The part without variables.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.constant
    }

    /// The coefficient of `var`, 0 if it does not occur.
    #[inline]
    pub fn coeff(&self, var: Var) -> i64 {
        self.terms.binary_search_by_key(&var, |t| t.0).map_or(0, |i| self.terms[i].1)
    }

    /// Whether `var` occurs.
    #[inline]
    pub fn uses(&self, var: Var) -> bool {
        self.coeff(var) != 0
    }

    /// The variables that occur, ascending.
    pub fn vars(&self) -> impl Iterator<Item = Var> + '_ {
        self.terms.iter().map(|t| t.0)
    }

    /// The value, if no variable occurs.
    pub fn as_const(&self) -> Option<i64> {
        (self.terms.is_empty() && !self.is_overflow()).then_some(self.constant)
    }

    /// The variable, if the expression is exactly one variable with coefficient 1 and no constant.
    pub fn as_var(&self) -> Option<Var> {
        match (self.terms.as_slice(), self.constant) {
            ([(v, 1)], 0) => Some(*v),
            _ => None,
        }
    }

    /// `self + other`.
    pub fn add(&self, other: &Affine) -> Affine {
        let (mut a, mut b) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        let mut terms = Terms::new();
        if self.is_overflow() || other.is_overflow() {
            return Affine::OVERFLOW;
        }
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(&&x), Some(&&y)) if x.0 == y.0 => {
                    a.next();
                    b.next();
                    match x.1.checked_add(y.1) {
                        Some(sum) => (x.0, sum),
                        None => return Affine::OVERFLOW,
                    }
                }
                (Some(&&x), Some(&&y)) if x.0 < y.0 => {
                    a.next();
                    x
                }
                (_, Some(&&y)) => {
                    b.next();
                    y
                }
                (Some(&&x), None) => {
                    a.next();
                    x
                }
                (None, None) => break,
            };
            if next.1 != 0 {
                terms.push(next);
            }
        }
        Affine::checked(terms, self.constant.checked_add(other.constant))
    }

    /// Adds `other * factor`.
    pub fn add_scaled(&mut self, other: &Affine, factor: i64) {
        if self.is_overflow() || other.is_overflow() {
            *self = Affine::OVERFLOW;
            return;
        }
        if factor == 0 {
            return;
        }
        for &(v, c) in &other.terms {
            match c.checked_mul(factor) {
                Some(c) => self.add_term(v, c),
                None => *self = Affine::OVERFLOW,
            }
        }
        let sum = other.constant.checked_mul(factor).and_then(|c| self.constant.checked_add(c));
        match sum.filter(|sum| *sum != i64::MIN && !self.is_overflow()) {
            Some(sum) => self.constant = sum,
            None => *self = Affine::OVERFLOW,
        }
    }

    /// Adds `coefficient * var`.
    #[inline]
    pub fn add_term(&mut self, var: Var, coefficient: i64) {
        if coefficient == 0 || self.is_overflow() {
            return;
        }
        match self.terms.binary_search_by_key(&var, |t| t.0) {
            Err(at) => self.terms.insert(at, (var, coefficient)),
            Ok(at) => match self.terms[at].1.checked_add(coefficient) {
                Some(0) => drop(self.terms.remove(at)),
                Some(sum) => self.terms[at].1 = sum,
                None => *self = Affine::OVERFLOW,
            },
        }
    }

    /// `self + value`.
    pub fn plus(&self, value: i64) -> Affine {
        match self.constant.checked_add(value) {
            Some(sum) if sum != i64::MIN && !self.is_overflow() => {
                Affine { terms: self.terms.clone(), constant: sum }
            }
            _ => Affine::OVERFLOW,
        }
    }

    /// `self * factor`.
    pub fn scale(&self, factor: i64) -> Affine {
        let mut product = Affine::constant(0);
        product.add_scaled(self, factor);
        product
    }

    /// `self` with every occurrence of `var` replaced.
    pub fn subst(&self, var: Var, with: &Affine) -> Affine {
        match self.coeff(var) {
            0 => self.clone(),
            c => {
                let mut rest = self.clone();
                rest.terms.retain(|t| t.0 != var);
                rest.add_scaled(with, c);
                rest
            }
        }
    }

    /// Renames every variable by `f`, which keeps the order of those that occur.
    pub(crate) fn rename_in_order(&mut self, f: &dyn Fn(Var) -> Var) {
        self.terms.iter_mut().for_each(|t| t.0 = f(t.0));
        debug_assert!(self.terms.is_sorted_by(|a, b| a.0 < b.0));
    }

    /// The smallest and the largest value when each variable `v` runs over `0..extent(v)`; `None` if some
    /// extent is 0 (then the expression is never evaluated) or the range leaves `i64`.
    pub fn range(&self, extent: impl Fn(Var) -> usize) -> Option<(i64, i64)> {
        if self.is_overflow() {
            return None;
        }
        let (mut lo, mut hi) = (self.constant, self.constant);
        for &(v, c) in &self.terms {
            let last = i64::try_from(extent(v).checked_sub(1)?).ok()?;
            let span = c.checked_mul(last)?;
            if span < 0 {
                lo = lo.checked_add(span)?;
            } else {
                hi = hi.checked_add(span)?;
            }
        }
        Some((lo, hi))
    }

    /// How large any number can get on the way to a value, when each variable `v` runs over `0..=extent(v)` (a loop
    /// counts one past its last iteration) and terms are added up in any order: the magnitudes of all of them.
    /// `None` for an [overflow](Affine::is_overflow).
    pub fn reach(&self, extent: impl Fn(Var) -> usize) -> Option<u128> {
        let term =
            |&(v, c): &(Var, i64)| u128::from(c.unsigned_abs()).saturating_mul(extent(v).max(1) as u128);
        let terms = self.terms.iter().map(term).fold(0, u128::saturating_add);
        (!self.is_overflow()).then(|| terms.saturating_add(self.constant.unsigned_abs().into()))
    }

    /// The value for given values of the variables; wraps around where it leaves 64 bits.
    pub fn eval(&self, value: impl Fn(Var) -> i64) -> i64 {
        self.terms.iter().fold(self.constant, |acc, &(v, c)| acc.wrapping_add(c.wrapping_mul(value(v))))
    }
}

impl From<Var> for Affine {
    fn from(var: Var) -> Affine {
        Affine::var(var)
    }
}

impl From<i64> for Affine {
    fn from(value: i64) -> Affine {
        Affine::constant(value)
    }
}

/// For literals: Rust takes an integer literal of open type for an `i32`.
impl From<i32> for Affine {
    fn from(value: i32) -> Affine {
        Affine::constant(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_and_substitution() {
        let (a, b) = (Var(0), Var(1));
        let e = Affine::term(b, 2).add(&Affine::var(a)).plus(-1);
        assert_eq!(e.terms(), &[(a, 1), (b, 2)]);
        assert_eq!(e.add(&Affine::term(b, -2)).terms(), &[(a, 1)]);
        assert_eq!(e.subst(a, &Affine::term(b, -2)).as_const(), Some(-1));
        assert_eq!(e.range(|v| if v == a { 3 } else { 5 }), Some((-1, 9)));
        assert_eq!(e.range(|_| 0), None);
        assert_eq!(e.eval(|v| i64::from(v.0) + 1), 4);
        let mut sum = Affine::constant(5);
        for (other, factor) in [(&e, 3), (&Affine::term(Var(7), 1), -2), (&e, 0), (&Affine::var(a), -3)] {
            let expected = sum.add(&other.scale(factor));
            sum.add_scaled(other, factor);
            assert_eq!(sum, expected);
        }
        assert_eq!(sum.terms(), &[(b, 6), (Var(7), -2)]);
    }

    #[test]
    fn what_leaves_64_bits_never_becomes_a_number_again() {
        let (a, b) = (Var(0), Var(1));
        let large = Affine::term(a, i64::MAX).plus(7);
        let mut sum = large.clone();
        sum.add_term(a, 1);
        let mut scaled = Affine::var(b);
        scaled.add_scaled(&large, 2);
        let overflows = [
            sum,
            scaled,
            large.scale(2),
            large.scale(-2),
            large.plus(i64::MAX),
            large.add(&Affine::var(a)),
            Affine::term(b, 2).subst(b, &large),
            Affine::constant(i64::MAX).add(&Affine::constant(1)),
            Affine::constant(i64::MIN + 1).plus(-1),
            Affine::constant(i64::MIN),
        ];
        for o in overflows {
            assert!(o.is_overflow() && o == Affine::OVERFLOW, "{o:?}");
            assert_eq!((o.as_const(), o.range(|_| 1), o.reach(|_| 1)), (None, None, None));
            let again = [
                o.plus(1),
                o.plus(i64::MAX),
                o.scale(0),
                o.scale(-1),
                o.add(&Affine::var(a)),
                o.subst(a, &large),
            ];
            assert!(again.iter().all(Affine::is_overflow), "{again:?}");
            let mut other = Affine::var(b);
            other.add_scaled(&o, 0);
            assert!(other.is_overflow());
            other.add_term(b, 3);
            assert!(other.is_overflow());
        }
        assert_eq!(
            large.reach(|_| 0),
            Some(i64::MAX as u128 + 7),
            "a loop of no iterations still has a counter"
        );
        assert_eq!(Affine::term(a, -3).plus(-4).reach(|_| 10), Some(34));
        assert_eq!(Affine::term(a, i64::MAX).reach(|_| usize::MAX).map(|r| r > 1 << 100), Some(true));
    }
}
