//! Quantisation: integers with a scale and a zero point. Sums of products are computed as integers, exactly.

use nestjit_ir::DType;

use super::super::nibble::Nibble;
use super::super::tensor::{attribute_dtype, element_type};
use super::window::{spatial, window};
use super::{AS_COMPUTED, Halt, NodeCx, OpEntry, Result, axis, extent, one, op};
use crate::graph::{Binary, Format, Op, Reduction, Unary, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("ConvInteger", 10, conv_integer),
    op("DequantizeLinear", 10, dequantize_linear).in_f32(&[AS_COMPUTED]),
    op("DynamicQuantizeLinear", 11, dynamic_quantize_linear),
    op("MatMulInteger", 10, matmul_integer),
    op("QLinearConv", 10, qlinear_conv).in_f32(&[AS_COMPUTED]),
    op("QLinearMatMul", 10, qlinear_matmul).in_f32(&[AS_COMPUTED]),
    op("QuantizeLinear", 10, quantize_linear).in_f32(&[AS_COMPUTED]),
];

/// The range of a quantised type.
fn range(dtype: DType) -> Result<(f64, f64)> {
    match dtype {
        DType::U8 => Ok((0.0, 255.0)),
        DType::I8 => Ok((-128.0, 127.0)),
        DType::U16 => Ok((0.0, 65_535.0)),
        DType::I16 => Ok((-32_768.0, 32_767.0)),
        other @ (DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I64
        | DType::I32
        | DType::U64
        | DType::U32
        | DType::Bool) => Err(Halt::unsupported(format!("quantisation to {other} is not supported"))),
    }
}

/// A scale or zero point laid out so that it broadcasts to `x`: one number, one per index of `axis`, or one per
/// block along `axis`.
fn spread(cx: &mut NodeCx<'_>, parameter: ValueId, x: ValueId, at: i64, block: usize) -> Result<ValueId> {
    let (shape, own) = (cx.shape(x), cx.shape(parameter));
    if own.iter().product::<usize>() == 1 && block == 0 {
        return cx.reshape(parameter, &[]);
    }
    let axis = axis(at, shape.len())?;
    let misfit = || {
        Halt::shape(format!(
            "scales or zero points of shape {own:?} do not fit a tensor of shape {shape:?} along axis {axis}"
        ))
    };
    if own.len() == 1 && block == 0 {
        if own[0] != shape[axis] {
            return Err(misfit());
        }
        let mut extents = vec![1; shape.len()];
        extents[axis] = shape[axis];
        return cx.reshape(parameter, &extents);
    }
    // One for each block, the last of which may be shorter, and for each index of other dimensions.
    let fits = |(d, (own, n)): (usize, (&usize, &usize))| {
        *own == if d == axis && block > 0 { n.div_ceil(block) } else { *n }
    };
    if block == 0 || own.len() != shape.len() || !own.iter().zip(&shape).enumerate().all(fits) {
        return Err(misfit());
    }
    let indices: Vec<i64> = (0..shape[axis]).map(|i| (i / block) as i64).collect();
    let indices = cx.values(&[indices.len()], &indices)?;
    cx.gather(parameter, indices, axis)
}

/// That a zero point, if there is one, is of the shape of the scale.
fn expect_zero_per_scale(cx: &NodeCx<'_>, zero: Option<ValueId>, scale: ValueId) -> Result<()> {
    let Some(zero) = zero else { return Ok(()) };
    let (zeros, scales) = (cx.shape(zero), cx.shape(scale));
    let single = |shape: &[usize]| shape.iter().product::<usize>() == 1;
    if zeros == scales || (single(&zeros) && single(&scales)) {
        return Ok(());
    }
    Err(Halt::shape(format!("zero points of shape {zeros:?} do not fit scales of shape {scales:?}")))
}

/// `x / scale`, rounded to even, plus the zero point, within the range of the type.
pub(super) fn quantize(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
) -> Result<ValueId> {
    let scaled = scaled(cx, x, scale)?;
    rounded(cx, scaled, zero, to)
}

/// `x / scale`.
fn scaled(cx: &mut NodeCx<'_>, x: ValueId, scale: ValueId) -> Result<ValueId> {
    let scale = cx.cast(scale, cx.dtype(x))?;
    cx.binary(Binary::Div, x, scale)
}

/// An input that is one number: a scale, which is a floating-point number, or a zero point of this type.
pub(super) fn number(cx: &mut NodeCx<'_>, at: usize, zero: Option<DType>) -> Result<ValueId> {
    let parameter = cx.input(at)?;
    match zero {
        Some(dtype) => expect_zero(cx, parameter, dtype)?,
        None => cx.expect_float(parameter)?,
    }
    if cx.elements(parameter) != 1 {
        let value = cx.sink.graph.value(parameter);
        let (name, shape) = (value.name.escape_debug(), &value.shape);
        return Err(Halt::shape(format!("'{name}' must be one number, but has the shape {shape:?}")));
    }
    cx.reshape(parameter, &[])
}

/// An error if a zero point is not of the type that it belongs to.
fn expect_zero(cx: &NodeCx<'_>, zero: ValueId, dtype: DType) -> Result<()> {
    cx.expect_type(zero, |zero| zero == dtype, dtype.name())
}

/// An error if a zero point is given that is not of the type of `x`.
pub(super) fn expect_zero_like(cx: &NodeCx<'_>, zero: Option<ValueId>, x: ValueId) -> Result<()> {
    let Some(zero) = zero else { return Ok(()) };
    expect_zero(cx, zero, cx.dtype(x))?;
    let type_of = |x: ValueId| cx.sink.nibble(x).map_or(cx.dtype(x).name(), Nibble::name);
    if type_of(zero) != type_of(x) {
        let name = cx.sink.graph.value(zero).name.escape_debug();
        let (is, needed) = (type_of(zero), type_of(x));
        return Err(Halt::shape(format!("'{name}' is {is}, but {needed} is needed")));
    }
    Ok(())
}

/// `x` rounded to even, plus the zero point, within the range of the type.
fn rounded(cx: &mut NodeCx<'_>, x: ValueId, zero: Option<ValueId>, to: DType) -> Result<ValueId> {
    rounded_within(cx, x, zero, to, range(to)?)
}

/// The same within a range of numbers of the type.
fn rounded_within(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    zero: Option<ValueId>,
    to: DType,
    (min, max): (f64, f64),
) -> Result<ValueId> {
    let mut y = cx.unary(Unary::Round, x)?;
    if let Some(zero) = zero.filter(|zero| !is_zero(cx, *zero)) {
        let zero = cx.cast(zero, cx.dtype(x))?;
        y = cx.binary(Binary::Add, y, zero)?;
    }
    let y = cx.add(Op::Clip { min: Some(min), max: Some(max) }, &[y])?;
    cx.cast(y, to)
}

pub(super) fn quantize_linear(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    // How values outside the range of 8-bit floats are rounded.
    cx.attributes.ignore(&["saturate"]);
    let (mut x, mut scale, zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let at = cx.int("axis", 1)?;
    let block = extent(cx.int("block_size", 0)?, "block_size")?;
    let (to, nibble) = match (zero, cx.int("output_dtype", 0)?) {
        (Some(zero), asked) => {
            let of_zero = (cx.dtype(zero), cx.sink.nibble(zero));
            let number = i32::try_from(asked).ok().filter(|n| *n != 0);
            if number.is_some_and(|n| (element_type(n).ok(), Nibble::of(n)) != (Some(of_zero.0), of_zero.1)) {
                return Err(Halt::invalid(
                    "output_dtype is another element type than that of the zero point",
                ));
            }
            of_zero
        }
        (None, 0) => (DType::U8, None),
        (None, number) => {
            let number = i32::try_from(number).map_err(|_| Halt::invalid("there is no such element type"))?;
            (element_type(number)?, Nibble::of(number))
        }
    };
    let limits = nibble.map_or_else(|| range(to), |nibble| Ok(nibble.range()))?;
    cx.expect_float(scale)?;
    expect_zero_per_scale(cx, zero, scale)?;
    if !cx.dtype(x).is_float() {
        x = cx.cast(x, cx.dtype(scale))?;
    }
    // The type of the scale is that of the quotient, unless another is asked for; there may be more precision than that, but
    // not what rounds to another integer.
    let precision = match cx.int("precision", 0)? {
        0 => cx.given_dtype(1).unwrap_or(cx.dtype(scale)),
        number => {
            element_type(i32::try_from(number).map_err(|_| Halt::invalid("there is no such element type"))?)?
        }
    };
    let is_half = precision.is_float() && precision.size() < DType::F32.size();
    if is_half {
        (x, scale) = (as_half(cx, x, precision)?, as_half(cx, scale, precision)?);
    }
    let scale = spread(cx, scale, x, at, block)?;
    let zero = zero.map(|zero| spread(cx, zero, x, at, block)).transpose()?;
    let mut quotient = scaled(cx, x, scale)?;
    if is_half {
        quotient = as_half(cx, quotient, precision)?;
    }
    let y = rounded_within(cx, quotient, zero, to, limits)?;
    nibble.map(|nibble| cx.sink.note_nibble(y, nibble));
    Ok(vec![y])
}

/// `x` rounded to a half type, as `f32`.
fn as_half(cx: &mut NodeCx<'_>, x: ValueId, half: DType) -> Result<ValueId> {
    let rounded = cx.cast(x, half)?;
    cx.cast(rounded, DType::F32)
}

pub(super) fn dequantize_linear(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let quantized = |dtype| dtype == DType::I32 || range(dtype).is_ok();
    cx.expect_type(x, quantized, "i8, u8, i16, u16 or i32")?;
    cx.expect_float(scale)?;
    expect_zero_like(cx, cx.optional(2), x)?;
    expect_zero_per_scale(cx, cx.optional(2), scale)?;
    let at = cx.int("axis", 1)?;
    let block = extent(cx.int("block_size", 0)?, "block_size")?;
    let to = match cx.int("output_dtype", 0)? {
        0 => cx.given_dtype(1).unwrap_or(cx.dtype(scale)),
        number => attribute_dtype(number)?,
    };
    let scale = spread(cx, scale, x, at, block)?;
    // Half types are rounded to at the end.
    let computed = if to.size() < DType::F32.size() { DType::F32 } else { to };
    let scale = cx.cast(scale, computed)?;
    let zero = cx.optional(2).map(|zero| spread(cx, zero, x, at, block)).transpose()?;
    let y = dequantized(cx, x, scale, zero)?;
    one(cx.cast(y, to))
}

/// `(x - zero) * scale`, of the scale's type; scale and zero point broadcast to `x`.
pub(super) fn dequantized(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
) -> Result<ValueId> {
    let shifted = less_zero(cx, x, zero)?;
    let shifted = cx.cast(shifted, cx.dtype(scale))?;
    cx.binary(Binary::Mul, shifted, scale)
}

/// The floats that stand for `x` quantised to 8 bits over its whole range.
pub(super) fn rounded_to_bytes(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let [y, scale, zero] = dynamic_quantize(cx, x)?;
    dequantized(cx, y, scale, Some(zero))
}

fn dynamic_quantize_linear(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    Ok(dynamic_quantize(cx, x)?.to_vec())
}

/// The maximum or minimum of all elements: of rows first, which whatever computes them can do as well.
fn extremum(cx: &mut NodeCx<'_>, op: Reduction, x: ValueId) -> Result<ValueId> {
    let Some(last) = cx.rank(x).checked_sub(1) else { return Ok(x) };
    let rows = cx.reduce(op, x, &[last], false)?;
    let axes: Vec<usize> = (0..last).collect();
    cx.reduce(op, rows, &axes, false)
}

/// Whether a zero point is known to be 0.
fn is_zero(cx: &NodeCx<'_>, zero: ValueId) -> bool {
    cx.constant_of(zero).is_some_and(|t| t.bytes().is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0)))
}

/// `x` in 8 bits over its whole range, the scale and the zero point.
pub(super) fn dynamic_quantize(cx: &mut NodeCx<'_>, x: ValueId) -> Result<[ValueId; 3]> {
    let (max, min) = (extremum(cx, Reduction::Max, x)?, extremum(cx, Reduction::Min, x)?);
    // 0 must be representable.
    let max = cx.binary_const(Binary::Max, max, 0.0)?;
    let min = cx.binary_const(Binary::Min, min, 0.0)?;
    let span = cx.binary(Binary::Sub, max, min)?;
    let scale = cx.binary_const(Binary::Div, span, 255.0)?;
    let negated = cx.unary(Unary::Neg, min)?;
    let offset = cx.binary(Binary::Div, negated, scale)?;
    let offset = cx.add(Op::Clip { min: Some(0.0), max: Some(255.0) }, &[offset])?;
    let zero = cx.unary(Unary::Round, offset)?;
    let zero = cx.cast(zero, DType::U8)?;
    Ok([quantize(cx, x, scale, Some(zero), DType::U8)?, scale, zero])
}

/// `x - zero` as `i32`.
pub(super) fn less_zero(cx: &mut NodeCx<'_>, x: ValueId, zero: Option<ValueId>) -> Result<ValueId> {
    let x = cx.cast(x, DType::I32)?;
    let Some(zero) = zero.filter(|zero| !is_zero(cx, *zero)) else { return Ok(x) };
    let zero = cx.cast(zero, DType::I32)?;
    cx.binary(Binary::Sub, x, zero)
}

/// A zero point per row of the left operand or per column of the right one.
pub(super) fn matrix_zero(cx: &mut NodeCx<'_>, zero: Option<ValueId>, left: bool) -> Result<Option<ValueId>> {
    let Some(zero) = zero else { return Ok(None) };
    match cx.shape(zero).as_slice() {
        [n] if left && *n > 1 => cx.reshape(zero, &[*n, 1]).map(Some),
        _ => Ok(Some(zero)),
    }
}

/// An error if a value is not of one of the types that integer products take.
pub(super) fn expect_small(cx: &NodeCx<'_>, x: ValueId) -> Result<()> {
    cx.expect_type(x, |dtype| matches!(dtype, DType::I8 | DType::U8), "i8 or u8")
}

fn matmul_integer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    expect_small(cx, a)?;
    expect_small(cx, b)?;
    expect_zero_like(cx, cx.optional(2), a)?;
    expect_zero_like(cx, cx.optional(3), b)?;
    let (a_zero, b_zero) = (matrix_zero(cx, cx.optional(2), true)?, matrix_zero(cx, cx.optional(3), false)?);
    let (a, b) = (less_zero(cx, a, a_zero)?, less_zero(cx, b, b_zero)?);
    one(cx.add(Op::MatMul, &[a, b]))
}

fn qlinear_matmul(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let (a_zero, b_zero) = (cx.input(2)?, cx.input(5)?);
    let (a_scale, b_scale) = (cx.input(1)?, cx.input(4)?);
    let (y_scale, y_zero) = (cx.input(6)?, cx.input(7)?);
    expect_zero_like(cx, Some(a_zero), a)?;
    expect_zero_like(cx, Some(b_zero), b)?;
    for scale in [a_scale, b_scale, y_scale] {
        cx.expect_float(scale)?;
    }
    let a_zero = matrix_zero(cx, Some(a_zero), true)?;
    let mut rows = [a_scale, y_scale, y_zero];
    for parameter in &mut rows {
        *parameter = matrix_zero(cx, Some(*parameter), true)?.unwrap_or(*parameter);
    }
    let [a_scale, y_scale, y_zero] = rows;
    let (a, b) = (less_zero(cx, a, a_zero)?, less_zero(cx, b, Some(b_zero))?);
    let product = cx.add(Op::MatMul, &[a, b])?;
    one(requantize(cx, product, [a_scale, b_scale, y_scale], y_zero))
}

/// `product * (scales[0] * scales[1] / scales[2])`, rounded to even, plus the zero point. The scales become one number
/// first, as in ONNX Runtime: what lies in the middle between two integers then rounds to the same one.
pub(super) fn requantize(
    cx: &mut NodeCx<'_>,
    product: ValueId,
    scales: [ValueId; 3],
    zero: ValueId,
) -> Result<ValueId> {
    let [a, b, y] = scales;
    let to = cx.dtype(zero);
    let product = cx.cast(product, cx.dtype(a))?;
    let scale = cx.binary(Binary::Mul, a, b)?;
    let y = cx.cast(y, cx.dtype(a))?;
    let scale = cx.binary(Binary::Div, scale, y)?;
    let scaled = cx.binary(Binary::Mul, product, scale)?;
    rounded(cx, scaled, Some(zero), to)
}

/// The convolution of integers less their zero points.
fn integer_conv(cx: &mut NodeCx<'_>, x: ValueId, weight: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let (shape, filter) = (cx.shape(x), cx.shape(weight));
    let input = spatial(&shape)?;
    if filter.len() != shape.len() {
        return Err(Halt::shape(format!(
            "an operand of shape {shape:?} does not fit a weight of shape {filter:?}"
        )));
    }
    cx.attributes.ignore(&["kernel_shape"]);
    let window = window(cx, input, filter[2..].to_vec())?;
    let groups = extent(cx.int("group", 1)?, "group")?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    cx.add(Op::Conv { window, groups, format: Format::ChannelsFirst, pad_value: 0 }, &inputs)
}

/// A number for all filters of a weight, or one per filter, laid out along a dimension.
fn per_filter(cx: &mut NodeCx<'_>, value: ValueId, weight: ValueId, axis: usize) -> Result<ValueId> {
    let extents = cx.shape(weight);
    let rank = extents.len();
    if rank < 3 {
        return Err(Halt::shape(format!("a weight of rank {rank} is not possible")));
    }
    let count = cx.elements(value);
    if count != 1 && count != extents[0] {
        let name = cx.sink.graph.value(value).name.escape_debug().to_string();
        return Err(Halt::shape(format!(
            "'{name}' has {count} elements, but there are {} filters",
            extents[0]
        )));
    }
    let mut shape = vec![1; rank];
    shape[axis] = count;
    cx.reshape(value, &shape)
}

fn conv_integer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, weight) = (cx.input(0)?, cx.input(1)?);
    expect_small(cx, x)?;
    expect_small(cx, weight)?;
    expect_zero_like(cx, cx.optional(2), x)?;
    expect_zero_like(cx, cx.optional(3), weight)?;
    let w_zero = cx.optional(3).map(|zero| per_filter(cx, zero, weight, 0)).transpose()?;
    let x_zero = cx.optional(2).map(|zero| cx.reshape(zero, &[])).transpose()?;
    let (x, weight) = (less_zero(cx, x, x_zero)?, less_zero(cx, weight, w_zero)?);
    one(integer_conv(cx, x, weight, None))
}

pub(super) fn qlinear_conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, weight) = (cx.input(0)?, cx.input(3)?);
    let (x_scale, x_zero) = (cx.input(1)?, cx.input(2)?);
    let (w_scale, w_zero) = (cx.input(4)?, cx.input(5)?);
    let (y_scale, y_zero) = (cx.input(6)?, cx.input(7)?);
    expect_zero_like(cx, Some(x_zero), x)?;
    expect_zero_like(cx, Some(w_zero), weight)?;
    for scale in [x_scale, w_scale, y_scale] {
        cx.expect_float(scale)?;
    }
    let w_zero = per_filter(cx, w_zero, weight, 0)?;
    let w_scale = per_filter(cx, w_scale, weight, 1)?;
    let (x, weight) = (less_zero(cx, x, Some(x_zero))?, less_zero(cx, weight, Some(w_zero))?);
    let product = integer_conv(cx, x, weight, cx.optional(8))?;
    one(requantize(cx, product, [x_scale, w_scale, y_scale], y_zero))
}
