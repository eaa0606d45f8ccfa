//! Shapes as values, and tensors that are made of nothing but attributes.

use nestjit_ir::DType;

use super::super::attributes::Attributes;
use super::super::external::External;
use super::super::limit;
use super::super::nibble::Nibble;
use super::super::tensor::{attribute_dtype, decode, decode_sparse};
use super::{Halt, NodeCx, OpEntry, Result, all, extents, one, op};
use crate::error::{self, Error};
use crate::graph::{Binary, ValueId};
use crate::host::{HostOp, extent as host};
use crate::tensor::Tensor;

pub(super) const OPS: &[OpEntry] = &[
    op("Constant", 1, constant),
    op("ConstantOfShape", 9, constant_of_shape).on_host(|n| {
        let value = element(n.attributes, n.external)?;
        Ok(HostOp::tensor(move |x| host::constant_of_shape(x.tensor(0)?, &value)))
    }),
    op("EyeLike", 9, eye_like),
    op("Range", 11, range).on_host(|n| {
        n.attributes.ignore(&[STEP_PRECISION]);
        Ok(HostOp::tensor(|x| host::range(x.tensor(0)?, x.tensor(1)?, x.tensor(2)?)))
    }),
    op("Shape", 1, shape),
    op("Size", 1, |cx| {
        let x = cx.input(0)?;
        let size = cx.elements(x) as i64;
        one(cx.values(&[], &[size]))
    }),
    op("Trilu", 14, trilu),
];

fn constant(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(0)?;
    let a = &cx.attributes;
    let external = cx.external();
    let mut found: Vec<Tensor> = Vec::new();
    let mut nibble = None;
    if let Some(tensor) = a.tensor("value")? {
        found.push(decode(tensor, external)?);
        nibble = Nibble::of(tensor.data_type());
    }
    if let Some(sparse) =
        a.iter().find(|(name, _)| *name == "sparse_value").and_then(|(_, a)| a.sparse_tensor.as_ref())
    {
        a.ignore(&["sparse_value"]);
        found.push(decode_sparse(sparse, external)?);
    }
    if let Some(value) = a.float("value_float")? {
        found.push(Tensor::scalar(value as f32));
    }
    if let Some(values) = a.floats("value_floats")? {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        found.push(Tensor::new(&[values.len()], &values)?);
    }
    if let Some(value) = a.int("value_int")? {
        found.push(Tensor::scalar(value));
    }
    if let Some(values) = a.ints("value_ints")? {
        found.push(Tensor::new(&[values.len()], values)?);
    }
    if a.has("value_string") || a.has("value_strings") {
        return Err(Halt::unsupported("the element type string is not supported"));
    }
    match <[Tensor; 1]>::try_from(found) {
        Ok([tensor]) => {
            let constant = cx.constant(tensor);
            nibble.map(|nibble| cx.sink.note_nibble(constant, nibble));
            Ok(vec![constant])
        }
        Err(found) => Err(Halt::invalid(format!("{} values are given, but one is needed", found.len()))),
    }
}

/// The precision of the steps of 16-bit floats: never less here than what is asked for.
const STEP_PRECISION: &str = "stash_type";

/// The element that a tensor is filled with.
fn element(attributes: &Attributes<'_>, external: &External) -> error::Result<Tensor> {
    let value = match attributes.tensor("value")? {
        Some(tensor) => decode(tensor, external)?,
        None => Tensor::scalar(0f32),
    };
    if value.len() != 1 {
        return Err(Error::shape(format!("the value must be one element, not {:?}", value.shape())));
    }
    value.reshape(&[])
}

fn constant_of_shape(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let element = element(&cx.attributes, cx.external())?;
    let input = cx.input(0)?;
    let list = cx.known_ints(input, "the shape")?;
    let shape = extents(&list, "a dimension of the shape")?;
    let element = cx.constant(element);
    let filled = cx.expand(element, &shape)?;
    let nibble = cx.attributes.tensor("value")?.and_then(|tensor| Nibble::of(tensor.data_type()));
    nibble.map(|nibble| cx.sink.note_nibble(filled, nibble));
    Ok(vec![filled])
}

fn shape(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let rank = shape.len() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (place(cx.int("start", 0)?), place(cx.attributes.int("end")?.unwrap_or(rank)));
    let part: Vec<i64> = shape[start..end.max(start)].iter().map(|n| *n as i64).collect();
    one(cx.values(&[part.len()], &part))
}

fn eye_like(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let to = match cx.attributes.int("dtype")? {
        Some(number) => attribute_dtype(number)?,
        None => cx.dtype(x),
    };
    let k = cx.int("k", 0)?;
    let [rows, columns] = cx.shape(x)[..] else {
        return Err(Halt::shape("the operand must be a matrix"));
    };
    let eye = diagonal(cx, rows, columns, k, Binary::Eq)?;
    one(cx.cast(eye, to))
}

/// Where `column - row` compares so to `k`: `bool[rows, columns]`.
fn diagonal(cx: &mut NodeCx<'_>, rows: usize, columns: usize, k: i64, compare: Binary) -> Result<ValueId> {
    limit::check_table(DType::I64, &[rows])?;
    limit::check_table(DType::I64, &[columns])?;
    let row: Vec<i64> = (0..rows as i64).map(|i| i.saturating_add(k)).collect();
    let column: Vec<i64> = (0..columns as i64).collect();
    let row = cx.values(&[rows, 1], &row)?;
    let column = cx.values(&[1, columns], &column)?;
    cx.binary(compare, column, row)
}

pub(super) fn trilu(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let upper = cx.flag("upper", true)?;
    let k = match cx.optional(1) {
        Some(k) => cx.known_int(k, "k")?,
        None => 0,
    };
    let [.., rows, columns] = cx.shape(x)[..] else {
        return Err(Halt::shape("the operand must have at least 2 dimensions"));
    };
    let kept = diagonal(cx, rows, columns, k, if upper { Binary::Ge } else { Binary::Le })?;
    let zero = cx.scalar_like(x, 0.0);
    one(cx.select(kept, x, zero))
}

/// The numbers from input 0 up to input 1, input 2 (1 if it is left out) apart.
pub(super) fn range(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&[STEP_PRECISION]);
    let [start, limit] = [cx.input(0)?, cx.input(1)?];
    let dtype = cx.dtype(start);
    let delta = match cx.optional(2) {
        Some(delta) => delta,
        None => cx.scalar(dtype, 1.0),
    };
    let operands = [(start, "start"), (limit, "limit"), (delta, "delta")];
    if dtype.is_int() {
        let [start, limit, delta] = all(operands.map(|(x, what)| cx.known_int(x, what)))?.map(i128::from);
        if delta == 0 {
            return Err(Halt::invalid("delta is 0"));
        }
        let distance = if delta > 0 { limit - start } else { start - limit };
        let count = if distance <= 0 { 0 } else { (distance + delta.abs() - 1) / delta.abs() };
        let count = usize::try_from(count).map_err(|_| Halt::limit("the range is too long"))?;
        limit::check_table(DType::I64, &[count])?;
        let values: Vec<i64> = (0..count as i128).map(|i| (start + i * delta) as i64).collect();
        let values = cx.values(&[count], &values)?;
        return one(cx.cast(values, dtype));
    }
    let [start, limit, delta] = all(operands.map(|(x, what)| cx.known_scalar(x, what)))?;
    let count = ((limit - start) / delta).ceil();
    if delta == 0.0 || !count.is_finite() {
        return Err(Halt::invalid(format!("a range from {start} to {limit} by {delta} is impossible")));
    }
    let count = if count > 0.0 { count as usize } else { 0 };
    limit::check_table(DType::F64, &[count])?;
    let values: Vec<f64> = (0..count).map(|i| start + i as f64 * delta).collect();
    let values = cx.values(&[count], &values)?;
    one(cx.cast(values, dtype))
}
