//! ONNX files on the command line: dimensions that the model leaves open are bound, and whether it is one program.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Once;

use nestjit::onnx::{Dim, InputKind, InputSpec, OnnxModel};
use nestjit::{Compiler, Error, Item, Model, Result, Session, Tensor, TensorSpec, zoo};

use super::{complain, npy, session};

/// The extent of a dimension that is left open.
const DEFAULT: usize = 1;

/// A model that was loaded.
pub(crate) enum Loaded {
    /// One graph, for the shapes at hand.
    Graph(Model),
    /// A model that only a session can run.
    Parts(Parts),
}

/// A model with shapes that depend on data, or with control flow, and its inputs.
pub(crate) struct Parts {
    pub(crate) path: String,
    pub(crate) inputs: Vec<Item>,
    /// The names of inputs that are random because no file was given.
    pub(crate) random: Vec<String>,
    /// The names of the outputs.
    pub(crate) outputs: Vec<String>,
}

impl Parts {
    /// A session that compiles it.
    pub(crate) fn session(&self, compiler: Compiler) -> Result<Session> {
        Session::from_onnx(&self.path, compiler)
    }

    /// A session that evaluates it.
    pub(crate) fn reference(&self) -> Result<Session> {
        Ok(Session::reference(OnnxModel::from_path(&self.path)?))
    }
}

/// The built-in model of this name, or the model in an ONNX file: for the shapes of the inputs in `files`, and the
/// extents in `dims`.
pub(crate) fn load(model: &str, dims: &[(String, usize)], files: &[(String, PathBuf)]) -> Result<Loaded> {
    if !model.ends_with(".onnx") {
        if let Some((name, _)) = dims.first() {
            return Err(no_dimension(name, &BTreeMap::new()));
        }
        return Ok(Loaded::Graph(zoo::build(model)?));
    }
    let onnx = OnnxModel::from_path(model)?;
    let (mut inputs, random) = inputs(&onnx, dims, files)?;
    let ports: Vec<String> = onnx.inputs().iter().map(|spec| spec.name.clone()).collect();
    let outputs = onnx.outputs().map(str::to_owned).collect();
    let s = Session::new(onnx, Compiler::new());
    match s.graph(&inputs, &random)? {
        Some(graph) => Ok(Loaded::Graph(graph)),
        None => {
            for (i, (item, name)) in inputs.iter_mut().zip(ports).enumerate() {
                if let (Item::Tensor(tensor), true) = (&*item, random.contains(&name)) {
                    let port = TensorSpec { name, dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
                    *item = Item::Tensor(session::random(&port, i as u64)?);
                }
            }
            Ok(Loaded::Parts(Parts { path: model.to_owned(), inputs, random, outputs }))
        }
    }
}

/// As [`load`], where nothing but one graph will do.
pub(crate) fn load_graph(model: &str, dims: &[(String, usize)]) -> Result<Model> {
    match load(model, dims, &[])? {
        Loaded::Graph(model) => Ok(model),
        Loaded::Parts(_) => Err(Error::unsupported(format!(
            "'{}' is not one program: shapes in it depend on data, or conditions decide what is computed",
            model.escape_debug()
        ))),
    }
}

fn no_dimension(name: &str, known: &BTreeMap<&str, usize>) -> Error {
    let names: Vec<String> = known.keys().map(|name| format!("'{}'", name.escape_debug())).collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::usage(format!("there is no symbolic dimension '{}'; there is {there}", name.escape_debug()))
}

/// The inputs of a model, and the names of those for which there is no file; they are zeros here.
fn inputs(
    model: &OnnxModel,
    dims: &[(String, usize)],
    files: &[(String, PathBuf)],
) -> Result<(Vec<Item>, Vec<String>)> {
    let specs = model.inputs();
    let mut given: Vec<Option<Tensor>> = vec![None; specs.len()];
    for (name, file) in files {
        let Some(at) = specs.iter().position(|spec| spec.name == *name) else {
            let names: Vec<String> = specs.iter().map(|s| format!("'{}'", s.name.escape_debug())).collect();
            let name = name.escape_debug();
            return Err(Error::usage(format!("there is no input '{name}'; there is {}", names.join(", "))));
        };
        if given[at].replace(npy::read(file, specs[at].dtype)?).is_some() {
            return Err(Error::usage(format!("input '{}' is given twice", name.escape_debug())));
        }
    }
    let mut bound: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for symbol in specs.iter().flat_map(|spec| spec.dims.iter().flatten()) {
        if let Dim::Symbol(name) = symbol {
            bound.entry(name).or_default();
        }
    }
    for (name, extent) in dims {
        match bound.get_mut(name.as_str()) {
            Some(place) => *place = Some(*extent),
            None => {
                let known = bound.keys().map(|name| (*name, 0)).collect();
                return Err(no_dimension(name, &known));
            }
        }
    }
    // What contradicts a declaration is found when the model is imported.
    for (spec, tensor) in specs.iter().zip(&given) {
        let shape = tensor.as_ref().map_or(&[][..], Tensor::shape);
        for (dim, extent) in spec.dims.iter().flatten().zip(shape) {
            if let Dim::Symbol(name) = dim {
                let place = bound.entry(name).or_default();
                *place = place.or(Some(*extent));
            }
        }
    }
    let (mut items, mut random, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for (spec, tensor) in specs.iter().zip(given) {
        items.push(Item::Tensor(match tensor {
            Some(tensor) => tensor,
            None => {
                random.push(spec.name.clone());
                Tensor::zeros(spec.dtype, &shape(spec, &bound, &mut open)?)?
            }
        }));
    }
    remark(&open);
    Ok((items, random))
}

/// The shape of an input for which there is no file; `open` gets the dimensions that nothing decides.
fn shape(
    spec: &InputSpec,
    bound: &BTreeMap<&str, Option<usize>>,
    open: &mut Vec<String>,
) -> Result<Vec<usize>> {
    let name = spec.name.escape_debug();
    if spec.kind != InputKind::Tensor {
        let message =
            format!("input '{name}' is a sequence or an optional value, which only the library can give");
        return Err(Error::unsupported(message));
    }
    let Some(dims) = &spec.dims else {
        let message =
            format!("the model does not tell the shape of the input '{name}': give it with --input");
        return Err(Error::usage(message));
    };
    let extent = |(d, dim): (usize, &Dim)| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Symbol(symbol) => bound.get(symbol.as_str()).copied().flatten().unwrap_or_else(|| {
            open.push(format!("'{}' (--dim {0}=N)", symbol.escape_debug()));
            DEFAULT
        }),
        Dim::Unknown => {
            open.push(format!("number {d} of input '{name}'"));
            DEFAULT
        }
    };
    Ok(dims.iter().enumerate().map(extent).collect())
}

/// Says once, however often a command loads the model, what was decided.
fn remark(open: &[String]) {
    static ONCE: Once = Once::new();
    let mut open = open.to_vec();
    open.dedup();
    if !open.is_empty() {
        ONCE.call_once(|| {
            complain(&format!(
                "the model leaves these dimensions open, {DEFAULT} is taken: {}",
                open.join(", ")
            ));
        });
    }
}
