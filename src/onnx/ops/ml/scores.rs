//! What becomes of the scores of a model: labels, and what is done to them behind the sums.

use nestjit_ir::DType;

use super::{Halt, NodeCx, Result};
use crate::graph::{Binary, Op, Reduction, Unary, ValueId};

/// What is done to scores: the attribute `post_transform`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    /// A softmax over those that are not 0.
    SoftmaxZero,
    Probit,
}

/// The score that the first of two classes has where a model computes that of the second one only. Of a logistic transform
/// it is that of the negative score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Opposite {
    /// `1 - score`.
    Complement,
    /// `-score`.
    Negative,
}

/// Scores below this are 0 to [`Transform::SoftmaxZero`].
const ZERO: f64 = 1e-7;

impl Transform {
    pub fn of(cx: &NodeCx<'_>) -> Result<Transform> {
        Ok(match cx.string("post_transform", "NONE")? {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => {
                return Err(Halt::invalid(format!("there is no post_transform '{}'", other.escape_debug())));
            }
        })
    }

    /// Scores, `[rows, classes]`, transformed. A single score is that of the second of two classes if it is said what the
    /// first one's is; of a single one, only the probit is taken.
    pub fn apply(self, cx: &mut NodeCx<'_>, scores: ValueId, first: Option<Opposite>) -> Result<ValueId> {
        match (cx.shape(scores)[1], first) {
            (1, Some(first)) => self.with_first(cx, scores, first),
            (1, None) if self != Transform::Probit => Ok(scores),
            _ => self.of_each(cx, scores),
        }
    }

    /// Scores of several classes, transformed.
    fn of_each(self, cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
        match self {
            Transform::None => Ok(scores),
            Transform::Softmax => cx.add(Op::Softmax { axis: 1 }, &[scores]),
            Transform::Logistic => cx.unary(Unary::Sigmoid, scores),
            Transform::SoftmaxZero => softmax_zero(cx, scores),
            Transform::Probit => probit(cx, scores),
        }
    }

    /// A score beside that of the other class.
    fn with_first(self, cx: &mut NodeCx<'_>, score: ValueId, first: Opposite) -> Result<ValueId> {
        let negative = |cx: &mut NodeCx<'_>| cx.unary(Unary::Neg, score);
        let pair = match (self, first) {
            (Transform::Probit, _) => {
                return Err(Halt::unsupported("the probit of one score for two classes is not supported"));
            }
            (Transform::Logistic, _) => {
                let negative = negative(cx)?;
                [cx.unary(Unary::Sigmoid, negative)?, cx.unary(Unary::Sigmoid, score)?]
            }
            (_, Opposite::Complement) => {
                let one = cx.scalar_like(score, 1.0);
                [cx.binary(Binary::Sub, one, score)?, score]
            }
            (_, Opposite::Negative) => [negative(cx)?, score],
        };
        cx.concat(&pair, 1)
    }
}

/// The softmax over the scores of a row that are not 0; those stay 0.
fn softmax_zero(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    let max = cx.reduce(Reduction::Max, scores, &[1], true)?;
    let shifted = cx.binary(Binary::Sub, scores, max)?;
    let powers = cx.unary(Unary::Exp, shifted)?;
    let size = cx.unary(Unary::Abs, scores)?;
    let counts = cx.binary_const(Binary::Gt, size, ZERO)?;
    let nothing = cx.scalar_like(scores, 0.0);
    let counted = cx.select(counts, powers, nothing)?;
    let sum = cx.reduce(Reduction::Sum, counted, &[1], true)?;
    let least = cx.unary(Unary::Neg, max)?;
    let least = cx.unary(Unary::Exp, least)?;
    let small = cx.binary(Binary::Mul, scores, least)?;
    let shares = cx.select(counts, powers, small)?;
    cx.binary(Binary::Div, shares, sum)
}

/// The quantile of the normal distribution, with Winitzki's approximation of the inverse error function.
fn probit(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    const A: f64 = 0.147;
    let twice = cx.binary_const(Binary::Mul, scores, 2.0)?;
    let x = cx.binary_const(Binary::Sub, twice, 1.0)?;
    // log(1 - x^2)
    let one = cx.scalar_like(scores, 1.0);
    let factors = [cx.binary(Binary::Sub, one, x)?, cx.binary(Binary::Add, one, x)?];
    let product = cx.binary(Binary::Mul, factors[0], factors[1])?;
    let log = cx.unary(Unary::Log, product)?;
    let half = cx.binary_const(Binary::Mul, log, 0.5)?;
    let v = cx.binary_const(Binary::Add, half, 2.0 / (std::f64::consts::PI * A))?;
    let square = cx.unary(Unary::Square, v)?;
    let scaled = cx.binary_const(Binary::Mul, log, 1.0 / A)?;
    let under = cx.binary(Binary::Sub, square, scaled)?;
    let root = cx.unary(Unary::Sqrt, under)?;
    let difference = cx.binary(Binary::Sub, root, v)?;
    let size = cx.unary(Unary::Sqrt, difference)?;
    let size = cx.binary_const(Binary::Mul, size, std::f64::consts::SQRT_2)?;
    let negative = cx.unary(Unary::Neg, size)?;
    let below = cx.binary_const(Binary::Lt, x, 0.0)?;
    cx.select(below, negative, size)
}

/// The labels of classes.
pub(super) struct Labels<'a>(&'a [i64]);

impl<'a> Labels<'a> {
    /// Those of a node, of which one of two attributes has them.
    pub fn of(cx: &NodeCx<'a>, ints: &'static str, strings: &'static str) -> Result<Labels<'a>> {
        if cx.attributes.strings(strings)?.is_some_and(|labels| !labels.is_empty()) {
            return Err(Halt::unsupported("labels that are strings are not supported"));
        }
        Ok(Labels(cx.attributes.ints(ints)?.unwrap_or_default()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// An error if there are fewer labels than classes.
    pub fn expect(&self, classes: usize) -> Result<()> {
        match self.0.len() < classes {
            true => Err(Halt::invalid(format!("there are {} labels for {classes} classes", self.0.len()))),
            false => Ok(()),
        }
    }

    /// Those of classes, `i64`, that are given by their numbers.
    pub fn select(&self, cx: &mut NodeCx<'_>, classes: ValueId) -> Result<ValueId> {
        if self.0.iter().zip(0..).all(|(label, number)| *label == number) {
            return Ok(classes);
        }
        let labels = cx.values(&[self.0.len()], self.0)?;
        cx.gather(labels, classes, 0)
    }

    /// Those of the second class where a condition holds, and of the first elsewhere; 1 and 0 if they are not just two.
    pub fn either(&self, cx: &mut NodeCx<'_>, second: ValueId) -> Result<ValueId> {
        let classes = cx.cast(second, DType::I64)?;
        match self.0 {
            [_, _] => self.select(cx, classes),
            _ => Ok(classes),
        }
    }
}

/// The class of the highest score of each row, `[rows, classes]`; the first of several.
pub(super) fn winner(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    cx.add(Op::ArgReduce { max: true, axis: 1, keep_dims: false, last: false }, &[scores])
}
