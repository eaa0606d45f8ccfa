//! A value and how far rounding may have moved it: what each operation makes of both.
//!
//! Radii of independent errors add up as the root of the sum of their squares, as errors in many places do; a value may be
//! several radii away ([`CONFIDENCE`]). Where a result jumps (rounding to a step, a comparison, the end of the range of a
//! type), the radius is the whole jump if the operand may lie on either side.

use crate::interp::scalar::{eval_binary, eval_cast, eval_unary};
use crate::ops::{BinOp, UnOp};
use crate::types::{DType, Scalar};

use super::precision::{ROOM, is_exact, range, unit};

/// How many radii another correct result may be away: among many elements, some are off by several times what is usual.
pub(super) const CONFIDENCE: f64 = 4.0;

/// How much farther errors reach where a half type rounds them, and what follows: they are whole steps, which many
/// elements that depend on the same ones take or do not take together.
const HALF_STEPS: f64 = 2.0;

/// A computed value, and how far another way of computing it may be from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ball {
    /// The value, computed as the program says.
    pub value: Scalar,
    /// How far other values that are as right may be; infinite if nothing is known. For `bool`, 1 if it may be either.
    pub radius: f64,
    /// The rounding of the one operation on certain operands that made it, or the rounding to a half type. Every program rounds
    /// it like this, so it opens no decision; but it may be left out where the value goes into more arithmetic (a product
    /// that is added up, an activation of several operations on halves that is computed in `f32`).
    pub pending: f64,
    /// The sum of the magnitudes of what was added up for it: other orders of adding round such partial sums. Finite for an
    /// infinity that is a result out of range.
    pub magnitude: f64,
    /// Where the value is, or was picked from: of two values of one origin, both are off by the same.
    pub origin: Option<Origin>,
}

/// An element of a buffer, as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    /// A number for the element.
    pub id: u64,
    /// Whether the value was picked from there (a maximum), and is somewhere else.
    pub is_picked: bool,
}

impl Ball {
    /// A value that no rounding has a part in.
    pub fn exact(value: Scalar) -> Ball {
        Ball::new(value, 0.0)
    }

    pub fn new(value: Scalar, radius: f64) -> Ball {
        let radius = if radius.is_nan() { f64::INFINITY } else { radius };
        Ball { value, radius, pending: 0.0, magnitude: value.as_f64().abs(), origin: None }
    }

    pub fn mid(self) -> f64 {
        self.value.as_f64()
    }

    pub fn is_uncertain(self) -> bool {
        self.radius > 0.0
    }

    /// The value as an operand of arithmetic.
    pub fn operand(self) -> Ball {
        Ball { radius: self.radius.hypot(self.pending), pending: 0.0, ..self }
    }

    /// Whether it is infinite because a result left the range of its type.
    pub fn is_out_of_range(self) -> bool {
        self.mid().is_infinite() && self.magnitude.is_finite()
    }

    /// Whether both are one value, so that they are equal however it is rounded.
    fn is_same(self, other: Ball) -> bool {
        let id = |ball: Ball| ball.origin.map(|origin| origin.id);
        id(self).is_some() && id(self) == id(other) && self.value == other.value && !self.mid().is_nan()
    }

    /// How far other values are at most: one step where one decision is open.
    pub fn farthest(self) -> f64 {
        if self.value.dtype().is_float() || self.radius > 1.0 {
            CONFIDENCE * self.radius
        } else {
            self.radius
        }
    }

    /// The distance to the farthest value that `other` may be.
    pub fn reach(self, other: Ball) -> f64 {
        let (a, b) = (self.mid(), other.mid());
        let gap = if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() };
        if gap.is_nan() { f64::INFINITY } else { gap + other.radius }
    }
}

/// A rounded result: `wide` is what it was before it was rounded, `moved` how far errors of the operands move it, and
/// `magnitude` what the rounding is relative to.
fn rounded(value: Scalar, wide: f64, moved: f64, magnitude: f64) -> Ball {
    let dtype = value.dtype();
    let Some(unit) = unit(dtype) else { return Ball::new(value, moved) };
    let (max, _, tiny) = range(dtype);
    let held = value.as_f64();
    let rounding =
        if moved == 0.0 && is_exact(dtype, held, wide) { 0.0 } else { unit * magnitude + ROOM * tiny };
    let magnitude = if held.is_infinite() { magnitude.max(wide.abs()) } else { magnitude.max(held.abs()) };
    // Where another order of the operations leaves the range of the type, or does not.
    let inside = magnitude.max(wide.abs()) + CONFIDENCE * moved.hypot(rounding) < max;
    let outside = held.is_infinite() && wide.abs() * (1.0 - CONFIDENCE * unit) - CONFIDENCE * moved > max;
    let (radius, pending) = if wide.is_nan() || inside {
        if moved == 0.0 { (0.0, rounding) } else { (moved.hypot(rounding), 0.0) }
    } else if outside {
        (0.0, 0.0)
    } else {
        (f64::INFINITY, 0.0)
    };
    Ball { value, radius, pending, magnitude, origin: None }
}

/// What operands that are not finite make of a result; `None` if that is for the operation to say.
fn special(value: Scalar, operands: &[Ball]) -> Option<Ball> {
    if operands.iter().any(|b| b.radius.is_infinite()) {
        return Some(Ball::new(value, f64::INFINITY));
    }
    let certain = operands.iter().all(|b| !b.is_uncertain());
    let finite = operands.iter().all(|b| b.mid().is_finite());
    if certain && (!finite || value.as_f64().is_nan()) {
        return Some(Ball::exact(value));
    }
    if finite {
        return None;
    }
    // An infinity absorbs what is finite, unless it is multiplied with what may be zero.
    let straddles = operands.iter().any(|b| b.is_uncertain() && b.mid().abs() <= b.farthest());
    Some(Ball::new(value, if straddles { f64::INFINITY } else { 0.0 }))
}

/// A unary operation; `None` if it is not defined on the operand's type.
pub(super) fn unary(op: UnOp, a: Ball) -> Option<Ball> {
    let value = eval_unary(op, a.value)?;
    let dtype = a.value.dtype();
    Some(match op {
        UnOp::Neg | UnOp::Abs => Ball { value, origin: None, ..a },
        UnOp::Not | UnOp::BitNot => Ball::new(value, a.radius),
        UnOp::IsNan | UnOp::IsInf => Ball::new(value, if a.radius.is_infinite() { 1.0 } else { 0.0 }),
        UnOp::Sign if dtype.is_int() => Ball::new(value, a.radius.min(2.0)),
        UnOp::Sign | UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc => {
            let (lo, hi) = ends(op, a);
            Ball::new(value, if a.is_uncertain() { steps(farthest(value.as_f64(), lo, hi)) } else { 0.0 })
        }
        _ if !dtype.is_float() => Ball::new(value, if a.is_uncertain() { f64::INFINITY } else { 0.0 }),
        UnOp::Sin | UnOp::Cos if a.mid().is_finite() => {
            // The reduction of the argument leaves an error that is relative to 1.
            let scale = if a.mid().abs() < 0.75 { value.as_f64().abs() } else { 1.0 };
            Ball::new(value, elementary(dtype, a.operand().radius.min(2.0), scale))
        }
        UnOp::Tan if a.mid().is_finite() => {
            let slope = 1.0 + value.as_f64().powi(2);
            let a = a.operand();
            let near_pole = a.farthest() * slope.sqrt() > 0.5;
            let scale = if a.mid().abs() < 0.75 { value.as_f64().abs() } else { slope };
            let radius = elementary(dtype, a.radius * slope * 2.0, scale);
            Ball::new(value, if near_pole { f64::INFINITY } else { radius })
        }
        UnOp::Sqrt => {
            let root = value.as_f64();
            let certain = !a.operand().is_uncertain() && root.is_finite();
            let pending = if root * root == a.mid() { 0.0 } else { unit(dtype).unwrap_or(0.0) * root };
            if certain { Ball { pending, ..Ball::exact(value) } } else { smooth(op, a.operand(), value) }
        }
        _ => smooth(op, a.operand(), value),
    })
}

/// A function without jumps, by its values at both ends.
fn smooth(op: UnOp, a: Ball, value: Scalar) -> Ball {
    let dtype = a.value.dtype();
    if a.radius.is_infinite() {
        return Ball::new(value, f64::INFINITY);
    }
    let (max, ..) = range(dtype);
    let v = value.as_f64();
    let (lo, hi) = ends(op, a);
    let beyond = |x: f64| x.abs() > max;
    // Both sides of the end of the domain or of the range, or neither.
    let radius = if !v.is_finite() {
        let same = if v.is_nan() { lo.is_nan() && hi.is_nan() } else { beyond(lo) && beyond(hi) };
        if same { 0.0 } else { f64::INFINITY }
    } else if lo.is_nan() || hi.is_nan() || (a.is_uncertain() && (beyond(lo) || beyond(hi))) {
        f64::INFINITY
    } else if a.mid() == 0.0 && !a.is_uncertain() && v.fract() == 0.0 {
        // 0, 1 and the like: every implementation has them exact.
        0.0
    } else {
        elementary(dtype, farthest(v, lo, hi) / CONFIDENCE, v.abs())
    };
    Ball::new(value, radius)
}

/// The radius of the result of an elementary function.
fn elementary(dtype: DType, moved: f64, scale: f64) -> f64 {
    let (_, normal, _) = range(dtype);
    // Results below the normal range may be flushed to zero.
    moved.hypot(unit(dtype).unwrap_or(0.0) * scale + if scale < 2.0 * normal { normal } else { 0.0 })
}

/// The radius of what may be off by so many steps: a whole one if it is one.
fn steps(distance: f64) -> f64 {
    distance.min(1.0).max(distance / CONFIDENCE)
}

/// The results for the smallest and the largest operand, in `f64`.
fn ends(op: UnOp, a: Ball) -> (f64, f64) {
    let at = |x: f64| eval_unary(op, Scalar::F64(x)).map_or(f64::NAN, Scalar::as_f64);
    (at(a.mid() - a.farthest()), at(a.mid() + a.farthest()))
}

fn farthest(v: f64, lo: f64, hi: f64) -> f64 {
    let distance = |x: f64| if x == v { 0.0 } else { (x - v).abs() };
    let (lo, hi) = (distance(lo), distance(hi));
    if lo.is_nan() || hi.is_nan() { f64::INFINITY } else { lo.max(hi) }
}

/// A binary operation; `None` if it is not defined on the operands' types.
pub(super) fn binary(op: BinOp, a: Ball, b: Ball) -> Option<Ball> {
    let value = eval_binary(op, a.value, b.value)?;
    let dtype = a.value.dtype();
    let certain = !a.is_uncertain() && !b.is_uncertain();
    Some(match op {
        BinOp::Eq | BinOp::Ne | BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge => {
            let gap = (a.mid() - b.mid()).abs();
            let decided = certain || a.is_same(b) || gap > a.farthest() + b.farthest();
            Ball::new(value, if decided { 0.0 } else { 1.0 })
        }
        BinOp::Max | BinOp::Min => extreme(op, value, a, b),
        BinOp::And | BinOp::Or | BinOp::Xor if dtype == DType::Bool => {
            // One that is certain and decides makes the other irrelevant.
            let deciding = if op == BinOp::And { Some(0.0) } else { (op == BinOp::Or).then_some(1.0) };
            let decided = |x: Ball| !x.is_uncertain() && Some(x.mid()) == deciding;
            let radius = if certain || decided(a) || decided(b) { 0.0 } else { 1.0 };
            Ball::new(value, radius)
        }
        _ if !dtype.is_float() => integer(op, value, a, b, certain),
        _ => {
            let (a, b) = (a.operand(), b.operand());
            let certain = !a.is_uncertain() && !b.is_uncertain();
            match out_of_range(op, value, a, b).or_else(|| special(value, &[a, b])) {
                Some(ball) => ball,
                None => float(op, value, a, b, certain),
            }
        }
    })
}

/// A sum of which an operand is out of range: contracted, it may come back.
fn out_of_range(op: BinOp, value: Scalar, a: Ball, b: Ball) -> Option<Ball> {
    let sign = match op {
        BinOp::Add => 1.0,
        BinOp::Sub => -1.0,
        _ => return None,
    };
    if !a.is_out_of_range() && !b.is_out_of_range() {
        return None;
    }
    let opposite = a.mid() * b.mid() * sign < 0.0 || value.as_f64().is_nan();
    let unknown = opposite || a.radius.is_infinite() || b.radius.is_infinite();
    let radius = if unknown { f64::INFINITY } else { 0.0 };
    Some(Ball { magnitude: a.magnitude + b.magnitude, ..Ball::new(value, radius) })
}

fn extreme(op: BinOp, value: Scalar, a: Ball, b: Ball) -> Ball {
    if a.radius.is_infinite() || b.radius.is_infinite() || value.as_f64().is_nan() {
        let certain = !a.is_uncertain() && !b.is_uncertain();
        return Ball::new(value, if certain { 0.0 } else { f64::INFINITY });
    }
    let pick = |x: f64, y: f64| if op == BinOp::Max { x.max(y) } else { x.min(y) };
    let lo = pick(a.mid() - a.farthest(), b.mid() - b.farthest());
    let hi = pick(a.mid() + a.farthest(), b.mid() + b.farthest());
    // Where both may be the one that is picked, it is not known to be the same as either.
    let certain = !a.is_uncertain() && !b.is_uncertain();
    let decided = certain || a.is_same(b) || (a.mid() - b.mid()).abs() > a.farthest() + b.farthest();
    let picked = if value == a.value { a.origin } else { b.origin }.filter(|_| decided);
    let origin = picked.map(|origin| Origin { is_picked: true, ..origin });
    let distance = farthest(value.as_f64(), lo, hi);
    let radius = if value.dtype().is_float() { distance / CONFIDENCE } else { steps(distance) };
    Ball { pending: a.pending.max(b.pending), origin, ..Ball::new(value, radius) }
}

/// An operation on integers.
pub(super) fn integer(op: BinOp, value: Scalar, a: Ball, b: Ball, certain: bool) -> Ball {
    if certain {
        return Ball::exact(value);
    }
    let (x, y) = (a.mid().abs(), b.mid().abs());
    let radius = match op {
        BinOp::Add | BinOp::Sub => a.radius.hypot(b.radius),
        BinOp::Mul => (x * b.radius).hypot(y * a.radius) + a.radius * b.radius,
        BinOp::Div if !b.is_uncertain() && y > 0.0 => (a.radius / y).ceil(),
        BinOp::Rem | BinOp::Mod if !b.is_uncertain() => y,
        _ => f64::INFINITY,
    };
    let ball = Ball::new(value, radius);
    if wraps(value, ball.farthest()) { Ball { radius: f64::INFINITY, ..ball } } else { ball }
}

/// Whether a value that may be so far off may leave the range of its type, and come back at the other end.
fn wraps(value: Scalar, distance: f64) -> bool {
    let (lo, hi) = match value.dtype() {
        DType::I64 => (i64::MIN as f64, i64::MAX as f64),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DType::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DType::U64 => (0.0, u64::MAX as f64),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::U16 => (0.0, f64::from(u16::MAX)),
        DType::U8 => (0.0, f64::from(u8::MAX)),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => return false,
    };
    distance > 0.0 && (value.as_f64() - distance < lo || value.as_f64() + distance > hi)
}

/// An operation on finite numbers.
fn float(op: BinOp, value: Scalar, a: Ball, b: Ball, certain: bool) -> Ball {
    let dtype = value.dtype();
    let (x, y, v) = (a.mid(), b.mid(), value.as_f64());
    match op {
        BinOp::Sub if a.is_same(b) => Ball::exact(value),
        BinOp::Add | BinOp::Sub => {
            let wide = if op == BinOp::Add { x + y } else { x - y };
            rounded(value, wide, a.radius.hypot(b.radius), a.magnitude + b.magnitude)
        }
        BinOp::Mul => {
            let moved = (x * b.radius).hypot(y * a.radius).hypot(a.radius * b.radius);
            rounded(value, x * y, moved, v.abs().min(range(dtype).0))
        }
        BinOp::Div => {
            let nearest = y.abs() - b.farthest();
            if certain && y == 0.0 {
                return Ball::exact(value);
            }
            if nearest <= 0.0 {
                return Ball::new(value, f64::INFINITY);
            }
            let wide = x / y;
            let moved = (a.radius / nearest).hypot(wide * b.radius / nearest);
            // A division may be a multiplication with the inverse, which is only exact for powers of two.
            let inverse_exact = y.abs().log2().fract() == 0.0;
            let wide = if inverse_exact { wide } else { wide * (1.0 + f64::EPSILON) };
            rounded(value, wide, moved, v.abs().min(range(dtype).0))
        }
        BinOp::Rem | BinOp::Mod => {
            let quotient = x / y;
            let slack = (a.farthest() + quotient.abs() * b.farthest()) / (y.abs() - b.farthest()).max(0.0);
            if certain && op == BinOp::Rem {
                return Ball::exact(value);
            }
            let whole = |q: f64| if op == BinOp::Mod { q.floor() } else { q.trunc() };
            let jumps = !slack.is_finite() || whole(quotient - slack) != whole(quotient + slack);
            let moved = if jumps && !certain { y.abs() } else { a.radius.hypot(quotient * b.radius) };
            rounded(value, v, moved, v.abs())
        }
        BinOp::Pow => {
            let at = |x: f64, y: f64| libm::pow(x, y);
            let corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]
                .map(|(s, t)| farthest(v, at(x + s * a.farthest(), y + t * b.farthest()), v));
            let moved = corners.into_iter().fold(0.0, f64::max) / CONFIDENCE;
            let moved = if certain { 0.0 } else { moved };
            let max = range(dtype).0;
            let beyond = at(x, y).abs() > max;
            match v.is_infinite() {
                true if beyond && certain => Ball::exact(value),
                // Zero to a negative power.
                true if certain => Ball::exact(value),
                true => Ball::new(value, f64::INFINITY),
                false => Ball::new(value, elementary(dtype, moved, v.abs())),
            }
        }
        BinOp::Atan2 => {
            let distance = x.hypot(y);
            let moved = if certain {
                0.0
            } else if y <= b.farthest() && x.abs() <= a.farthest() {
                2.0 * std::f64::consts::PI
            } else {
                (a.radius + b.radius) / distance
            };
            Ball::new(value, elementary(dtype, moved, v.abs()))
        }
        // Not on floats.
        _ => Ball::new(value, if certain { 0.0 } else { f64::INFINITY }),
    }
}

/// A choice; `c` is the condition.
pub(super) fn select(c: Ball, a: Ball, b: Ball) -> Ball {
    let (chosen, other) = if c.mid() == 0.0 { (b, a) } else { (a, b) };
    if !c.is_uncertain() {
        return chosen;
    }
    let jump = chosen.reach(other);
    let jump = if chosen.value.dtype().is_int() { steps(jump) } else { jump };
    Ball { radius: chosen.radius.max(jump), origin: None, ..chosen }
}

/// A conversion.
pub(super) fn cast(to: DType, a: Ball) -> Ball {
    let value = eval_cast(to, a.value);
    let from = a.value.dtype();
    if from == to {
        return a;
    }
    let ends = || {
        let at = |x: f64| eval_cast(to, Scalar::F64(x)).as_f64();
        steps(farthest(value.as_f64(), at(a.mid() - a.farthest()), at(a.mid() + a.farthest())))
    };
    match to {
        // Exact; so what is pending stays so.
        DType::F32 | DType::F64 if from.is_half() => Ball { value, origin: None, ..a },
        DType::F32 | DType::F64 if from.is_float() || from.is_int() => {
            if a.mid().is_finite() {
                rounded(value, a.mid(), a.operand().radius, a.mid().abs())
            } else {
                Ball::new(value, a.radius)
            }
        }
        DType::F32 | DType::F64 => Ball::new(value, a.radius),
        // An error of the operand makes a difference where it reaches over the middle between two halves, and then it is a
        // whole step. Programs may also keep `f32` between two operations on halves: what the rounding changes here is
        // what goes on then, and is pending.
        DType::F16 | DType::BF16 => {
            let left_out = (value.as_f64() - a.mid()).abs().hypot(a.operand().radius);
            let pending = if value.as_f64() == a.mid() { a.operand().radius } else { left_out };
            let pending = if pending.is_nan() { 0.0 } else { pending };
            let radius = if !a.is_uncertain() {
                0.0
            } else if a.radius.is_infinite() || !a.mid().is_finite() {
                f64::INFINITY
            } else {
                let at = |x: f64| eval_cast(to, Scalar::F64(x)).as_f64();
                let reach = HALF_STEPS * a.farthest();
                let (lo, hi) = (at(a.mid() - reach), at(a.mid() + reach));
                HALF_STEPS * farthest(value.as_f64(), lo, hi) / CONFIDENCE
            };
            Ball { pending, ..Ball::new(value, radius) }
        }
        DType::Bool
        | DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8 => {
            if !a.is_uncertain() {
                Ball::exact(value)
            } else if a.radius.is_infinite() {
                Ball::new(value, f64::INFINITY)
            } else if to == DType::Bool {
                Ball::new(value, if a.mid().abs() <= a.farthest() { 1.0 } else { 0.0 })
            } else if from.is_float() {
                Ball::new(value, ends())
            } else if wraps(value, a.farthest()) || value.as_f64() != a.mid() {
                Ball::new(value, f64::INFINITY)
            } else {
                Ball::new(value, a.radius)
            }
        }
    }
}
