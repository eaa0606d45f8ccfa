//! Loads a model: a built-in one, or an ONNX file, which is opened once. Its inputs are files or random values, and
//! dimensions that it leaves open are bound. What is done with it, sessions do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use nestjit::onnx::{Dim, InputKind, InputSpec, MAX_OPSET, OnnxModel};
use nestjit::{Compiler, Error, Item, Result, Session, SessionModel, Tensor, zoo};

use super::args::GivenArgs;
use super::{complain, npy, progress, tensors};

/// The extent of a dimension that is left open.
const DEFAULT: usize = 1;

/// A model, and inputs for it.
pub(crate) struct LoadedModel {
    pub(crate) model: SessionModel,
    pub(crate) inputs: Vec<Item>,
    /// The names of inputs that are random because no file was given.
    pub(crate) random: Vec<String>,
    /// How long it took to read or to build the model, the inputs not included, in milliseconds.
    pub(crate) load_ms: f64,
}

impl LoadedModel {
    /// The built-in model of this name, or the model in an ONNX file, with the inputs and the extents that are given. What
    /// exists is a file, whatever its name; what has a separator must be one.
    pub(crate) fn load(name: &str, given: &GivenArgs) -> Result<LoadedModel> {
        let start = Instant::now();
        let model = progress::during("loading", || open(name))?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        let (inputs, random) = inputs(&model, given)?;
        Ok(LoadedModel { model, inputs, random, load_ms })
    }

    /// A session that compiles it.
    pub(crate) fn session(&self, compiler: Compiler) -> Session {
        Session::new(self.model.clone(), compiler).arbitrary_inputs(&self.random)
    }

    /// A session that evaluates it.
    pub(crate) fn reference(&self) -> Session {
        Session::reference(self.model.clone()).arbitrary_inputs(&self.random)
    }

    /// The outputs of a call with their names, as tensors: those of sequences are numbered.
    pub(crate) fn named(&self, outputs: Vec<Item>) -> Vec<(String, Tensor)> {
        let mut named = Vec::with_capacity(outputs.len());
        for (name, item) in self.model.outputs().zip(outputs) {
            if let Item::Tensor(tensor) = item {
                named.push((name.to_owned(), tensor));
            } else {
                let numbered = item.tensors().iter().enumerate();
                named.extend(numbered.map(|(i, tensor)| (format!("{name}.{i}"), tensor.clone())));
            }
        }
        named
    }
}

/// The built-in model of this name, or the model in an ONNX file. What exists is a file, whatever its name; what has a
/// separator must be one.
pub(crate) fn open(name: &str) -> Result<SessionModel> {
    if is_nests(name) {
        let name = name.escape_debug();
        return Err(Error::usage(format!(
            "'{name}' is a file of loop nests by its name, which `nestjit ir` takes and no other command"
        )));
    }
    let path = Path::new(name);
    let is_path = name.ends_with(".onnx") || name.contains(std::path::is_separator);
    Ok(match is_path || (path.exists() && !path.is_dir()) {
        true => {
            let onnx = OnnxModel::from_path(path)?;
            remark_on_version(&onnx);
            SessionModel::from(onnx)
        }
        false => SessionModel::from(zoo::build(name)?),
    })
}

/// Whether a file of this name has loop nests instead of a model.
pub(crate) fn is_nests(name: &str) -> bool {
    name.ends_with(".nest")
}

/// Says what should be done about the calls of a session, if anything.
pub(crate) fn remark(session: &Session) {
    if let Some(remark) = session.timings().remark() {
        complain(&remark);
    }
}

fn remark_on_version(model: &OnnxModel) {
    let version = model.opset("").unwrap_or_default();
    if version > MAX_OPSET {
        complain(&format!(
            "the model is for operator set {version}; {MAX_OPSET} is the newest that is known, so that operators are \
             taken to be what they are there"
        ));
    }
}

fn no_dimension(name: &str, specs: &[InputSpec]) -> Error {
    let known = open_dimensions(specs);
    Error::unknown_name("open dimension", name, "there is", known.iter().map(String::as_str))
}

/// What `--dim` takes, in order, none twice.
pub(crate) fn open_dimensions(specs: &[InputSpec]) -> Vec<String> {
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
    known
}

/// A dimension without a name, as `--dim` takes it.
fn place(spec: &InputSpec, d: usize) -> String {
    format!("{}[{d}]", spec.name)
}

/// What is known of open dimensions before the model is imported.
#[derive(Default)]
struct Bound<'m> {
    symbols: BTreeMap<&'m str, usize>,
    /// Those of them that `--dim` says.
    said: BTreeMap<&'m str, usize>,
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
                Dim::Fixed(_) | Dim::Unknown => {
                    let other = bound.places.insert((input, d), *extent).filter(|other| other != extent);
                    if let Some(other) = other {
                        let name = name.escape_debug();
                        return Err(Error::usage(format!("--dim {name}={extent}: it is {other} already")));
                    }
                }
            }
        }
        bound.said.clone_from(&bound.symbols);
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
            let said = match dim {
                Dim::Symbol(symbol) => {
                    self.symbols.entry(symbol).or_insert(*extent);
                    self.said.get(symbol.as_str()).map(|said| (symbol.clone(), said))
                }
                Dim::Fixed(_) | Dim::Unknown => {
                    self.places.get(&(input, d)).map(|said| (place(spec, d), said))
                }
            };
            if let Some((of, said)) = said.filter(|(_, said)| *said != extent) {
                let (of, input) = (of.escape_debug(), spec.name.escape_debug());
                return Err(Error::usage(format!(
                    "--dim {of}={said}: the file for the input '{input}' has {extent}"
                )));
            }
        }
        Ok(())
    }
}

/// The inputs of a model, and the names of those for which there is no file, which are random.
fn inputs(model: &SessionModel, given: &GivenArgs) -> Result<(Vec<Item>, Vec<String>)> {
    let specs = model.inputs();
    let mut read: Vec<Option<Tensor>> = vec![None; specs.len()];
    for named in &given.inputs {
        let names = || specs.iter().map(|spec| spec.name.as_str());
        let (name, file) = named.split(names());
        let Some(at) = names().position(|input| input == name) else {
            return Err(Error::unknown_name("input", name, "there is", names()));
        };
        let tensor = npy::read(file, specs[at].dtype)?;
        if let Some(declared) = fixed(&specs[at]) {
            npy::expect_shape(file, &tensor, &format!("input '{}'", name.escape_debug()), &declared)?;
        }
        if read[at].replace(tensor).is_some() {
            return Err(Error::usage(format!("input '{}' is given twice", name.escape_debug())));
        }
    }
    let mut bound = Bound::new(specs, &given.dims)?;
    for (i, (spec, tensor)) in specs.iter().zip(&read).enumerate() {
        bound.read(i, spec, tensor.as_ref().map_or(&[], Tensor::shape))?;
    }
    let (mut items, mut random, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (spec, tensor)) in specs.iter().zip(read).enumerate() {
        items.push(Item::Tensor(match tensor {
            Some(tensor) => tensor,
            None => {
                random.push(spec.name.clone());
                tensors::random(spec.dtype, &shape(i, spec, &bound, &mut open)?, i as u64)?
            }
        }));
    }
    if !open.is_empty() {
        open.dedup();
        let open = open.join(", ");
        complain(&format!("the model leaves these dimensions open, {DEFAULT} is taken: {open}"));
    }
    Ok((items, random))
}

/// The shape of an input that the model leaves nothing of open.
fn fixed(spec: &InputSpec) -> Option<Vec<usize>> {
    let extent = |dim: &Dim| if let Dim::Fixed(extent) = dim { Some(*extent) } else { None };
    spec.dims.as_ref()?.iter().map(extent).collect()
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
