//! Sums of products with radii: what [`Dot`] recognises, where most of the time is spent.

use super::Radii;
use super::ball::{self, Ball};
use super::resolve::State;
use super::sum;
use crate::interp::dot::Dot;
use crate::interp::value::Stored;
use crate::ops::BinOp;
use crate::types::{DType, Scalar};

/// The values and radii of an operand.
struct Operand<'a> {
    values: &'a [f32],
    radii: &'a Radii,
}

impl Operand<'_> {
    fn get(&self, at: usize) -> Option<(f32, f64)> {
        let value = *self.values.get(at)?;
        let radius = self.radii.radius.get(at).map_or(0.0, |radius| f64::from(radius.abs()));
        match self.radii.magnitude.get(at) {
            Some(&magnitude) if magnitude != 0.0 => {
                let held = Ball::new(Scalar::F32(value), radius);
                Some((value, sum::settle(Ball { magnitude, ..held }).radius))
            }
            _ => Some((value, radius)),
        }
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
    sum.outer_iterations(&mut values.vars, |vars| {
        let (k, n) = sum.innermost;
        vars[k] = 0;
        let at = sum.at.eval(vars);
        let (x, y) = (sum.a.row(vars, n), sum.b.row(vars, n));
        let pair = |i: i64| {
            let (value, radius) = x.at(i).map_or(Some((sum.a.otherwise, 0.0)), |at| a.get(at))?;
            let first = (value, radius);
            Some((first, y.at(i).map_or(Some((sum.b.otherwise, 0.0)), |at| b.get(at))?))
        };
        let mut i = 0;
        while i < n {
            // All iterations if they add to one element, or one.
            let terms = i..if sum.step == 0 { n } else { i + 1 };
            let place = usize::try_from(at.wrapping_add(i.wrapping_mul(sum.step))).ok()?;
            let value = target.get_mut(place)?;
            let start =
                Sum { total: *value, radius: radii.radius[place].abs(), magnitude: radii.magnitude[place] };
            let end = match start.add_finite(terms.clone().map(pair)) {
                Some(end) if end.is_ordinary() => end,
                Some(_) => start.add_any(terms.clone().map(pair))?,
                None => return None,
            };
            *value = end.total;
            (radii.radius[place], radii.magnitude[place]) = (end.radius, end.magnitude);
            if let Some(picked) = radii.picked.get_mut(place) {
                *picked = 0;
            }
            i = terms.end;
        }
        Some(())
    })
}

/// A term's two factors, each with its radius.
type Factors = ((f32, f64), (f32, f64));

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
    fn add_finite(self, terms: impl Iterator<Item = Option<Factors>>) -> Option<Sum> {
        let unit = ball::unit(DType::F32)?;
        let Sum { mut total, radius, mut magnitude } = self;
        let mut squares = f64::from(radius).powi(2);
        if magnitude == 0.0 {
            magnitude = f64::from(total).abs();
        }
        for term in terms {
            let ((x, rx), (y, ry)) = term?;
            let (xx, yy) = (f64::from(x), f64::from(y));
            let product = x * y;
            if f64::from(product) != xx * yy {
                squares += (unit * f64::from(product)).powi(2);
            }
            if rx != 0.0 || ry != 0.0 {
                squares += (xx * ry).powi(2) + (yy * rx).powi(2) + (rx * ry).powi(2);
            }
            let wide = f64::from(total) + f64::from(product);
            total += product;
            if f64::from(total) != wide {
                squares += (unit * f64::from(total)).powi(2);
            }
            magnitude += f64::from(product).abs();
        }
        Some(Sum { total, radius: ball::held_radius(squares.sqrt()), magnitude })
    }

    /// Adds products of any values.
    fn add_any(self, terms: impl Iterator<Item = Option<Factors>>) -> Option<Sum> {
        let ball = |value: f32, radius: f64| Ball::new(Scalar::F32(value), radius);
        let mut sum = ball(self.total, f64::from(self.radius));
        if self.magnitude != 0.0 {
            sum.magnitude = self.magnitude;
        }
        for term in terms {
            let ((x, rx), (y, ry)) = term?;
            sum = sum::add(sum, ball::binary(BinOp::Mul, ball(x, rx), ball(y, ry))?)?;
        }
        let Scalar::F32(total) = sum.value else { return None };
        Some(Sum { total, radius: ball::held_radius(sum.radius), magnitude: sum.magnitude })
    }
}
