//! Labels and categories, which are looked up in lists.

use nestjit_ir::{CheckKind, DType, Scalar};

use super::lookup::Keys;
use super::{Halt, NodeCx, OpEntry, Result, ml, one};
use crate::graph::{Binary, Op, ValueId};
use crate::onnx::tensor::decode;
use crate::tensor::Tensor;

pub(in super::super) const OPS: &[OpEntry] =
    &[ml("LabelEncoder", 2, label_encoder), ml("OneHotEncoder", 1, one_hot_encoder)];

/// The names of attributes that hold a list of one of several types.
struct Lists {
    ints: &'static str,
    floats: &'static str,
    strings: &'static str,
    tensor: &'static str,
}

const KEYS: Lists =
    Lists { ints: "keys_int64s", floats: "keys_floats", strings: "keys_strings", tensor: "keys_tensor" };
const VALUES: Lists = Lists {
    ints: "values_int64s",
    floats: "values_floats",
    strings: "values_strings",
    tensor: "values_tensor",
};

impl Lists {
    /// The list that is given, flat.
    fn of(&self, cx: &NodeCx<'_>) -> Result<Tensor> {
        let attributes = &cx.attributes;
        if attributes.has(self.strings) {
            return Err(Halt::unsupported("strings are not supported"));
        }
        if let Some(list) = attributes.ints(self.ints)?.filter(|list| !list.is_empty()) {
            return Ok(Tensor::new(&[list.len()], list)?);
        }
        if let Some(list) = attributes.floats(self.floats)?.filter(|list| !list.is_empty()) {
            return Ok(Tensor::from_f64(DType::F32, &[list.len()], &list)?);
        }
        match attributes.tensor(self.tensor)? {
            Some(tensor) if cx.opset >= 4 => {
                let list = decode(tensor, cx.external())?;
                Ok(list.reshape(&[list.len()])?)
            }
            _ => Err(Halt::invalid(format!("neither '{}' nor '{}' is given", self.ints, self.floats))),
        }
    }
}

/// The types of labels.
fn is_label(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::I32 | DType::I16 | DType::F32 | DType::F64)
}

/// For each element that is a key, the value that is listed for it, and a default for others.
fn label_encoder(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = cx.input(0)?;
    let (keys, values) = (KEYS.of(cx)?, VALUES.of(cx)?);
    if keys.len() != values.len() {
        return Err(Halt::invalid(format!("there are {} keys, but {} values", keys.len(), values.len())));
    }
    let dtype = keys.dtype();
    for list in [&keys, &values] {
        if !is_label(list.dtype()) {
            return Err(Halt::shape(format!("labels cannot be {}", list.dtype())));
        }
    }
    cx.expect_type(x, |x| x == dtype, &format!("the type of the keys, {dtype},"))?;
    let keys = match dtype.is_float() {
        true => Keys::Floats(super::super::floats(&keys, "keys")?),
        false => Keys::Ints(super::super::ints(&keys, "keys")?),
    };
    let default = default(cx, values.dtype())?;
    let found = keys.find(cx, x)?;
    let (values, default) = (cx.constant(values), cx.constant(default));
    let order = cx.values(&[found.order.len()], &found.order)?;
    let values = cx.gather(values, order, 0)?;
    let y = cx.gather(values, found.at, 0)?;
    one(cx.select(found.known, y, default))
}

/// What stands for values of this type that no key has.
fn default(cx: &NodeCx<'_>, dtype: DType) -> Result<Tensor> {
    cx.attributes.ignore(&["default_string"]);
    let (int, float) = (cx.int("default_int64", -1)?, cx.float("default_float", -0.0)?);
    if let Some(tensor) = cx.attributes.tensor("default_tensor")? {
        let tensor = decode(tensor, cx.external())?;
        return match tensor.dtype() == dtype && tensor.len() == 1 {
            true => Ok(tensor.reshape(&[])?),
            false => Err(Halt::invalid(format!("default_tensor is {tensor:?}, not one element of {dtype}"))),
        };
    }
    Ok(Tensor::from(match dtype.is_float() {
        true => Scalar::from_f64(dtype, float),
        false => Scalar::from_i64(dtype, int),
    }))
}

/// For each element, a row with 1 at the place of the category that it is.
fn one_hot_encoder(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    if cx.attributes.has("cats_strings") {
        return Err(Halt::unsupported("categories that are strings are not supported"));
    }
    let x = super::features(cx)?;
    let categories = cx.attributes.ints("cats_int64s")?.unwrap_or_default().to_vec();
    let (count, rank) = (categories.len(), cx.rank(x));
    let x = cx.cast(x, DType::I64)?;
    let found = Keys::Ints(categories).find(cx, x)?;
    let order = cx.values(&[found.order.len()], &found.order)?;
    let place = cx.gather(order, found.at, 0)?;
    let other = match cx.flag("zeros", true)? {
        true => cx.values(&[], &[-1i64])?,
        false => known_only(cx, x, found.known)?,
    };
    let place = cx.select(found.known, place, other)?;
    let place = cx.unsqueeze(place, rank)?;
    let all: Vec<i64> = (0..count as i64).collect();
    let all = cx.values(&[count], &all)?;
    let hot = cx.binary(Binary::Eq, place, all)?;
    one(cx.cast(hot, DType::F32))
}

/// A value whose computation ends the run if an element is no category.
fn known_only(cx: &mut NodeCx<'_>, x: ValueId, known: ValueId) -> Result<ValueId> {
    // Of what is known, a value stands that no category has.
    let (low, high) = (i64::MIN, i64::MIN + 1);
    let fine = cx.values(&[], &[low])?;
    let value = cx.select(known, fine, x)?;
    let input = cx.node.input.first().cloned().unwrap_or_default();
    cx.add(Op::Check { kind: CheckKind::Category, low, high, input }, &[value])
}
