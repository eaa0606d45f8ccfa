//! The ends of an import: shapes of inputs, with symbols bound, and outputs with the model's names.

use std::collections::BTreeMap;

use super::super::limit;
use super::super::model::{Dim, InputKind, InputSpec};
use super::super::scope::{Binding, Scope};
use super::super::sink::{GraphSink, Origin};
use super::{Importer, Specialization};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

impl Importer<'_> {
    /// Makes the graph's inputs.
    pub fn interface(&self, sink: &mut GraphSink, scope: &mut Scope<'_>, specialization: &Specialization) {
        let mut dims = specialization.dims.clone();
        for (names, what) in [
            (specialization.shapes.keys().collect::<Vec<_>>(), "shape"),
            (specialization.values.keys().collect(), "value"),
        ] {
            for name in names {
                if !self.model.inputs.iter().any(|i| i.name == *name) {
                    let message =
                        format!("a {what} is given for '{}', which is no input", name.escape_debug());
                    sink.problems.push(Error::usage(message));
                }
            }
        }
        for input in &self.model.inputs {
            let value = specialization.values.get(&input.name);
            if input.kind != InputKind::Tensor {
                let given = value.is_some() || specialization.shapes.contains_key(&input.name);
                if !sink.is_staged() {
                    let name = input.name.escape_debug();
                    let what =
                        if input.kind == InputKind::Sequence { "a sequence" } else { "an optional value" };
                    sink.problems.push(Error::unsupported(format!(
                        "input '{name}' is {what}: only a session can run this model"
                    )));
                }
                if !given {
                    if !sink.is_staged() {
                        scope.names.insert(input.name.clone(), Binding::Broken);
                    }
                    continue;
                }
            }
            let given =
                value.map(Tensor::shape).or(specialization.shapes.get(&input.name).map(Vec::as_slice));
            let shape = input_shape(input, given, &mut dims).and_then(|shape| {
                limit::check(input.dtype, &shape)?;
                Ok(shape)
            });
            let Some(shape) = sink.problems.keep(shape) else {
                scope.names.insert(input.name.clone(), Binding::Broken);
                continue;
            };
            let id = sink.input(&input.name, input.dtype, &shape);
            let read = match value {
                Some(value) if value.dtype() != input.dtype => {
                    let name = input.name.escape_debug();
                    sink.problems.push(Error::shape(format!(
                        "input '{name}' is {}, but its value is {}",
                        input.dtype,
                        value.dtype()
                    )));
                    id
                }
                Some(value) => sink.constant(&input.name, value.clone()),
                None => id,
            };
            let read = match input.nibble {
                Some(nibble) => {
                    let number = sink.low_bits(Origin { name: &input.name, place: None }, read, nibble);
                    sink.problems.keep(number).unwrap_or(read)
                }
                None => read,
            };
            scope.names.insert(input.name.clone(), Binding::Value(read));
        }
    }

    /// Makes the graph's outputs. What has another name, or is an output already, is copied.
    pub fn outputs(&self, sink: &mut GraphSink, scope: &Scope<'_>, outputs: &[&str]) {
        for &output in outputs {
            let id = match scope.get(output) {
                Some(Binding::Value(id)) => id,
                Some(_) => continue,
                None => {
                    sink.problems.push(self.undefined_output(output));
                    continue;
                }
            };
            // An input stays one if its value is known.
            let input = sink.graph.inputs.iter().find(|input| sink.graph.value(**input).name == output);
            let id = input.copied().unwrap_or(id);
            sink.output(id, output);
        }
    }

    /// Why no output has this name.
    pub fn undefined_output(&self, name: &str) -> Error {
        match self.model.initializers.get(name) {
            Some(Err(e)) => e.clone(),
            _ => Error::invalid(format!("nothing makes the output '{}'", name.escape_debug())),
        }
    }
}

/// The shape of an input: as declared, with symbols bound by what is given.
fn input_shape(
    input: &InputSpec,
    given: Option<&[usize]>,
    dims: &mut BTreeMap<String, usize>,
) -> Result<Vec<usize>> {
    let name = input.name.escape_debug();
    let Some(declared) = &input.dims else {
        let message = format!("input '{name}' has no shape in the model: one must be given");
        return given.map(<[usize]>::to_vec).ok_or_else(|| Error::shape(message));
    };
    if let Some(given) = given
        && given.len() != declared.len()
    {
        let rank = declared.len();
        return Err(Error::shape(format!("input '{name}' has rank {rank}, but {given:?} was given")));
    }
    let mut shape = Vec::with_capacity(declared.len());
    for (d, dim) in declared.iter().enumerate() {
        let given = given.map(|g| g[d]);
        let symbol = || match dim {
            Dim::Symbol(s) => format!(" ('{}')", s.escape_debug()),
            Dim::Fixed(_) | Dim::Unknown => String::new(),
        };
        let bound = match dim {
            Dim::Fixed(extent) => Some(*extent),
            Dim::Symbol(symbol) => dims.get(symbol).copied(),
            Dim::Unknown => None,
        };
        let extent = match (bound, given) {
            (Some(bound), Some(given)) if bound != given => {
                return Err(Error::shape(format!(
                    "dimension {d}{} of input '{name}' is {bound}, but {given} was given",
                    symbol()
                )));
            }
            (Some(extent), _) | (None, Some(extent)) => extent,
            (None, None) => {
                return Err(Error::shape(format!(
                    "dimension {d}{} of input '{name}' is not known: a shape must be given",
                    symbol()
                )));
            }
        };
        if let Dim::Symbol(symbol) = dim {
            dims.insert(symbol.clone(), extent);
        }
        shape.push(extent);
    }
    Ok(shape)
}
