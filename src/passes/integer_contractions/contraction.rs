//! A contraction of affine images as one of the integers, with everything else applied to its sums.

use std::ops::RangeInclusive;

use nestjit_ir::DType;

use super::Found;
use super::image::{Image, aligned, image, only, range_of_bytes};
use super::operand::QuantizedOperand;
use super::rewriter::Rewriter;
use super::weights;
use crate::error::{Error, Result};
use crate::graph::{Binary, Node, Op, PadMode, Unary, ValueId};
use crate::remark::Integers;
use crate::tensor::Tensor;

/// A contraction whose operands are affine images of 8-bit integers.
pub(super) struct Contraction {
    pub(super) node: Node,
    pub(super) left: QuantizedOperand,
    pub(super) right: QuantizedOperand,
    /// Whether sums become `f32`; they are the result itself otherwise.
    pub(super) float: bool,
    /// The factor behind the sums, which broadcasts to the result; `None` is 1.
    pub(super) scale: Option<ValueId>,
    /// The largest magnitude of a sum, if it is known.
    pub(super) largest: Option<i64>,
}

/// Why a contraction of quantised operands is left alone, or the operands.
type Checked<T> = std::result::Result<T, Integers>;

impl Contraction {
    /// Looks at a product or a convolution.
    pub fn find(rewriter: &mut Rewriter<'_>, node: &Node) -> Result<Found> {
        let [a, b, ..] = node.inputs[..] else { return Ok(Found::Other) };
        let dtype = rewriter.dtype(node.outputs[0]);
        let types = [rewriter.dtype(a), rewriter.dtype(b)];
        if types == [DType::U8, DType::I8] || !matches!(dtype, DType::F32 | DType::I32) {
            return Ok(Found::Other);
        }
        let (left, right) = match (image(rewriter, a)?, image(rewriter, b)?) {
            (Some(left), Some(right)) => (left, right),
            (None, None) => return Ok(Found::Other),
            (left, _) => {
                let other = if left.is_none() { a } else { b };
                if dtype != DType::F32 {
                    return Ok(Found::Other);
                }
                let value = rewriter.value(other).name.clone();
                return Ok(Found::Refused(Integers::FloatOperand { value }));
            }
        };
        let empty = |id: &ValueId| rewriter.elements(*id) == 0;
        if node.inputs.iter().chain(&node.outputs).any(empty) {
            return Ok(Found::Other);
        }
        let mut contraction = match Contraction::of(rewriter, node, [left, right], dtype == DType::F32)? {
            Ok(contraction) => contraction,
            Err(reason) => return Ok(Found::Refused(reason)),
        };
        contraction.largest = contraction.bound(rewriter)?;
        if let Err(reason) = contraction.check(rewriter)? {
            return Ok(Found::Refused(reason));
        }
        Ok(Found::Integers(Box::new(contraction)))
    }

    fn of(
        rewriter: &mut Rewriter<'_>,
        node: &Node,
        images: [Image; 2],
        float: bool,
    ) -> Result<Checked<Contraction>> {
        let ranks = [0, 1].map(|i| rewriter.value(node.inputs[i]).shape.len());
        let reduced: [Vec<usize>; 2] = match &node.op {
            Op::MatMul => [vec![ranks[0] - 1], vec![ranks[1].saturating_sub(2)]],
            Op::Gemm { trans_a, trans_b, .. } => [vec![usize::from(!trans_a)], vec![usize::from(*trans_b)]],
            Op::Conv { .. } => [(1..ranks[0]).collect(), (1..ranks[1]).collect()],
            other => return Err(Error::internal(format!("{} is no contraction", other.name()))),
        };
        let mut operands = Vec::new();
        for ((image, reduced), rank) in images.into_iter().zip(reduced).zip(ranks) {
            for parameter in [image.zero, image.scale].into_iter().flatten() {
                let shape = aligned(&rewriter.shape(parameter), rank);
                if let Some(axis) = reduced.iter().find(|d| shape[**d] != 1) {
                    let (axis, value) = (*axis, rewriter.value(parameter).name.clone());
                    return Ok(Err(Integers::ScaleAlongSum { value, shape, axis }));
                }
            }
            operands.push(QuantizedOperand::new(rewriter, image, reduced)?);
        }
        let (Some(right), Some(left)) = (operands.pop(), operands.pop()) else {
            return Err(Error::internal("a contraction has two operands"));
        };
        let mut contraction =
            Contraction { node: node.clone(), left, right, float, scale: None, largest: None };
        contraction.scale = contraction.factor(rewriter)?;
        Ok(Ok(contraction))
    }

    /// How many products are added up.
    fn terms(&self, rewriter: &Rewriter<'_>) -> usize {
        let shape = &rewriter.value(self.right.q).shape;
        self.right.reduced.iter().map(|d| shape[*d]).product()
    }

    /// Whether the sums fit in `i32`, if that matters, and padding can be stated.
    fn check(&self, rewriter: &mut Rewriter<'_>) -> Result<Checked<()>> {
        let possible = range_of_bytes(rewriter.dtype(self.left.q));
        let own = self.pad_value();
        let holds = |zeros: &RangeInclusive<i32>| {
            let holds = |zero: i32| possible.as_ref().is_some_and(|range| range.contains(&(zero + own)));
            holds(*zeros.start()) && holds(*zeros.end())
        };
        let counted = own == 0 || self.left.scale.is_none();
        if self.is_padded() && !(counted && self.left.zeros.as_ref().is_some_and(holds)) {
            return Ok(Err(Integers::PaddedZeroPoint));
        }
        // Sums of integers that are the result wrap in any case.
        if !self.float {
            return Ok(Ok(()));
        }
        if let Some(scale) = self.scale.and_then(|scale| rewriter.known(scale))
            && !scale.values::<f32>()?.iter().all(|v| v.is_finite())
        {
            return Ok(Err(Integers::Scale));
        }
        if self.left.zeros.is_none() || self.right.zeros.is_none() {
            return Ok(Err(Integers::UnknownZeroPoint));
        }
        if self.largest.is_none_or(|largest| largest > i64::from(i32::MAX)) {
            return Ok(Err(Integers::SumOverflow { terms: self.terms(rewriter) }));
        }
        Ok(Ok(()))
    }

    /// The largest magnitude of a sum of `(qa - za) * (qb - zb)`; `None` if that is not known.
    fn bound(&self, rewriter: &mut Rewriter<'_>) -> Result<Option<i64>> {
        let (Some(a), Some(b)) = (self.left.largest(rewriter), self.right.largest(rewriter)) else {
            return Ok(None);
        };
        let bound = i64::try_from(self.terms(rewriter)).ok().and_then(|k| k.checked_mul(a * b));
        if bound.is_some_and(|bound| bound <= i64::from(i32::MAX)) {
            return Ok(bound);
        }
        // What the weights are says more.
        let zero = match self.right.zero {
            None => Some(vec![0]),
            Some(zero) => rewriter.known(zero).and_then(|t| t.values::<i32>().map(<[i32]>::to_vec).ok()),
        };
        let weights = rewriter.graph.constant(self.right.q);
        match (weights, zero) {
            (Some(weights), Some(zero)) => {
                let sum = weights::largest_sum(weights, &self.right.reduced, &zero)?;
                Ok(sum.checked_mul(a))
            }
            _ => Ok(None),
        }
    }

    fn is_padded(&self) -> bool {
        match &self.node.op {
            Op::Conv { window, .. } => window.pads_begin.iter().chain(&window.pads_end).any(|pad| *pad != 0),
            _ => false,
        }
    }

    /// What padding yields, in the numbers that the node multiplies.
    fn pad_value(&self) -> i32 {
        match &self.node.op {
            Op::Conv { pad_value, .. } => i32::from(*pad_value),
            _ => 0,
        }
    }

    /// Replaces the node; says what multiplies now.
    pub fn rewrite(mut self, rewriter: &mut Rewriter<'_>) -> Result<Integers> {
        self.right.make(rewriter, DType::I8)?;
        if let Some((sums, addend)) = self.channelwise(rewriter)? {
            self.finish(rewriter, sums, addend)?;
            return Ok(Integers::ExactFloats);
        }
        self.left.make(rewriter, DType::U8)?;
        let op = self.integer_op(rewriter)?;
        let scale = self.scale;
        let (of_left, of_right) = self.corrections(rewriter, &op)?;
        let (bias, addend) = self.bias(rewriter, scale, i64::from(i32::MAX))?;
        let of_left = rewriter.sum("correction", of_left, bias)?;
        let mut y = rewriter.replace(op, &[self.left.q, self.right.q])?;
        for correction in [of_left, of_right].into_iter().flatten() {
            y = rewriter.binary("shifted", Binary::Add, y, correction)?;
        }
        self.finish(rewriter, y, addend)?;
        Ok(Integers::Multiplied)
    }

    /// Makes the node's result of the sums: `f32(y) * scale + addend`, or integers.
    fn finish(self, rewriter: &mut Rewriter<'_>, mut y: ValueId, addend: Option<ValueId>) -> Result<()> {
        if self.float {
            y = rewriter.cast("float", y, DType::F32)?;
            if let Some(scale) = self.scale {
                y = rewriter.binary("scaled", Binary::Mul, y, scale)?;
            }
            if let Some(addend) = addend {
                y = rewriter.binary("biased", Binary::Add, y, addend)?;
            }
        }
        rewriter.yield_as(y, self.node.outputs[0]);
        Ok(())
    }

    /// The operation on integers. Where padding is not a constant, it is made of `left` before.
    fn integer_op(&mut self, rewriter: &mut Rewriter<'_>) -> Result<Op> {
        let padded = self.is_padded();
        let (zero, own) = (self.left.zero, self.pad_value());
        let (mut window, groups, format) = match &self.node.op {
            Op::Conv { window, groups, format, .. } => (window.clone(), *groups, *format),
            Op::Gemm { trans_a, trans_b, .. } => {
                return Ok(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: *trans_a, trans_b: *trans_b });
            }
            op => return Ok(op.clone()),
        };
        let (true, Some(zero)) = (padded, zero) else {
            return Ok(Op::Conv { window, groups, format, pad_value: own as i16 });
        };
        let known = rewriter.known(zero).as_ref().and_then(only);
        if let Some(value) = known.and_then(|zero| u8::try_from(zero + own).ok()) {
            return Ok(Op::Conv { window, groups, format, pad_value: i16::from(value) });
        }
        // A border around `q - zero`, and `zero` added again, both modulo 256.
        let zero = rewriter.cast("padding", zero, DType::U8)?;
        let shifted = rewriter.binary("padding", Binary::Sub, self.left.q, zero)?;
        let first = format.first_spatial();
        let rank = rewriter.value(self.left.q).shape.len();
        let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
        for d in 0..window.kernel.len() {
            begin[first + d] = std::mem::take(&mut window.pads_begin[d]) as i64;
            end[first + d] = std::mem::take(&mut window.pads_end[d]) as i64;
        }
        let border = f64::from(own.rem_euclid(256));
        let pad = Op::Pad { begin, end, mode: PadMode::Constant(border) };
        let shifted = rewriter.op("padding", pad, &[shifted])?;
        self.left.q = rewriter.binary("padded", Binary::Add, shifted, zero)?;
        Ok(Op::Conv { window, groups, format, pad_value: 0 })
    }

    /// What is added to the sums that `op` computes, because of the left operand's zero point and of the right one's.
    fn corrections(
        &self,
        rewriter: &mut Rewriter<'_>,
        op: &Op,
    ) -> Result<(Option<ValueId>, Option<ValueId>)> {
        let left = self.of_result(rewriter, self.left.zero, true)?;
        let right = self.of_result(rewriter, self.right.zero, false)?;
        // za * (K * zb - sum(qb))
        let mut of_left = None;
        if let Some(left) = left {
            let sums = self.right.sums(rewriter)?;
            let sums = self.of_result(rewriter, Some(sums), false)?.unwrap_or(sums);
            let zeros = match right {
                Some(right) => {
                    let terms = rewriter.int("terms", self.terms(rewriter) as i32);
                    rewriter.binary("correction", Binary::Mul, right, terms)?
                }
                None => rewriter.int("none", 0),
            };
            let factor = rewriter.binary("correction", Binary::Sub, zeros, sums)?;
            of_left = Some(rewriter.binary("correction", Binary::Mul, left, factor)?);
        }
        // -zb * sum(qa)
        let mut of_right = None;
        if let Some(right) = right {
            let negative = rewriter.op("correction", Op::Unary(Unary::Neg), &[right])?;
            of_right = Some(self.times_left_sums(rewriter, op, negative)?);
        }
        Ok((of_left, of_right))
    }

    /// `factor`, which broadcasts to the result, times the sums of the left operand's integers.
    fn times_left_sums(&self, rewriter: &mut Rewriter<'_>, op: &Op, factor: ValueId) -> Result<ValueId> {
        let Op::Conv { groups, format, .. } = *op else {
            let sums = self.left.sums(rewriter)?;
            let sums = self.of_result(rewriter, Some(sums), true)?.unwrap_or(sums);
            return rewriter.binary("correction", Binary::Mul, sums, factor);
        };
        // A convolution with ones, for each group.
        let shape = rewriter.shape(self.right.q);
        let (filters, ones) = (shape[0], [&[groups], &shape[1..]].concat());
        let count = ones.iter().product();
        let ones = rewriter.constant("ones", Tensor::new(&ones, &vec![1i8; count])?);
        let sums = rewriter.op("window_sums", op.clone(), &[self.left.q, ones])?;
        if groups == 1 || groups == filters {
            return rewriter.binary("correction", Binary::Mul, sums, factor);
        }
        // Each group's sums, for each of its filters.
        let mut shape = rewriter.shape(sums);
        let axis = format.channel_axis(shape.len());
        let mut grouped = shape.clone();
        grouped.insert(axis + 1, 1);
        let sums = rewriter.reshape("correction", sums, &grouped)?;
        let mut extents = aligned(&rewriter.shape(factor), shape.len());
        if extents[axis] == filters {
            extents.splice(axis..=axis, [groups, filters / groups]);
        } else {
            extents.insert(axis, 1);
        }
        let factor = rewriter.reshape("correction", factor, &extents)?;
        let product = rewriter.binary("correction", Binary::Mul, sums, factor)?;
        shape[axis] = filters;
        let mut expanded = shape.clone();
        expanded.splice(axis..=axis, [groups, filters / groups]);
        let product = rewriter.op("correction", Op::Expand { shape: expanded }, &[product])?;
        rewriter.reshape("correction", product, &shape)
    }

    /// The factor behind the sums; `None` is 1.
    fn factor(&self, rewriter: &mut Rewriter<'_>) -> Result<Option<ValueId>> {
        let left = self.of_result(rewriter, self.left.scale, true)?;
        let right = self.of_result(rewriter, self.right.scale, false)?;
        let mut scale = rewriter.product("scale", left, right)?;
        if let Op::Gemm { alpha, .. } = self.node.op
            && alpha != 1.0
        {
            let alpha = rewriter.constant("alpha", Tensor::scalar(alpha as f32));
            scale = rewriter.product("scale", scale, Some(alpha))?;
        }
        Ok(scale)
    }

    /// What the node adds: integers that go into the sums, as far as these stay within `limit`, and what is added in `f32` behind them.
    pub(super) fn bias(
        &self,
        rewriter: &mut Rewriter<'_>,
        scale: Option<ValueId>,
        limit: i64,
    ) -> Result<(Option<ValueId>, Option<ValueId>)> {
        let Some(&bias) = self.node.inputs.get(2) else { return Ok((None, None)) };
        // What is known takes part as a constant.
        rewriter.known(bias);
        let bias = match &self.node.op {
            Op::Conv { format, .. } => {
                let rank = rewriter.value(self.node.outputs[0]).shape.len();
                let mut extents = vec![1; rank];
                extents[format.channel_axis(rank)] = rewriter.elements(bias);
                rewriter.reshape("bias", bias, &extents)?
            }
            Op::Gemm { beta, .. } if *beta != 1.0 => {
                let beta = rewriter.constant("beta", Tensor::scalar(*beta as f32));
                rewriter.binary("bias", Binary::Mul, bias, beta)?
            }
            _ => bias,
        };
        if !self.float {
            return Ok((Some(bias), None));
        }
        match self.bias_in_steps(rewriter, bias, scale, limit)? {
            Some(steps) => Ok((Some(steps), None)),
            None => Ok((None, Some(bias))),
        }
    }

    /// A constant bias as integers that `scale` makes exactly that bias, if the sums have room for them.
    fn bias_in_steps(
        &self,
        rewriter: &mut Rewriter<'_>,
        bias: ValueId,
        scale: Option<ValueId>,
        limit: i64,
    ) -> Result<Option<ValueId>> {
        let (Some(bias), Some(scale)) = (rewriter.known(bias), scale.and_then(|s| rewriter.known(s))) else {
            return Ok(None);
        };
        let (values, scales) = (bias.values::<f32>()?, scale.values::<f32>()?);
        // The same number for each of them, or one for each.
        if scales.len() != 1
            && (scales.len() != values.len()
                || aligned(scale.shape(), bias.shape().len()) != aligned(bias.shape(), scale.shape().len()))
        {
            return Ok(None);
        }
        let room = limit - self.largest.unwrap_or(limit).min(limit);
        let step = |(i, bias): (usize, &f32)| {
            let scale = scales[if scales.len() == 1 { 0 } else { i }];
            let steps = (f64::from(*bias) / f64::from(scale)).round_ties_even();
            let exact = steps.abs() <= room as f64 && (steps as i32) as f32 * scale == *bias;
            exact.then_some(steps as i32)
        };
        let Some(steps) = values.iter().enumerate().map(step).collect::<Option<Vec<i32>>>() else {
            return Ok(None);
        };
        let steps = Tensor::new(bias.shape(), &steps)?;
        Ok(Some(rewriter.constant("bias", steps)))
    }

    /// A parameter of an operand, in a shape that broadcasts to the result.
    fn of_result(
        &self,
        rewriter: &mut Rewriter<'_>,
        parameter: Option<ValueId>,
        left: bool,
    ) -> Result<Option<ValueId>> {
        let Some(id) = parameter else { return Ok(None) };
        if rewriter.elements(id) == 1 {
            return rewriter.reshape("parameter", id, &[]).map(Some);
        }
        let ranks = [0, 1].map(|i| rewriter.value(self.node.inputs[i]).shape.len());
        let [rank, other] = if left { ranks } else { [ranks[1], ranks[0]] };
        let mut shape = aligned(&rewriter.shape(id), rank);
        match &self.node.op {
            Op::Conv { format, .. } if !left => {
                let filters = shape[0];
                shape.fill(1);
                shape[format.channel_axis(rank)] = filters;
            }
            Op::Gemm { trans_a, trans_b, .. } if if left { *trans_a } else { *trans_b } => shape.swap(0, 1),
            // The other one has no dimension for what is summed up here.
            Op::MatMul if other == 1 => {
                shape.remove(if left { rank - 1 } else { rank - 2 });
            }
            _ => {}
        }
        rewriter.reshape("parameter", id, &shape).map(Some)
    }
}
