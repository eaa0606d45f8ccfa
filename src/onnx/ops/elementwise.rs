//! Elementwise functions of several operands, and conversions.

use nestjit_ir::DType;

use super::super::attributes::Attributes;
use super::super::nibble::Nibble;
use super::super::tensor::attribute_dtype;
use super::{Halt, NodeCx, OpEntry, Result, axis, floats, host, missing, one, op};
use crate::error;
use crate::graph::{Binary, Unary, ValueId};
use crate::host::{HostOp, movement};

pub(super) const OPS: &[OpEntry] = &[
    op("Add", 1, |cx| binary(cx, Binary::Add)),
    op("And", 1, |cx| logical(cx, Binary::And)),
    op("BitCast", 26, bit_cast).on_host(|n| {
        let to = target(n.attributes)?;
        Ok(HostOp::tensor(move |x| movement::bit_cast(x.tensor(0)?, to)))
    }),
    op("BitShift", 11, bit_shift),
    op("BitwiseAnd", 18, |cx| bitwise(cx, Binary::And)),
    op("BitwiseOr", 18, |cx| bitwise(cx, Binary::Or)),
    op("BitwiseXor", 18, |cx| bitwise(cx, Binary::Xor)),
    op("Cast", 6, cast),
    op("CastLike", 15, cast_like),
    op("Div", 1, |cx| binary(cx, Binary::Div)),
    op("Equal", 1, |cx| binary(cx, Binary::Eq)),
    op("Greater", 1, |cx| binary(cx, Binary::Gt)),
    op("GreaterOrEqual", 12, |cx| binary(cx, Binary::Ge)),
    op("Less", 1, |cx| binary(cx, Binary::Lt)),
    op("LessOrEqual", 12, |cx| binary(cx, Binary::Le)),
    op("Max", 1, |cx| variadic(cx, Binary::Max)),
    op("Mean", 1, mean).in_f32(&[0]),
    op("Min", 1, |cx| variadic(cx, Binary::Min)),
    op("Mod", 10, |cx| {
        let fmod = cx.flag("fmod", false)?;
        let x = cx.input(0)?;
        if !fmod && cx.opset < 28 && cx.dtype(x).is_float() {
            return Err(Halt::invalid("fmod must be 1 for floating-point operands up to version 27"));
        }
        binary(cx, if fmod { Binary::Rem } else { Binary::Mod })
    }),
    op("Mul", 1, |cx| binary(cx, Binary::Mul)),
    op("Or", 1, |cx| logical(cx, Binary::Or)),
    op("PRelu", 1, prelu),
    op("Pow", 1, pow).in_f32(&[0]),
    op("Sub", 1, |cx| binary(cx, Binary::Sub)),
    op("Sum", 1, |cx| variadic(cx, Binary::Add)).in_f32(&[0]),
    op("Where", 9, |cx| {
        let [c, a, b] = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
        one(cx.select(c, a, b))
    }),
    op("Xor", 1, |cx| logical(cx, Binary::Xor)),
];

/// The two operands. Up to version 6 broadcasting is asked for, and `axis` says where the second operand's
/// dimensions are in the first.
fn operands(cx: &mut NodeCx<'_>) -> Result<[ValueId; 2]> {
    cx.expect_inputs(2)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if cx.opset >= 7 {
        return Ok([a, b]);
    }
    cx.attributes.ignore(&["consumed_inputs"]);
    let broadcast = cx.flag("broadcast", false)?;
    let Some(first) = cx.attributes.int("axis")? else { return Ok([a, b]) };
    let rank = cx.rank(a);
    let first = axis(first, rank.max(1))?;
    let mut shape = cx.shape(b);
    if !broadcast || first + shape.len() > rank {
        return Err(Halt::invalid(format!(
            "an operand of shape {shape:?} at axis {first} does not fit {:?}",
            cx.shape(a)
        )));
    }
    shape.resize(rank - first, 1);
    let b = cx.reshape(b, &shape)?;
    Ok([a, b])
}

fn binary(cx: &mut NodeCx<'_>, binary: Binary) -> Result<Vec<ValueId>> {
    let [a, b] = operands(cx)?;
    one(cx.binary(binary, a, b))
}

fn logical(cx: &mut NodeCx<'_>, function: Binary) -> Result<Vec<ValueId>> {
    cx.expect_type(cx.input(0)?, |dtype| dtype == DType::Bool, "bool")?;
    binary(cx, function)
}

fn bitwise(cx: &mut NodeCx<'_>, function: Binary) -> Result<Vec<ValueId>> {
    cx.expect_type(cx.input(0)?, DType::is_int, "an integer type")?;
    binary(cx, function)
}

fn variadic(cx: &mut NodeCx<'_>, binary: Binary) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["consumed_inputs"]);
    let inputs = cx.inputs()?;
    let Some((first, rest)) = inputs.split_first() else {
        return Err(Halt::invalid("at least one input is needed"));
    };
    let mut y = *first;
    for x in rest {
        y = cx.binary(binary, y, *x)?;
    }
    Ok(vec![y])
}

fn mean(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let count = cx.input_count();
    let sum = variadic(cx, Binary::Add)?[0];
    one(cx.binary_const(Binary::Div, sum, count as f64))
}

fn bit_shift(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    match cx.attributes.string("direction")? {
        Some("LEFT") => binary(cx, Binary::Shl),
        Some("RIGHT") => binary(cx, Binary::Shr),
        other => Err(Halt::invalid(format!("the direction must be LEFT or RIGHT, not {other:?}"))),
    }
}

/// The type that the attribute `to` names.
fn target(attributes: &Attributes<'_>) -> error::Result<DType> {
    attribute_dtype(attributes.int("to")?.ok_or_else(|| missing("to"))?)
}

fn cast(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    // How values outside the range of 8-bit floats are rounded.
    cx.attributes.ignore(&["saturate", "round_mode"]);
    let x = cx.input(0)?;
    let number = cx.attributes.int("to")?.and_then(|number| i32::try_from(number).ok());
    match number.and_then(Nibble::of) {
        Some(nibble) => one(to_nibble(cx, x, nibble)),
        None => {
            let to = target(&cx.attributes)?;
            one(cast_to(cx, x, to))
        }
    }
}

/// To a type that is not one of four bits.
fn cast_to(cx: &mut NodeCx<'_>, x: ValueId, to: DType) -> Result<ValueId> {
    let y = cx.cast(x, to)?;
    // What has no bits more still is another value, of all numbers of its type.
    if y == x && cx.sink.nibble(x).is_some() { cx.binary_const(Binary::Or, x, 0.0) } else { Ok(y) }
}

/// To the lowest four bits of an integer; floats are cut to one first.
fn to_nibble(cx: &mut NodeCx<'_>, x: ValueId, nibble: Nibble) -> Result<ValueId> {
    if cx.sink.nibble(x) == Some(nibble) {
        return Ok(x);
    }
    let integer = if cx.dtype(x).is_int() { x } else { cx.cast(x, DType::I32)? };
    Ok(cx.sink.low_bits(cx.origin(), integer, nibble)?)
}

/// Between integers of one size the bits are the same; between floats and integers they are a matter of the host.
fn bit_cast(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let to = target(&cx.attributes)?;
    let x = cx.input(0)?;
    let from = cx.dtype(x);
    if from.size() != to.size() {
        return Err(Halt::shape(format!("{from} and {to} have different numbers of bits")));
    }
    if from == to || !from.is_float() && !to.is_float() {
        return one(cx.cast(x, to));
    }
    match cx.constant_of(x).is_some() {
        true => host::at_once(cx),
        false => Err(Halt::host("it takes the bits of numbers for those of another type")),
    }
}

fn cast_like(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["saturate", "round_mode"]);
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    if let Some(nibble) = cx.sink.nibble(like) {
        return one(to_nibble(cx, x, nibble));
    }
    let to = cx.dtype(like);
    one(cast_to(cx, x, to))
}

/// The result has the type of the base, whatever the exponent's.
fn pow(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let [base, exponent] = operands(cx)?;
    let (dtype, other) = (cx.dtype(base), cx.dtype(exponent));
    let constant = cx.constant_of(exponent).and_then(|t| floats(t, "the exponent").ok());
    // Powers that are products, whose every step is rounded as an exact power would be, or better than one of
    // `exp` and `log`.
    if let Some([power]) = constant.as_deref()
        && cx.rank(exponent) <= cx.rank(base)
    {
        if *power == 1.0 {
            return Ok(vec![base]);
        }
        if *power == 2.0 {
            return one(cx.unary(Unary::Square, base));
        }
        if *power == 3.0 {
            let square = cx.unary(Unary::Square, base)?;
            return one(cx.binary(Binary::Mul, square, base));
        }
    }
    // A whole exponent that is rounded to the base's type may be even instead of odd.
    let wider = match constant {
        Some(powers) => powers.iter().any(|p| p.fract() == 0.0 && f64::from(*p as f32) != *p),
        None => matches!(other, DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64),
    };
    if other.is_float() && !dtype.is_float() || dtype == DType::F32 && wider {
        let base = cx.cast(base, DType::F64)?;
        let exponent = cx.cast(exponent, DType::F64)?;
        let y = cx.binary(Binary::Pow, base, exponent)?;
        return one(cx.cast(y, dtype));
    }
    let exponent = cx.cast(exponent, dtype)?;
    one(cx.binary(Binary::Pow, base, exponent))
}

fn prelu(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["consumed_inputs"]);
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.rank(x);
    // Up to version 6 a vector of slopes is one per channel.
    if cx.opset < 7 && cx.rank(slope) == 1 && rank > 2 {
        let mut shape = vec![1; rank - 1];
        shape[0] = cx.elements(slope);
        slope = cx.reshape(slope, &shape)?;
    }
    let y = cx.binary(Binary::PRelu, x, slope)?;
    if cx.shape(y) != cx.shape(x) {
        return Err(Halt::shape("the slope does not broadcast to the operand"));
    }
    Ok(vec![y])
}
