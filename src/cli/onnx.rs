//! ONNX files on the command line: dimensions that the model leaves open are bound, and whether it is one program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use nestjit::onnx::{Dim, InputKind, InputSpec, MAX_OPSET, OnnxModel};
use nestjit::{Compiler, Error, Item, Model, Result, Session, Tensor, TensorSpec, zoo};

use super::args::GivenArgs;
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

/// The built-in model of this name, or the model in an ONNX file: for the shapes of the inputs and the extents that are
/// given. What exists is a file, whatever its name; what has a separator must be one.
pub(crate) fn load(model: &str, given: &GivenArgs) -> Result<Loaded> {
    let path = Path::new(model);
    let is_path = model.ends_with(".onnx") || model.contains(std::path::is_separator);
    if !is_path && (!path.exists() || path.is_dir()) {
        if let Some((name, _)) = given.dims.first() {
            return Err(no_dimension(name, &[]));
        }
        return Ok(Loaded::Graph(zoo::build(model)?));
    }
    let onnx = OnnxModel::from_path(model)?;
    let version = onnx.opset("").unwrap_or_default();
    if version > MAX_OPSET {
        once(&format!(
            "the model is for operator set {version}; {MAX_OPSET} is the newest that is known, so that operators are \
             taken to be what they are there"
        ));
    }
    let (mut inputs, random) = inputs(&onnx, given)?;
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
pub(crate) fn load_graph(model: &str, given: &GivenArgs) -> Result<Model> {
    match load(model, given)? {
        Loaded::Graph(model) => Ok(model),
        Loaded::Parts(_) => Err(Error::unsupported(format!(
            "'{}' is not one program: shapes in it depend on data, or conditions decide what is computed",
            model.escape_debug()
        ))),
    }
}

fn no_dimension(name: &str, specs: &[InputSpec]) -> Error {
    let mut known: Vec<String> = Vec::new();
    for spec in specs {
        for (d, dim) in spec.dims.iter().flatten().enumerate() {
            match dim {
                Dim::Fixed(_) => {}
                Dim::Symbol(symbol) => known.push(symbol.clone()),
                Dim::Unknown => known.push(place(spec, d)),
            }
        }
    }
    let mut seen = BTreeSet::new();
    known.retain(|name| seen.insert(name.clone()));
    Error::unknown_name("open dimension", name, "there is", known.iter().map(String::as_str))
}

/// A dimension without a name, as `--dim` takes it.
fn place(spec: &InputSpec, d: usize) -> String {
    format!("{}[{d}]", spec.name)
}

/// What is known of open dimensions before the model is imported.
#[derive(Default)]
struct Bound<'m> {
    symbols: BTreeMap<&'m str, usize>,
    /// By input and dimension.
    places: BTreeMap<(usize, usize), usize>,
}

impl<'m> Bound<'m> {
    /// From what `--dim` says.
    fn new(specs: &'m [InputSpec], dims: &[(String, usize)]) -> Result<Bound<'m>> {
        let mut bound = Bound::default();
        for (name, extent) in dims {
            let symbols = specs.iter().flat_map(|spec| spec.dims.iter().flatten());
            let symbol = symbols
                .filter_map(|dim| if let Dim::Symbol(symbol) = dim { Some(symbol.as_str()) } else { None })
                .find(|symbol| symbol == name);
            if let Some(symbol) = symbol {
                bound.bind(symbol, *extent, name)?;
                continue;
            }
            let places = specs.iter().enumerate().flat_map(|(i, spec)| {
                spec.dims.iter().flatten().enumerate().map(move |(d, dim)| (i, d, dim, place(spec, d)))
            });
            let Some((input, d, dim, _)) = places.into_iter().find(|(.., place)| place == name) else {
                return Err(no_dimension(name, specs));
            };
            match dim {
                Dim::Fixed(declared) if declared != extent => {
                    let name = name.escape_debug();
                    return Err(Error::usage(format!(
                        "--dim {name}={extent}: it is {declared} in the model"
                    )));
                }
                Dim::Symbol(symbol) => bound.bind(symbol, *extent, name)?,
                Dim::Fixed(_) | Dim::Unknown => drop(bound.places.insert((input, d), *extent)),
            }
        }
        Ok(bound)
    }

    fn bind(&mut self, symbol: &'m str, extent: usize, said: &str) -> Result<()> {
        match self.symbols.insert(symbol, extent).filter(|other| *other != extent) {
            None => Ok(()),
            Some(other) => {
                let (symbol, said) = (symbol.escape_debug(), said.escape_debug());
                Err(Error::usage(format!("--dim {said}={extent}: '{symbol}' is {other} already")))
            }
        }
    }

    /// What a file for an input says. What contradicts a declaration is found when the model is imported.
    fn read(&mut self, input: usize, spec: &'m InputSpec, shape: &[usize]) -> Result<()> {
        for (d, (dim, extent)) in spec.dims.iter().flatten().zip(shape).enumerate() {
            if let Dim::Symbol(symbol) = dim {
                self.symbols.entry(symbol).or_insert(*extent);
            }
            if let Some(said) = self.places.get(&(input, d)).filter(|said| *said != extent) {
                let place = place(spec, d);
                let place = place.escape_debug();
                return Err(Error::usage(format!(
                    "--dim {place}={said}: the file for the input has {extent}"
                )));
            }
        }
        Ok(())
    }
}

/// The inputs of a model, and the names of those for which there is no file; they are zeros here.
fn inputs(model: &OnnxModel, given: &GivenArgs) -> Result<(Vec<Item>, Vec<String>)> {
    let specs = model.inputs();
    let mut tensors: Vec<Option<Tensor>> = vec![None; specs.len()];
    for (name, file) in &given.inputs {
        let names = || specs.iter().map(|spec| spec.name.as_str());
        let Some(at) = names().position(|input| input == name) else {
            return Err(Error::unknown_name("input", name, "there is", names()));
        };
        if tensors[at].replace(npy::read(file, specs[at].dtype)?).is_some() {
            return Err(Error::usage(format!("input '{}' is given twice", name.escape_debug())));
        }
    }
    let mut bound = Bound::new(specs, &given.dims)?;
    for (i, (spec, tensor)) in specs.iter().zip(&tensors).enumerate() {
        bound.read(i, spec, tensor.as_ref().map_or(&[], Tensor::shape))?;
    }
    let (mut items, mut random, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (spec, tensor)) in specs.iter().zip(tensors).enumerate() {
        items.push(Item::Tensor(match tensor {
            Some(tensor) => tensor,
            None => {
                random.push(spec.name.clone());
                Tensor::zeros(spec.dtype, &shape(i, spec, &bound, &mut open)?)?
            }
        }));
    }
    if !open.is_empty() {
        open.dedup();
        let open = open.join(", ");
        once(&format!("the model leaves these dimensions open, {DEFAULT} is taken: {open}"));
    }
    Ok((items, random))
}

/// The shape of an input for which there is no file; `open` gets the dimensions that nothing decides.
fn shape(input: usize, spec: &InputSpec, bound: &Bound<'_>, open: &mut Vec<String>) -> Result<Vec<usize>> {
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
        Dim::Symbol(symbol) => bound.symbols.get(symbol.as_str()).copied().unwrap_or_else(|| {
            open.push(format!("'{}' (--dim {0}=N)", symbol.escape_debug()));
            DEFAULT
        }),
        Dim::Unknown => bound.places.get(&(input, d)).copied().unwrap_or_else(|| {
            open.push(format!("number {d} of input '{name}' (--dim '{name}[{d}]=N')"));
            DEFAULT
        }),
    };
    Ok(dims.iter().enumerate().map(extent).collect())
}

/// Says what was decided, once for each sentence, however often a command loads the model.
fn once(sentence: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let new = SAID.lock().is_ok_and(|mut said| said.insert(sentence.to_owned()));
    if new {
        complain(sentence);
    }
}
