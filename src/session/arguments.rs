//! What a session is given: inputs by position or name, or only their shapes, checked against what the model declares.

use super::Session;
use crate::error::{Error, Result};
use crate::host::Item;
use crate::onnx::{InputKind, InputSpec};
use crate::runtime::input::{Value, arrange};
use crate::runtime::{AsInput, Input};

/// The shape of an input, for [`Session::warm_up`]: an array, slice or `Vec` of extents, in a pair with the input's name
/// or in the order of the model's inputs.
#[derive(Clone, Copy, Debug)]
pub struct InputShape<'a> {
    name: Option<&'a str>,
    shape: &'a [usize],
}

/// What may be the shape of an input: see [`InputShape`].
pub trait AsInputShape {
    /// The shape that this is, borrowed.
    fn as_input_shape(&self) -> InputShape<'_>;
}

impl AsInputShape for [usize] {
    fn as_input_shape(&self) -> InputShape<'_> {
        InputShape { name: None, shape: self }
    }
}

impl<const N: usize> AsInputShape for [usize; N] {
    fn as_input_shape(&self) -> InputShape<'_> {
        InputShape { name: None, shape: self }
    }
}

impl AsInputShape for Vec<usize> {
    fn as_input_shape(&self) -> InputShape<'_> {
        InputShape { name: None, shape: self }
    }
}

impl<S: AsInputShape + ?Sized> AsInputShape for &S {
    fn as_input_shape(&self) -> InputShape<'_> {
        (**self).as_input_shape()
    }
}

/// With the name of its input.
impl<N: AsRef<str>, S: AsInputShape> AsInputShape for (N, S) {
    fn as_input_shape(&self) -> InputShape<'_> {
        InputShape { name: Some(self.0.as_ref()), ..self.1.as_input_shape() }
    }
}

impl Session {
    /// The inputs in the model's order. Optional ones that are not named are absent.
    pub(super) fn arguments<'a, T: AsInput>(&self, inputs: &'a [T]) -> Result<Vec<Value<'a>>> {
        let (mut names, mut values) = (Vec::new(), Vec::with_capacity(inputs.len()));
        for (number, Input { name, value }) in inputs.iter().map(T::as_input).enumerate() {
            if name.is_some() {
                names.resize(number, None);
                names.push(name);
            }
            values.push(value);
        }
        // In order, as many as there are: nothing to look for.
        if !names.is_empty() || values.len() != self.inputs().len() {
            names.resize(values.len(), None);
            values = self.in_order(&names, values)?;
        }
        self.inputs().iter().zip(&values).try_for_each(|(spec, value)| check(spec, value))?;
        Ok(values)
    }

    /// Inputs of which only the shapes are known.
    pub(super) fn shapes<'a, S: AsInputShape>(&self, shapes: &'a [S]) -> Result<Vec<Value<'a>>> {
        let shapes: Vec<InputShape<'a>> = shapes.iter().map(S::as_input_shape).collect();
        let names: Vec<Option<&str>> = shapes.iter().map(|shape| shape.name).collect();
        let specs = self.inputs();
        let given = self.places(&names)?;
        let value = |(spec, place): (&InputSpec, Option<usize>)| match place {
            Some(number) => Value::Unknown(spec.dtype, shapes[number].shape.to_vec()),
            None => Value::Item(Item::Absent),
        };
        let values: Vec<Value<'a>> = specs.iter().zip(given).map(value).collect();
        for (spec, value) in specs.iter().zip(&values) {
            check(spec, value)?;
        }
        Ok(values)
    }

    fn in_order<'a>(&self, names: &[Option<&str>], values: Vec<Value<'a>>) -> Result<Vec<Value<'a>>> {
        let places = self.places(names)?;
        if places.iter().copied().eq((0..values.len()).map(Some)) {
            return Ok(values);
        }
        let place =
            |place: Option<usize>| place.map_or(Value::Item(Item::Absent), |number| values[number].clone());
        Ok(places.into_iter().map(place).collect())
    }

    fn places(&self, names: &[Option<&str>]) -> Result<Vec<Option<usize>>> {
        let specs = self.inputs();
        let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        arrange(&known, names.iter().copied(), |number| specs[number].kind == InputKind::Optional)
    }
}

/// Whether an input is of the kind and the element type that the model declares.
fn check(spec: &InputSpec, value: &Value<'_>) -> Result<()> {
    let name = spec.name.escape_debug();
    let kind = match value {
        Value::View(_) | Value::Unknown(..) | Value::Item(Item::Tensor(_)) => InputKind::Tensor,
        Value::Item(Item::Sequence(_)) => InputKind::Sequence,
        Value::Item(Item::Absent) => InputKind::Optional,
    };
    if kind != spec.kind && spec.kind != InputKind::Optional {
        let wanted = if spec.kind == InputKind::Tensor { "a tensor" } else { "a sequence" };
        return Err(Error::shape(format!("input '{name}' must be {wanted}")));
    }
    let other = match value {
        Value::Item(Item::Sequence(list)) => {
            list.iter().map(|t| t.dtype()).find(|dtype| *dtype != spec.dtype)
        }
        value => value.port().map(|(dtype, _)| dtype).filter(|dtype| *dtype != spec.dtype),
    };
    match other {
        Some(found) => Err(Error::shape(format!("input '{name}' is {}, but {found} was given", spec.dtype))),
        None => Ok(()),
    }
}
