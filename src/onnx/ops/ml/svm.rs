//! Support vector machines.

use nestjit_ir::DType;

use super::scores::{Labels, Opposite, Transform, winner};
use super::{
    Halt, NodeCx, OpEntry, Result, extent, extents, features, floating, ml, one, required_floats, rows,
};
use crate::graph::{Binary, Op, Reduction, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] =
    &[ml("SVMClassifier", 1, svm_classifier), ml("SVMRegressor", 1, svm_regressor)];

/// How features and support vectors are compared.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kernel {
    Linear,
    Polynomial { gamma: f64, offset: f64, degree: f64 },
    Radial { gamma: f64 },
    Sigmoid { gamma: f64, offset: f64 },
}

impl Kernel {
    fn of(cx: &NodeCx<'_>) -> Result<Kernel> {
        let [gamma, offset, degree] = match cx.attributes.floats("kernel_params")?.unwrap_or_default()[..] {
            [] => [0.0; 3],
            [gamma, offset, degree, ..] => [gamma, offset, degree],
            ref other => {
                return Err(Halt::invalid(format!(
                    "kernel_params has {} elements, but must have 3",
                    other.len()
                )));
            }
        };
        Ok(match cx.string("kernel_type", "LINEAR")? {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Polynomial { gamma, offset, degree },
            "RBF" => Kernel::Radial { gamma },
            "SIGMOID" => Kernel::Sigmoid { gamma, offset },
            other => return Err(Halt::invalid(format!("there is no kernel '{}'", other.escape_debug()))),
        })
    }

    /// `[rows, vectors]`: each row of `x` with each of the vectors, which lie one after the other.
    fn apply(self, cx: &mut NodeCx<'_>, x: ValueId, vectors: &[f64]) -> Result<ValueId> {
        let [rows, n] = cx.shape(x)[..] else { return Err(Halt::internal("features are a matrix")) };
        let count = vectors.len().checked_div(n).unwrap_or(0);
        let vectors = cx.floats_like(x, &[count, n], vectors)?;
        if let Kernel::Radial { gamma } = self {
            // Differences, since what products would give for vectors far from 0 is not exact. Vectors lie in lanes.
            let vectors = cx.transpose(vectors, &[1, 0])?;
            let vectors = cx.reshape(vectors, &[1, n, count])?;
            let x = cx.reshape(x, &[rows, n, 1])?;
            let difference = cx.binary(Binary::Sub, x, vectors)?;
            let distance = cx.reduce(Reduction::SumSquare, difference, &[1], false)?;
            let exponent = cx.binary_const(Binary::Mul, distance, -gamma)?;
            return cx.unary(Unary::Exp, exponent);
        }
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let product = cx.add(gemm, &[x, vectors])?;
        let affine = |cx: &mut NodeCx<'_>, gamma: f64, offset: f64| {
            let scaled = cx.binary_const(Binary::Mul, product, gamma)?;
            cx.binary_const(Binary::Add, scaled, offset)
        };
        match self {
            Kernel::Polynomial { gamma, offset, degree } => {
                let base = affine(cx, gamma, offset)?;
                cx.binary_const(Binary::Pow, base, degree)
            }
            Kernel::Sigmoid { gamma, offset } => {
                let argument = affine(cx, gamma, offset)?;
                cx.unary(Unary::Tanh, argument)
            }
            Kernel::Linear | Kernel::Radial { .. } => Ok(product),
        }
    }
}

/// An error if a list of vectors of `n` features is not `count` of them.
fn expect_vectors(list: &[f64], what: &str, count: usize, n: usize) -> Result<()> {
    match count.checked_mul(n) == Some(list.len()) {
        true => Ok(()),
        false => Err(Halt::shape(format!(
            "{what} has {} elements, but {count} vectors of {n} features are needed",
            list.len()
        ))),
    }
}

/// An error if a list is shorter than it must be.
fn expect_length(list: &[f64], what: &str, least: usize) -> Result<()> {
    match list.len() < least {
        true => Err(Halt::invalid(format!("{what} has {} elements, but {least} are needed", list.len()))),
        false => Ok(()),
    }
}

fn svm_regressor(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    // ONNX Runtime applies none.
    cx.attributes.ignore(&["post_transform"]);
    let x = features(cx)?;
    let (x, [_, n]) = rows(cx, x)?;
    let x = floating(cx, x)?;
    let count = extent(cx.int("n_supports", 0)?, "n_supports")?;
    let coefficients = required_floats(cx, "coefficients")?;
    let rho = required_floats(cx, "rho")?;
    let vectors = cx.attributes.floats("support_vectors")?.unwrap_or_default();
    let kernel = Kernel::of(cx)?;
    let products = match count {
        // A linear model.
        0 => {
            expect_vectors(&coefficients, "coefficients", 1, n)?;
            Kernel::Linear.apply(cx, x, &coefficients)?
        }
        _ => {
            expect_vectors(&vectors, "support_vectors", count, n)?;
            expect_length(&coefficients, "coefficients", count)?;
            let likeness = kernel.apply(cx, x, &vectors)?;
            let weights = cx.floats_like(x, &[count, 1], &coefficients[..count])?;
            cx.matmul(likeness, weights)?
        }
    };
    let mut y = cx.binary_const(Binary::Add, products, rho[0])?;
    if cx.flag("one_class", false)? {
        let inside = cx.binary_const(Binary::Gt, y, 0.0)?;
        let (one, other) = (cx.scalar_like(y, 1.0), cx.scalar_like(y, -1.0));
        y = cx.select(inside, one, other)?;
    }
    one(cx.cast(y, DType::F32))
}

fn svm_classifier(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let (x, [_, n]) = rows(cx, x)?;
    let x = cx.cast(x, DType::F32)?;
    let labels = Labels::of(cx, "classlabels_ints", "classlabels_strings")?;
    let machine = Machine {
        kernel: Kernel::of(cx)?,
        transform: Transform::of(cx)?,
        coefficients: required_floats(cx, "coefficients")?,
        rho: required_floats(cx, "rho")?,
        vectors: cx.attributes.floats("support_vectors")?.unwrap_or_default(),
        of_class: extents(cx.attributes.ints("vectors_per_class")?.unwrap_or_default(), "vectors_per_class")?,
        slopes: cx.attributes.floats("prob_a")?.unwrap_or_default(),
        offsets: cx.attributes.floats("prob_b")?.unwrap_or_default(),
        labels,
    };
    if machine.labels.count() == 0 {
        return Err(Halt::invalid("there are no labels"));
    }
    let vectors = machine.of_class.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
    match vectors {
        Some(0) => machine.linear(cx, x, n),
        Some(count) => machine.pairs(cx, x, count, n),
        None => Err(Halt::invalid("vectors_per_class is too large")),
    }
}

/// The attributes of a classifier.
struct Machine<'a> {
    kernel: Kernel,
    transform: Transform,
    coefficients: Vec<f64>,
    rho: Vec<f64>,
    vectors: Vec<f64>,
    /// How many vectors each class has; they lie by class.
    of_class: Vec<usize>,
    /// What makes probabilities of scores, if there is any.
    slopes: Vec<f64>,
    offsets: Vec<f64>,
    labels: Labels<'a>,
}

impl Machine<'_> {
    /// A linear model with a score for each class.
    fn linear(&self, cx: &mut NodeCx<'_>, x: ValueId, n: usize) -> Result<Vec<ValueId>> {
        let classes = self.labels.count();
        expect_vectors(&self.coefficients, "coefficients", classes, n)?;
        let scores = Kernel::Linear.apply(cx, x, &self.coefficients)?;
        let scores = cx.binary_const(Binary::Add, scores, self.rho[0])?;
        let mut winner = winner(cx, scores)?;
        if classes == 2 && self.slopes.is_empty() {
            // The second class wins, too, if the best score is high enough.
            let best = cx.reduce(Reduction::Max, scores, &[1], false)?;
            let positive = self.coefficients.iter().all(|c| *c >= 0.0);
            let high = match positive {
                true => cx.binary_const(Binary::Ge, best, 0.5)?,
                false => cx.binary_const(Binary::Gt, best, 0.0)?,
            };
            let second = cx.values(&[], &[1i64])?;
            winner = cx.select(high, second, winner)?;
        }
        Ok(vec![self.labels.select(cx, winner)?, self.transform.apply(cx, scores, None)?])
    }

    /// A machine for each pair of classes; the class that wins most of them wins.
    fn pairs(&self, cx: &mut NodeCx<'_>, x: ValueId, count: usize, n: usize) -> Result<Vec<ValueId>> {
        let classes = self.labels.count();
        if classes < 2 || self.of_class.len() != classes {
            return Err(Halt::invalid(format!(
                "there are {classes} labels, but vectors of {} classes",
                self.of_class.len()
            )));
        }
        let pairs: Vec<(usize, usize)> =
            (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
        expect_vectors(&self.vectors, "support_vectors", count, n)?;
        expect_length(&self.coefficients, "coefficients", (classes - 1).saturating_mul(count))?;
        expect_length(&self.rho, "rho", pairs.len())?;
        let likeness = self.kernel.apply(cx, x, &self.vectors)?;
        let scores = self.scores(cx, likeness, count, &pairs)?;
        let rho = cx.floats_like(x, &[pairs.len()], &self.rho[..pairs.len()])?;
        let scores = cx.binary(Binary::Add, scores, rho)?;
        let label = self.most_votes(cx, scores, &pairs)?;
        let label = self.labels.select(cx, label)?;
        if self.slopes.is_empty() && self.offsets.is_empty() {
            let first = match self.transform {
                Transform::None => Opposite::Negative,
                _ => Opposite::Complement,
            };
            return Ok(vec![label, self.transform.apply(cx, scores, (classes == 2).then_some(first))?]);
        }
        for (list, what) in [(&self.slopes, "prob_a"), (&self.offsets, "prob_b")] {
            expect_length(list, what, pairs.len())?;
        }
        let probabilities = self.probabilities(cx, scores, &pairs)?;
        Ok(vec![label, self.transform.apply(cx, probabilities, None)?])
    }

    /// `[rows, pairs]`: vectors of both classes of a pair, each weighted for the other class.
    fn scores(
        &self,
        cx: &mut NodeCx<'_>,
        likeness: ValueId,
        count: usize,
        pairs: &[(usize, usize)],
    ) -> Result<ValueId> {
        let others = self.of_class.len() - 1;
        if others == 1 {
            let weights = cx.floats_like(likeness, &[count, 1], &self.coefficients[..count])?;
            return cx.matmul(likeness, weights);
        }
        // For each class its vectors with their weights for each other class.
        let rows = cx.shape(likeness)[0];
        let mut sums = Vec::new();
        let mut start = 0;
        for vectors in &self.of_class {
            let weight = |v: usize, other: usize| self.coefficients[other * count + start + v];
            let weights: Vec<f64> =
                (0..*vectors).flat_map(|v| (0..others).map(move |other| weight(v, other))).collect();
            let weights = cx.floats_like(likeness, &[*vectors, others], &weights)?;
            let part = cx.narrow(likeness, 1, start, *vectors)?;
            sums.push(cx.matmul(part, weights)?);
            start += vectors;
        }
        let sums = cx.concat(&sums, 1)?;
        debug_assert_eq!(cx.shape(sums), [rows, others * (others + 1)]);
        let mut halves = Vec::new();
        for of in [|i: usize, j: usize| (i, j - 1), |i: usize, j: usize| (j, i)] {
            let columns: Vec<i64> = pairs
                .iter()
                .map(|(i, j)| {
                    let (class, other) = of(*i, *j);
                    (class * others + other) as i64
                })
                .collect();
            let columns = cx.values(&[pairs.len()], &columns)?;
            halves.push(cx.gather(sums, columns, 1)?);
        }
        cx.binary(Binary::Add, halves[0], halves[1])
    }

    /// The class that wins most pairs; the first of several.
    fn most_votes(&self, cx: &mut NodeCx<'_>, scores: ValueId, pairs: &[(usize, usize)]) -> Result<ValueId> {
        let classes = self.of_class.len();
        let first = cx.binary_const(Binary::Gt, scores, 0.0)?;
        let first = cx.cast(first, DType::F32)?;
        // A vote for the first class of a pair is one that the second does not have.
        let (mut change, mut without) = (vec![0.0; pairs.len() * classes], vec![0.0; classes]);
        for (p, (i, j)) in pairs.iter().enumerate() {
            change[p * classes + i] = 1.0;
            change[p * classes + j] = -1.0;
            without[*j] += 1.0;
        }
        let change = cx.floats_like(first, &[pairs.len(), classes], &change)?;
        let without = cx.floats_like(first, &[classes], &without)?;
        let votes = cx.matmul(first, change)?;
        let votes = cx.binary(Binary::Add, votes, without)?;
        winner(cx, votes)
    }

    /// `[rows, classes]`, from the scores of pairs.
    fn probabilities(
        &self,
        cx: &mut NodeCx<'_>,
        scores: ValueId,
        pairs: &[(usize, usize)],
    ) -> Result<ValueId> {
        /// How near to 0 and 1 the probabilities of pairs may be.
        const LEAST: f64 = 1e-7;
        let (count, rows) = (pairs.len(), cx.shape(scores)[0]);
        let slopes = cx.floats_like(scores, &[count], &self.slopes[..count])?;
        let offsets = cx.floats_like(scores, &[count], &self.offsets[..count])?;
        let scaled = cx.binary(Binary::Mul, scores, slopes)?;
        let moved = cx.binary(Binary::Add, scaled, offsets)?;
        let negative = cx.unary(Unary::Neg, moved)?;
        let first = cx.unary(Unary::Sigmoid, negative)?;
        let first = cx.add(Op::Clip { min: Some(LEAST), max: Some(1.0 - LEAST) }, &[first])?;
        // `[rows, classes, classes]`: of the second class of a pair, it is what the first one leaves.
        let classes = self.of_class.len();
        let (mut places, mut is_second) = (vec![0i64; classes * classes], vec![false; classes * classes]);
        for ((i, j), place) in pairs.iter().zip(0..) {
            for at in [i * classes + j, j * classes + i] {
                places[at] = place;
            }
            is_second[j * classes + i] = true;
        }
        let places = cx.values(&[classes * classes], &places)?;
        let is_second = cx.values(&[classes * classes], &is_second)?;
        let of_first = cx.gather(first, places, 1)?;
        let all = cx.scalar_like(first, 1.0);
        let of_second = cx.binary(Binary::Sub, all, of_first)?;
        let matrix = cx.select(is_second, of_second, of_first)?;
        let matrix = cx.reshape(matrix, &[rows, classes, classes])?;
        cx.add(Op::PairwiseCoupling, &[matrix])
    }
}
