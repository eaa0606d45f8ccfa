//! Features made of features: scaled, replaced, joined, chosen.

use nestjit_ir::{CheckKind, DType};

use super::{Halt, NodeCx, OpEntry, Result, extents, features, floating, ml, one, rows};
use crate::graph::{Binary, Reduction, Unary, ValueId};
use crate::onnx::limit;

pub(in super::super) const OPS: &[OpEntry] = &[
    ml("ArrayFeatureExtractor", 1, array_feature_extractor),
    ml("Binarizer", 1, binarizer),
    ml("FeatureVectorizer", 1, feature_vectorizer),
    ml("Imputer", 1, imputer),
    ml("Normalizer", 1, normalizer),
    ml("Scaler", 1, scaler),
];

/// What is applied to each feature: a list with an element for each, or one for all of them.
fn for_each_feature<T: Copy>(cx: &NodeCx<'_>, x: ValueId, list: &[T], what: &str) -> Result<Vec<T>> {
    let shape = cx.shape(x);
    match (list, shape.as_slice()) {
        ([value], _) => Ok(vec![*value]),
        (list, [n] | [_, n]) if list.len() == *n => Ok(list.to_vec()),
        (list, shape) => Err(Halt::shape(format!(
            "there are {} elements in {what}, which do not fit features of shape {shape:?}",
            list.len()
        ))),
    }
}

/// `(x - offset) * scale`
fn scaler(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let mut y = floating(cx, x)?;
    for (name, op) in [("offset", Binary::Sub), ("scale", Binary::Mul)] {
        if let Some(list) = cx.attributes.floats(name)? {
            let list = for_each_feature(cx, x, &list, name)?;
            let list = cx.floats_like(y, &[list.len()], &list)?;
            y = cx.binary(op, y, list)?;
        }
    }
    one(cx.cast(y, DType::F32))
}

/// Rows divided by a norm of theirs, unless that is 0.
fn normalizer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let shape = cx.shape(x);
    let (x, _) = rows(cx, x)?;
    let x = floating(cx, x)?;
    let norm = match cx.string("norm", "MAX")? {
        // Of what is signed: the largest element, not that of the largest magnitude.
        "MAX" => Reduction::Max,
        "L1" => Reduction::L1,
        "L2" => Reduction::L2,
        other => return Err(Halt::invalid(format!("there is no norm '{}'", other.escape_debug()))),
    };
    let norm = cx.reduce(norm, x, &[1], true)?;
    let none = cx.binary_const(Binary::Eq, norm, 0.0)?;
    let unit = cx.scalar_like(norm, 1.0);
    let norm = cx.select(none, unit, norm)?;
    let y = cx.binary(Binary::Div, x, norm)?;
    let y = cx.cast(y, DType::F32)?;
    one(cx.reshape(y, &shape))
}

/// Features with others in the place of those that are a certain value, which stands for what is missing.
fn imputer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let (replaced_float, replaced_int) =
        (cx.float("replaced_value_float", 0.0)?, cx.int("replaced_value_int64", 0)?);
    let (floats, ints) =
        (cx.attributes.floats("imputed_value_floats")?, cx.attributes.ints("imputed_value_int64s")?);
    let empty = |name: &str| Halt::invalid(format!("the attribute '{name}' is missing, or an empty list"));
    let (missing, others) = if cx.dtype(x).is_float() {
        let list = floats.filter(|list| !list.is_empty()).ok_or_else(|| empty("imputed_value_floats"))?;
        let list = first_or_each(cx, x, &list)?;
        let missing = match replaced_float.is_nan() {
            true => cx.unary(Unary::IsNan, x)?,
            false => cx.binary_const(Binary::Eq, x, replaced_float)?,
        };
        (missing, cx.floats_like(x, &[list.len()], &list)?)
    } else {
        let list = ints.filter(|list| !list.is_empty()).ok_or_else(|| empty("imputed_value_int64s"))?;
        let list = first_or_each(cx, x, list)?;
        let (wide, replaced) = (cx.cast(x, DType::I64)?, cx.values(&[], &[replaced_int])?);
        let list = cx.values(&[list.len()], &list)?;
        (cx.binary(Binary::Eq, wide, replaced)?, cx.cast(list, cx.dtype(x))?)
    };
    one(cx.select(missing, others, x))
}

/// A list with an element for each feature, or its first element for all.
fn first_or_each<T: Copy>(cx: &NodeCx<'_>, x: ValueId, list: &[T]) -> Result<Vec<T>> {
    match cx.shape(x).as_slice() {
        [n] | [_, n] if *n == list.len() => Ok(list.to_vec()),
        _ => for_each_feature(cx, x, &list[..1], "a list"),
    }
}

/// 1 for features above a threshold, 0 for others.
fn binarizer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = features(cx)?;
    let threshold = cx.float("threshold", 0.0)?;
    let dtype = cx.dtype(x);
    let above = match threshold.is_nan() {
        // Nothing is.
        true => {
            let wide = cx.cast(x, DType::F64)?;
            cx.binary_const(Binary::Gt, wide, threshold)?
        }
        // An integer is above a number if it is above its floor.
        false if dtype.is_int() => cx.binary_const(Binary::Gt, x, threshold.floor())?,
        false => cx.binary_const(Binary::Gt, x, threshold)?,
    };
    one(cx.cast(above, dtype))
}

/// The columns of all inputs, each cut or filled up with zeros to a number of columns that is given for it.
fn feature_vectorizer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let inputs = cx.inputs()?;
    let widths = match cx.attributes.ints("inputdimensions")? {
        Some(list) => Some(extents(list, "inputdimensions")?),
        None => None,
    };
    if widths.as_ref().is_some_and(|widths| widths.len() != inputs.len()) || inputs.is_empty() {
        return Err(Halt::invalid(format!(
            "there are {} inputs, but inputdimensions is {widths:?}",
            inputs.len()
        )));
    }
    let mut columns = Vec::with_capacity(inputs.len());
    for (i, x) in inputs.into_iter().enumerate() {
        cx.expect_type(x, super::is_feature, "f32, f64, i64 or i32")?;
        let shape = cx.shape(x);
        let (rows, width) = match shape.as_slice() {
            [] => return Err(Halt::shape("features must have a dimension")),
            [width] => (1, *width),
            [rows, rest @ ..] => (*rows, limit::product(rest)?),
        };
        let mut part = cx.reshape(x, &[rows, width])?;
        part = cx.cast(part, DType::F32)?;
        if let Some(wanted) = widths.as_ref().map(|widths| widths[i]) {
            if wanted > width {
                let zeros = limit::zeros(DType::F32, &[rows, wanted - width])?;
                let zeros = cx.constant(zeros);
                part = cx.concat(&[part, zeros], 1)?;
            } else {
                part = cx.narrow(part, 1, 0, wanted)?;
            }
        }
        columns.push(part);
    }
    one(cx.concat(&columns, 1))
}

/// The columns of the last dimension that are listed.
fn array_feature_extractor(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let (x, which) = (features(cx)?, cx.input(1)?);
    let (shape, count) = (cx.shape(x), cx.elements(which));
    let Some((width, outer)) = shape.split_last() else {
        return Err(Halt::shape("features must have a dimension"));
    };
    cx.expect_type(which, |dtype| dtype == DType::I64, "i64")?;
    let which = cx.checked(which, 1, CheckKind::Index, 0, *width as i64)?;
    let which = cx.reshape(which, &[count])?;
    let y = cx.gather(x, which, outer.len())?;
    match outer {
        // A vector is one row.
        [] => one(cx.reshape(y, &[1, count])),
        _ => Ok(vec![y]),
    }
}
