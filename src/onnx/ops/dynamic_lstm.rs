//! The operands of an LSTM that is quantised dynamically: weights of 8 bits, and the sequence, which is rounded to 8
//! bits once. What the layer computes with them is [`super::unrolled`]'s, or the core operation's.

use nestjit_ir::DType;

use super::quantize::{dequantized, rounded_to_bytes};
use super::{Halt, NodeCx, Result};
use crate::graph::{Binary, Reduction, ValueId};
use crate::tensor::Tensor;

/// Weights of 8 bits.
pub(super) struct DynamicWeights {
    w: Quantized,
    r: Quantized,
}

/// A weight `(q - zero) * scale`, where `q` is `[D, K, G * H]`, parameters are `[D, 1, 1]` or `[D, 1, G * H]`.
struct Quantized {
    q: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
}

impl DynamicWeights {
    /// The weights of a node. Scales and zero points are per direction, `[D]`, or per column, `[D, G * H]`.
    pub fn read(cx: &mut NodeCx<'_>) -> Result<DynamicWeights> {
        cx.expect_type(cx.input(0)?, |dtype| dtype == DType::F32, "f32")?;
        Ok(DynamicWeights { w: Quantized::read(cx, 1, 8)?, r: Quantized::read(cx, 2, 10)? })
    }

    /// The shapes of both weights in floats: `[D, G * H, K]`.
    pub fn shapes(&self, cx: &NodeCx<'_>) -> [[usize; 3]; 2] {
        [&self.w, &self.r].map(|weight| {
            let shape = cx.shape(weight.q);
            [shape[0], shape[2], shape[1]]
        })
    }

    /// The matrices of a direction, `[K, G * H]`.
    pub fn matrices(&self, cx: &mut NodeCx<'_>, d: usize) -> Result<[ValueId; 2]> {
        Ok([self.w.matrix(cx, d)?, self.r.matrix(cx, d)?])
    }

    /// The recurrent weights, `i8` and `[D, G * H, H]`, their scales and zero points, `[D, G * H]`.
    pub fn recurrent(&self, cx: &mut NodeCx<'_>) -> Result<[ValueId; 3]> {
        let Quantized { q, scale, zero } = self.r;
        let [directions, rows, _] = self.shapes(cx)[1];
        let zero = match zero {
            Some(zero) => cx.cast(zero, DType::I32)?,
            None => cx.scalar(DType::I32, 0.0),
        };
        let (q, zero) = signed(cx, q, zero)?;
        let q = cx.transpose(q, &[0, 2, 1])?;
        let of_rows = |cx: &mut NodeCx<'_>, parameter| {
            let parameter = cx.expand(parameter, &[directions, 1, rows])?;
            cx.reshape(parameter, &[directions, rows])
        };
        Ok([q, of_rows(cx, scale)?, of_rows(cx, zero)?])
    }
}

impl Quantized {
    fn read(cx: &mut NodeCx<'_>, weight: usize, scale: usize) -> Result<Quantized> {
        let (q, zero) = (cx.input(weight)?, cx.optional(scale + 1));
        let scale = cx.input(scale)?;
        cx.expect_type(q, |dtype| matches!(dtype, DType::I8 | DType::U8), "i8 or u8")?;
        cx.expect_type(scale, |dtype| dtype == DType::F32, "f32")?;
        if let Some(zero) = zero {
            let dtype = cx.dtype(q);
            cx.expect_type(zero, |zero| zero == dtype, dtype.name())?;
        }
        let [directions, _, columns] = cx.shape(q)[..] else {
            let shape = cx.shape(q);
            return Err(Halt::shape(format!("the weights must be of rank 3, not {shape:?}")));
        };
        let spread = |cx: &mut NodeCx<'_>, parameter: ValueId| match cx.shape(parameter)[..] {
            [d] if d == directions => cx.reshape(parameter, &[d, 1, 1]),
            [d, n] if (d, n) == (directions, columns) => cx.reshape(parameter, &[d, 1, n]),
            ref other => Err(Halt::shape(format!(
                "scales or zero points {other:?} for weights of {directions} directions and {columns} columns"
            ))),
        };
        let scale = spread(cx, scale)?;
        let zero = zero.map(|zero| spread(cx, zero)).transpose()?;
        Ok(Quantized { q, scale, zero })
    }

    /// The floats of a direction.
    fn matrix(&self, cx: &mut NodeCx<'_>, d: usize) -> Result<ValueId> {
        let part = |cx: &mut NodeCx<'_>, operand: ValueId| {
            let part = cx.narrow(operand, 0, d, 1)?;
            let shape = cx.shape(part);
            cx.reshape(part, &shape[1..])
        };
        let (q, scale) = (part(cx, self.q)?, part(cx, self.scale)?);
        let zero = self.zero.map(|zero| part(cx, zero)).transpose()?;
        dequantized(cx, q, scale, zero)
    }
}

/// The numbers that a sequence `x [T, B, I]` becomes in 8 bits over its range. What lies behind the end of the longest
/// sequence, `lengths [B, 1]`, is not part of that range.
pub(super) fn rounded_sequence(
    cx: &mut NodeCx<'_>,
    mut x: ValueId,
    lengths: Option<ValueId>,
) -> Result<ValueId> {
    if let (Some(lengths), Some(steps)) = (lengths, cx.shape(x).first().copied()) {
        let longest = cx.reduce(Reduction::Max, lengths, &[0, 1], false)?;
        let at: Vec<i64> = (0..steps as i64).collect();
        let at = cx.values(&[steps, 1, 1], &at)?;
        let running = cx.binary(Binary::Lt, at, longest)?;
        let zero = cx.scalar_like(x, 0.0);
        x = cx.select(running, x, zero)?;
    }
    rounded_to_bytes(cx, x)
}

/// Integers as `i8`, and their zero points, `i32`: where they are known and all integers less their zero points are `i8`,
/// there are none.
fn signed(cx: &mut NodeCx<'_>, q: ValueId, zero: ValueId) -> Result<(ValueId, ValueId)> {
    let unsigned = cx.dtype(q) == DType::U8;
    if let (Some(q), Some(zeros)) = (cx.constant_of(q), cx.constant_of(zero)) {
        let (shape, zeros) = (q.shape().to_vec(), zeros.values::<i32>()?);
        let (bytes, columns) = (q.bytes()?, shape[2].max(1));
        let of_direction = (shape[1] * columns).max(1);
        let per_direction = zeros.len() / shape[0].max(1);
        // Zero points are one for all, one for each direction, or one for each column of each.
        let zero_of = |i: usize| match per_direction {
            0 => zeros[0],
            n => zeros[i / of_direction * n + if n == 1 { 0 } else { i % columns }],
        };
        let number = |byte: u8| if unsigned { i32::from(byte) } else { i32::from(byte as i8) };
        let less = |(i, byte): (usize, &u8)| i8::try_from(number(*byte) - zero_of(i)).ok();
        if let Some(values) = bytes.iter().enumerate().map(less).collect::<Option<Vec<i8>>>() {
            return Ok((cx.values(&shape, &values)?, cx.scalar(DType::I32, 0.0)));
        }
        if unsigned {
            let flipped: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x80).collect();
            let q = cx.constant(Tensor::from_bytes(DType::I8, &shape, &flipped)?);
            return Ok((q, cx.binary_const(Binary::Sub, zero, 128.0)?));
        }
    }
    if !unsigned {
        return Ok((q, zero));
    }
    let bits = cx.cast(q, DType::I8)?;
    let sign = cx.scalar(DType::I8, -128.0);
    Ok((cx.binary(Binary::Xor, bits, sign)?, cx.binary_const(Binary::Sub, zero, 128.0)?))
}
