//! Inputs of a call: in order or with their names, borrowed wherever that is possible. Whether they are what a model
//! takes is found out by who runs it.

use ndarray::{ArrayBase, Data, Dimension};
use nestjit_ir::DType;

use super::view::TensorView;
use crate::error::{Error, Result};
use crate::host::Item;
use crate::tensor::{Element, Tensor};

/// An input of a call: a [`Tensor`], an `ndarray` array or view, a [`TensorView`] or an [`Item`]; in a pair with its
/// name, or in the order of the model's inputs. Calls take slices of whatever is [`AsInput`]; where the
/// types of inputs differ, of `Input`s or `&dyn AsInput`.
///
/// Nothing is copied but arrays and views of `ndarray` that are not in standard layout.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) value: Value<'a>,
}

/// What is passed to, through and out of a call.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    /// A tensor of the caller's.
    View(TensorView<'a>),
    Item(Item),
    /// A tensor of which only type and shape are known.
    Unknown(DType, Vec<usize>),
}

impl<'a> Value<'a> {
    /// Type and shape, if it is a tensor.
    pub fn port(&self) -> Option<(DType, &[usize])> {
        match self {
            Value::View(view) => Some((view.dtype(), view.shape())),
            Value::Item(Item::Tensor(tensor)) => Some((tensor.dtype(), tensor.shape())),
            Value::Item(Item::Sequence(_) | Item::Absent) => None,
            Value::Unknown(dtype, shape) => Some((*dtype, shape)),
        }
    }

    /// Whether it is this tensor, bit by bit.
    pub fn is_tensor(&self, other: &Tensor) -> bool {
        let same = |bytes: Result<&[u8]>| bytes.is_ok_and(|b| other.bytes().is_ok_and(|o| b == o));
        self.port() == Some((other.dtype(), other.shape()))
            && match self {
                Value::View(view) => same(view.bytes()),
                Value::Item(Item::Tensor(tensor)) => same(tensor.bytes()),
                Value::Item(Item::Sequence(_) | Item::Absent) | Value::Unknown(..) => false,
            }
    }

    /// The tensor that this is, borrowed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if it is none, [`crate::ErrorKind::Usage`] if its elements are not known.
    pub fn view(&self) -> Result<TensorView<'_>> {
        match self {
            Value::View(view) => Ok(TensorView::from(view)),
            Value::Item(item) => Ok(TensorView::from(item.tensor()?)),
            Value::Unknown(..) => Err(unknown()),
        }
    }

    /// The tensor that this is.
    ///
    /// # Errors
    /// As [`Value::view`].
    pub fn into_view(self) -> Result<TensorView<'a>> {
        match self {
            Value::View(view) => Ok(view),
            Value::Item(item) => Ok(TensorView::owned(item.tensor()?.clone())),
            Value::Unknown(..) => Err(unknown()),
        }
    }

    /// The same, owned. Tensors share their elements, those of other arrays are copied.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is no memory for a copy, [`crate::ErrorKind::Usage`] if the elements are
    /// not known.
    pub fn to_item(&self) -> Result<Item> {
        match self {
            Value::View(view) => view.to_tensor().map(Item::Tensor),
            Value::Item(item) => Ok(item.clone()),
            Value::Unknown(..) => Err(unknown()),
        }
    }
}

fn unknown() -> Error {
    Error::usage("the elements of a tensor are needed, and only its shape is known")
}

impl<'a> Input<'a> {
    fn in_order(value: Value<'a>) -> Input<'a> {
        Input { name: None, value }
    }
}

/// What may be an input of a call: see [`Input`].
pub trait AsInput {
    /// The input that this is, borrowed.
    fn as_input(&self) -> Input<'_>;
}

impl AsInput for Tensor {
    fn as_input(&self) -> Input<'_> {
        Input::in_order(Value::View(self.into()))
    }
}

impl AsInput for TensorView<'_> {
    fn as_input(&self) -> Input<'_> {
        Input::in_order(Value::View(self.into()))
    }
}

impl AsInput for Item {
    fn as_input(&self) -> Input<'_> {
        Input::in_order(match self {
            Item::Tensor(tensor) => Value::View(tensor.into()),
            Item::Sequence(_) | Item::Absent => Value::Item(self.clone()),
        })
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> AsInput for ArrayBase<S, D> {
    fn as_input(&self) -> Input<'_> {
        Input::in_order(Value::View(self.into()))
    }
}

impl AsInput for Input<'_> {
    fn as_input(&self) -> Input<'_> {
        let value = match &self.value {
            Value::View(view) => Value::View(view.into()),
            Value::Item(item) => Value::Item(item.clone()),
            Value::Unknown(dtype, shape) => Value::Unknown(*dtype, shape.clone()),
        };
        Input { name: self.name, value }
    }
}

impl<V: AsInput + ?Sized> AsInput for &V {
    fn as_input(&self) -> Input<'_> {
        (**self).as_input()
    }
}

/// With its name.
impl<N: AsRef<str>, V: AsInput> AsInput for (N, V) {
    fn as_input(&self) -> Input<'_> {
        Input { name: Some(self.0.as_ref()), ..self.1.as_input() }
    }
}

/// For each of the inputs that there are, which of those given it is. In order if none has a name, and otherwise by
/// name; those that `may_miss` need not be given.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if there are no such names, or not all of them are given;
/// [`crate::ErrorKind::Shape`] if the number is wrong.
pub(crate) fn arrange<'n>(
    names: &[&str],
    given: impl ExactSizeIterator<Item = Option<&'n str>>,
    may_miss: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let count = given.len();
    let given: Vec<Option<&str>> = given.collect();
    if given.iter().all(Option::is_none) {
        if count != names.len() {
            let plural = if names.len() == 1 { "" } else { "s" };
            let message = format!(
                "the model has {} input{plural} ({}), but {count} were given",
                names.len(),
                list(names)
            );
            return Err(Error::shape(message));
        }
        return Ok((0..count).map(Some).collect());
    }
    let mut places = vec![None; names.len()];
    for (number, name) in given.into_iter().enumerate() {
        let Some(name) = name else {
            return Err(Error::usage(format!(
                "input number {number} is given without a name, others with theirs"
            )));
        };
        let shown = name.escape_debug();
        let Some(place) = names.iter().position(|other| *other == name) else {
            return Err(Error::unknown_name("input", name, "there is", names.iter().copied()));
        };
        if places[place].replace(number).is_some() {
            return Err(Error::usage(format!("input '{shown}' is given twice")));
        }
    }
    let missing = names.iter().enumerate().filter(|(i, _)| places[*i].is_none() && !may_miss(*i));
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(Error::usage(format!("not given: input {}", list(&missing))));
    }
    Ok(places)
}

/// Names for a message.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("'{}'", name.escape_debug())).collect::<Vec<_>>().join(", "),
    }
}

/// The positions of outputs that were chosen by name.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if there is no output of a name, if one is chosen twice, or none at all.
pub(crate) fn choose(names: &[&str], chosen: &[String]) -> Result<Vec<usize>> {
    if chosen.is_empty() {
        return Err(Error::usage(format!("no output is chosen; there is {}", list(names))));
    }
    let mut places = Vec::with_capacity(chosen.len());
    for name in chosen {
        let shown = name.escape_debug();
        let Some(place) = names.iter().position(|other| other == name) else {
            return Err(Error::unknown_name("output", name, "there is", names.iter().copied()));
        };
        if places.contains(&place) {
            return Err(Error::usage(format!("output '{shown}' is chosen twice")));
        }
        places.push(place);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn arranged(given: &[Option<&str>]) -> Result<Vec<Option<usize>>> {
        arrange(&["a", "b", "c"], given.iter().copied(), |i| i == 2)
    }

    #[test]
    fn inputs_are_found_by_position_or_by_name() {
        assert_eq!(arranged(&[None; 3]).unwrap(), [Some(0), Some(1), Some(2)]);
        assert_eq!(arranged(&[Some("c"), Some("b"), Some("a")]).unwrap(), [Some(2), Some(1), Some(0)]);
        assert_eq!(arranged(&[Some("b"), Some("a")]).unwrap(), [Some(1), Some(0), None]);
        let error = |given: &[Option<&str>]| {
            let error = arranged(given).unwrap_err();
            (error.kind(), error.to_string())
        };
        assert_eq!(
            error(&[None; 2]),
            (ErrorKind::Shape, "the model has 3 inputs ('a', 'b', 'c'), but 2 were given".to_owned())
        );
        for (given, message) in [
            (&[Some("a"), None][..], "input number 1 is given without a name, others with theirs"),
            (&[Some("d")], "there is no input 'd'; there is 'a', 'b', 'c'"),
            (&[Some("a"), Some("a")], "input 'a' is given twice"),
            (&[Some("c")], "not given: input 'a', 'b'"),
        ] {
            assert_eq!(error(given), (ErrorKind::Usage, message.to_owned()));
        }
    }

    #[test]
    fn outputs_are_chosen_once() {
        let choice = |chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|&name| name.to_owned()).collect();
            choose(&["y", "z"], &chosen).map_err(|e| e.to_string())
        };
        assert_eq!(choice(&["z", "y"]), Ok(vec![1, 0]));
        assert_eq!(choice(&[]), Err("no output is chosen; there is 'y', 'z'".to_owned()));
        assert_eq!(choice(&["x"]), Err("there is no output 'x'; there is 'y', 'z'".to_owned()));
        assert_eq!(choice(&["y", "y"]), Err("output 'y' is chosen twice".to_owned()));
    }
}
