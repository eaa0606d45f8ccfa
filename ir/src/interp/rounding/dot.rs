//! Sums of products with radii: what [`Dot`] recognises, where most of the time is spent.

use std::ops::Range;

use super::Radii;
use super::ball::{self, Ball};
use super::precision;
use super::resolve::State;
use super::sum;
use crate::interp::dot::{Dot, Row};
use crate::interp::value::Stored;
use crate::ops::BinOp;
use crate::types::{DType, Scalar};

/// So many terms are added side by side where the order does not matter.
const LANES: usize = 8;

/// After so many terms of one element the sum is brought up to date, so that they stay in the first cache.
const MOST_TERMS: usize = 1024;

/// The values and radii of an operand.
struct Operand<'a> {
    values: &'a [f32],
    radii: &'a Radii,
}

impl Operand<'_> {
    /// The radius of an element, which is one of the buffer's.
    fn radius(&self, at: usize) -> f64 {
        let radius = self.radii.radius.get(at).map_or(0.0, |radius| f64::from(radius.abs()));
        match self.radii.magnitude.get(at) {
            Some(&magnitude) if magnitude != 0.0 => {
                let held = Ball::new(Scalar::F32(self.values[at]), radius);
                sum::settle(Ball { magnitude, ..held }).radius
            }
            _ => radius,
        }
    }

    /// Appends the elements of a row to those that were read; `None` if one is outside the buffer.
    fn read(&self, row: &Row, otherwise: f32, n: i64, to: &mut Column) -> Option<()> {
        let (begin, n) = (to.values.len(), usize::try_from(n).ok()?);
        let inside = row.inside();
        to.values.resize(begin + n, otherwise);
        to.radii.resize(begin + n, 0.0);
        let (Some(first), Some(last)) = (inside.clone().next(), inside.clone().next_back()) else {
            return Some(());
        };
        let (first, last) = (row.at(first)?, row.at(last)?);
        if first.max(last) >= self.values.len() {
            return None;
        }
        let places = usize::try_from(inside.start).ok()?..usize::try_from(inside.end).ok()?;
        let values = to.values[begin..].get_mut(places.clone())?;
        let step = isize::try_from(row.step()).ok()?;
        let at = |i: usize| first.wrapping_add_signed(step.wrapping_mul(i as isize));
        match step {
            1 => values.copy_from_slice(self.values.get(first..=last)?),
            _ => values.iter_mut().enumerate().for_each(|(i, value)| *value = self.values[at(i)]),
        }
        if !self.radii.radius.is_empty() || !self.radii.magnitude.is_empty() {
            let radii = to.radii[begin..].get_mut(places)?;
            for (i, radius) in radii.iter_mut().enumerate() {
                *radius = self.radius(at(i));
                to.uncertain |= *radius != 0.0;
            }
        }
        Some(())
    }
}

/// Factors of terms that were read, in order.
#[derive(Default)]
struct Column {
    values: Vec<f32>,
    radii: Vec<f64>,
    /// Whether one has a radius.
    uncertain: bool,
}

/// Terms that were read and not added yet.
#[derive(Default)]
struct Terms {
    a: Column,
    b: Column,
}

impl Terms {
    fn len(&self) -> usize {
        self.a.values.len()
    }

    fn clear(&mut self) {
        for column in [&mut self.a, &mut self.b] {
            column.values.clear();
            column.radii.clear();
            column.uncertain = false;
        }
    }
}

/// The elements that terms are added to.
struct Target<'a> {
    values: &'a mut [f32],
    radii: &'a mut Radii,
}

impl Target<'_> {
    /// Adds terms to an element; `None` if it is outside the buffer.
    fn add(&mut self, place: usize, terms: &Terms, range: Range<usize>) -> Option<()> {
        let value = self.values.get_mut(place)?;
        let radii = &mut *self.radii;
        let start =
            Sum { total: *value, radius: radii.radius[place].abs(), magnitude: radii.magnitude[place] };
        let mut end = start.add_finite(terms, range.clone())?;
        if !end.is_ordinary() {
            end = start.add_any(terms, range)?;
        }
        *value = end.total;
        (radii.radius[place], radii.magnitude[place]) = (end.radius, end.magnitude);
        if let Some(picked) = radii.picked.get_mut(place) {
            *picked = 0;
        }
        Some(())
    }
}

/// Runs the loops of a sum; `None` if an access leaves its buffer after all.
pub(super) fn dot(sum: &Dot<f32>, state: &mut State) -> Option<()> {
    // The target is neither operand, so it can be taken out while they are read.
    let nothing = f32::data(Vec::new());
    let mut data = std::mem::replace(&mut state.values.bufs[sum.target].data, nothing);
    let mut radii = std::mem::take(&mut state.radii[sum.target]);
    let done = f32::slice_mut(&mut data).and_then(|values| {
        radii.radius.resize(values.len(), 0.0);
        radii.magnitude.resize(values.len(), 0.0);
        run(sum, state, values, &mut radii)
    });
    state.values.bufs[sum.target].data = data;
    state.radii[sum.target] = radii;
    done
}

fn run(sum: &Dot<f32>, state: &mut State, target: &mut [f32], radii: &mut Radii) -> Option<()> {
    let State { values, radii: all, .. } = state;
    let operand =
        |buf: usize| Some(Operand { values: f32::slice(&values.bufs[buf].data)?, radii: &all[buf] });
    let (a, b) = (operand(sum.a.buf)?, operand(sum.b.buf)?);
    let mut target = Target { values: target, radii };
    let mut terms = Terms::default();
    // The element that all of `terms` are of, if there are any.
    let mut of = 0;
    sum.outer_iterations(&mut values.vars, |vars| {
        let (k, n) = sum.innermost;
        vars[k] = 0;
        let at = sum.at.eval(vars);
        let place = |i: i64| usize::try_from(at.wrapping_add(i.wrapping_mul(sum.step))).ok();
        let first = place(0)?;
        if terms.len() > 0 && (sum.step != 0 || first != of || terms.len() >= MOST_TERMS) {
            target.add(of, &terms, 0..terms.len())?;
            terms.clear();
        }
        of = first;
        a.read(&sum.a.row(vars, n), sum.a.otherwise, n, &mut terms.a)?;
        b.read(&sum.b.row(vars, n), sum.b.otherwise, n, &mut terms.b)?;
        if sum.step != 0 {
            (0..terms.len()).try_for_each(|i| target.add(place(i as i64)?, &terms, i..i + 1))?;
            terms.clear();
        }
        Some(())
    })?;
    match terms.len() {
        0 => Some(()),
        n => target.add(of, &terms, 0..n),
    }
}

/// A sum so far, as [`Radii`] hold it.
#[derive(Clone, Copy)]
struct Sum {
    total: f32,
    radius: f32,
    magnitude: f64,
}

impl Sum {
    /// Whether no partial sum in any order left the range.
    fn is_ordinary(self) -> bool {
        self.magnitude < f64::from(f32::MAX) && self.total.is_finite()
    }

    /// Adds products, all of which are assumed to be finite, as [`ball::binary`] and [`sum::add`] do.
    fn add_finite(self, terms: &Terms, range: Range<usize>) -> Option<Sum> {
        let unit = precision::unit(DType::F32)?;
        let (a, b) = (&terms.a, &terms.b);
        let (x, y) = (&a.values[range.clone()], &b.values[range.clone()]);
        let mut total = self.total;
        let mut squares = [0.0; LANES];
        let mut magnitudes = [0.0; LANES];
        squares[0] = f64::from(self.radius).powi(2);
        magnitudes[0] = if self.magnitude == 0.0 { f64::from(total).abs() } else { self.magnitude };
        // The square of what rounding an exact result to this one may have changed.
        let rounding = |held: f32, exact: f64| {
            let held = f64::from(held);
            let changed = if held == exact { 0.0 } else { unit * held };
            changed * changed
        };
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        for (x, y) in x.iter().zip(y) {
            let mut products = [0.0; LANES];
            for l in 0..LANES {
                products[l] = x[l] * y[l];
                squares[l] += rounding(products[l], f64::from(x[l]) * f64::from(y[l]));
                magnitudes[l] += f64::from(products[l]).abs();
            }
            let (mut before, mut after) = ([0.0; LANES], [0.0; LANES]);
            for l in 0..LANES {
                before[l] = total;
                total += products[l];
                after[l] = total;
            }
            for l in 0..LANES {
                squares[l] += rounding(after[l], f64::from(before[l]) + f64::from(products[l]));
            }
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            let product = x * y;
            let wide = f64::from(total) + f64::from(product);
            total += product;
            squares[0] += rounding(product, f64::from(*x) * f64::from(*y)) + rounding(total, wide);
            magnitudes[0] += f64::from(product).abs();
        }
        let mut squares: f64 = squares.iter().sum();
        if a.uncertain || b.uncertain {
            let factors = |c: &Column, i: usize| (f64::from(c.values[i]), c.radii[i]);
            squares += range
                .map(|i| {
                    let ((x, rx), (y, ry)) = (factors(a, i), factors(b, i));
                    (x * ry).powi(2) + (y * rx).powi(2) + (rx * ry).powi(2)
                })
                .sum::<f64>();
        }
        let magnitude = magnitudes.iter().sum();
        Some(Sum { total, radius: precision::held_radius(squares.sqrt()), magnitude })
    }

    /// Adds products of any values.
    fn add_any(self, terms: &Terms, range: Range<usize>) -> Option<Sum> {
        let ball = |value: f32, radius: f64| Ball::new(Scalar::F32(value), radius);
        let mut sum = ball(self.total, f64::from(self.radius));
        if self.magnitude != 0.0 {
            sum.magnitude = self.magnitude;
        }
        for i in range {
            let factor = |c: &Column| ball(c.values[i], c.radii[i]);
            sum = sum::add(sum, ball::binary(BinOp::Mul, factor(&terms.a), factor(&terms.b))?)?;
        }
        let Scalar::F32(total) = sum.value else { return None };
        Some(Sum { total, radius: precision::held_radius(sum.radius), magnitude: sum.magnitude })
    }
}
