//! A parsed ONNX model: checked as far as that is possible without shapes, its weights decoded.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nestjit_ir::DType;
use prost::Message;
use prost::bytes::Bytes;

use super::external::External;
use super::file::{FilePart, SourceFile};
use super::nibble::Nibble;
use super::problems::Problems;
use super::proto::type_proto::Value;
use super::proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use super::tensor::{Constant, decode_late, decode_sparse, element_type, value_dtype};
use super::{order, proto, skim};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// The newest version of the default operator set that is known. Models for newer ones are taken at their word, as far as
/// all that a node says is known: see [`super::OpEntry`].
pub const MAX_OPSET: i64 = 28;

/// The newest version of the operator set of classical models, `ai.onnx.ml`, that is known.
pub const MAX_ML_OPSET: i64 = 5;

/// The oldest version.
const MIN_OPSET: i64 = 1;

/// The oldest file format version.
const MIN_IR_VERSION: i64 = 3;

/// The largest file: protobuf's limit.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// A dimension as a model declares it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Any extent, but the same wherever the name appears.
    Symbol(String),
    /// Any extent; also where the model says -1, or something that is no name (`?`).
    Unknown,
}

/// What kind of value an input is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum InputKind {
    /// A tensor.
    Tensor,
    /// A list of tensors.
    Sequence,
    /// A tensor or a list of tensors that may be missing.
    Optional,
}

/// An input as a model declares it.
#[derive(Clone, PartialEq, Debug)]
pub struct InputSpec {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
    /// The element type.
    pub dtype: DType,
    /// Whether only four bits of its elements count.
    pub(super) nibble: Option<Nibble>,
    /// The dimensions; `None` if not even their number is declared, or if it is not just a tensor.
    pub dims: Option<Vec<Dim>>,
}

impl InputSpec {
    /// A tensor of a shape that is known.
    pub fn of_shape(name: &str, dtype: DType, shape: &[usize]) -> InputSpec {
        let dims = shape.iter().copied().map(Dim::Fixed).collect();
        InputSpec { name: name.to_owned(), kind: InputKind::Tensor, dtype, nibble: None, dims: Some(dims) }
    }
}

/// Where the raw data of initializers is that the message lacks, by their number.
type RawData = HashMap<usize, FilePart>;

/// The domain, the name and the overload of a function.
pub(super) type FunctionKey = (String, String, String);

/// Versions of operator sets, by domain. The default domain is `""`.
pub(super) type Opsets = BTreeMap<String, i64>;

/// A model as its file describes it: see the module's description.
#[derive(Debug)]
pub struct OnnxModel {
    pub(super) name: String,
    pub(super) opsets: Opsets,
    pub(super) graph: GraphProto,
    /// Decoded once, however often the model is imported. What cannot be decoded is a problem if it is used.
    pub(super) initializers: BTreeMap<String, Result<Tensor>>,
    /// Those that are of a type of four bits.
    pub(super) nibbles: HashMap<String, Nibble>,
    functions: HashMap<FunctionKey, FunctionProto>,
    pub(super) inputs: Vec<InputSpec>,
    pub(super) external: External,
    /// Where it was read from, for errors.
    file: Option<PathBuf>,
}

impl OnnxModel {
    /// Reads a file. Its weights, and those in files next to it, are read when they are needed. If one of these files is
    /// changed in place before that, this is found out then, and an error that names the file; a file that takes its
    /// name is fine.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read, is no regular file, or changes meanwhile; otherwise all that is wrong with
    /// it.
    pub fn from_path(path: impl AsRef<Path>) -> Result<OnnxModel> {
        let path = path.as_ref();
        let file = SourceFile::open(path)?;
        check_size(file.len()).map_err(|e| e.in_file(path))?;
        let skim::Skimmed { message, raw_data } = skim::skim(&file)?;
        let file = Arc::new(file);
        let part = |place: Range<u64>| FilePart {
            file: Arc::clone(&file),
            at: place.start,
            bytes: (place.end - place.start) as usize,
        };
        let raw_data = raw_data.into_iter().map(|(i, place)| (i, part(place))).collect();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let mut model =
            OnnxModel::parse(message, raw_data, Some(folder), stem).map_err(|e| e.in_file(path))?;
        model.file = Some(path.to_owned());
        Ok(model)
    }

    /// Reads the bytes of a file. External data is not possible: no folder is known.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<OnnxModel> {
        check_size(bytes.len() as u64)?;
        OnnxModel::parse(Bytes::copy_from_slice(bytes), HashMap::new(), None, String::new())
    }

    /// An error of this model, with the file that it was read from.
    pub(super) fn located(&self, e: Error) -> Error {
        match &self.file {
            Some(file) => e.in_file(file),
            None => e,
        }
    }

    /// Takes a message that was built in memory.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_proto(proto: ModelProto) -> Result<OnnxModel> {
        OnnxModel::check(proto, HashMap::new(), None, String::new())
    }

    fn parse(bytes: Bytes, raw_data: RawData, folder: Option<&Path>, name: String) -> Result<OnnxModel> {
        let proto = ModelProto::decode(bytes)
            .map_err(|e| Error::invalid(format!("this is not an ONNX model: {e}")).caused_by(e))?;
        OnnxModel::check(proto, raw_data, folder, name)
    }

    fn check(
        mut proto: ModelProto,
        raw_data: RawData,
        folder: Option<&Path>,
        name: String,
    ) -> Result<OnnxModel> {
        let Some(mut graph) = proto.graph.take() else {
            return Err(Error::invalid("this is not an ONNX model: it has no graph"));
        };
        order::sort_graph(&mut graph);
        let version = proto.ir_version();
        if version < MIN_IR_VERSION {
            return Err(Error::invalid(format!(
                "the IR version {version} is not supported; {MIN_IR_VERSION} is the first that is"
            )));
        }
        let mut problems = Problems::default();
        let opsets = problems.keep(opsets(&proto.opset_import)).unwrap_or_default();
        let external = External::new(folder);
        let nibble = |t: &TensorProto| Some((t.name().to_owned(), Nibble::of(t.data_type())?));
        let nibbles = graph.initializer.iter().filter_map(nibble).collect();
        let initializers = initializers(&mut graph, raw_data, &external, &mut problems);
        let functions = functions(std::mem::take(&mut proto.functions), &mut problems);
        let declared = graph.input.iter().filter(|i| !initializers.contains_key(i.name()));
        let inputs: Vec<InputSpec> = declared
            .filter_map(|input| {
                let named = |e: Error| e.about(&format!("input '{}'", input.name().escape_debug()));
                problems.keep(input_spec(input).map_err(named))
            })
            .collect();
        if let Some(name) = duplicate(graph.input.iter().map(ValueInfoProto::name)) {
            problems.push(Error::invalid(format!("two inputs are named '{}'", name.escape_debug())));
        }
        if graph.output.is_empty() {
            problems.push(Error::invalid("the graph has no output"));
        }
        if let Some(name) = duplicate(graph.output.iter().map(ValueInfoProto::name)) {
            problems.push(Error::invalid(format!("two outputs are named '{}'", name.escape_debug())));
        }
        problems.finish()?;
        let name = if name.is_empty() { graph.name().to_owned() } else { name };
        Ok(OnnxModel { name, opsets, graph, initializers, nibbles, functions, inputs, external, file: None })
    }

    /// The initializers that can be decoded. The others are problems if a node reads them.
    pub(super) fn constants(&self) -> impl Iterator<Item = (&String, Constant)> {
        self.initializers.iter().filter_map(|(name, tensor)| {
            let (tensor, nibble) = (tensor.as_ref().ok()?.clone(), self.nibbles.get(name).copied());
            Some((name, Constant { tensor, nibble }))
        })
    }

    /// The function that a node calls, if it calls one, and its key.
    pub(super) fn function(&self, node: &NodeProto) -> Option<(&FunctionKey, &FunctionProto)> {
        let domain = normal_domain(node.domain()).to_owned();
        self.functions.get_key_value(&(domain, node.op_type().to_owned(), node.overload().to_owned()))
    }

    /// The functions that the file defines.
    pub(super) fn functions(&self) -> impl Iterator<Item = &FunctionProto> {
        self.functions.values()
    }

    /// The model's name: that of its file, or of its graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs that a run needs, in order: those that are not initializers.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The names of the outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.graph.output.iter().map(ValueInfoProto::name)
    }

    /// The version of an operator set, if the model imports it. The default domain is `""`.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.opsets.get(normal_domain(domain)).copied()
    }

    /// How many nodes the model has, those in subgraphs and functions not counted.
    pub fn node_count(&self) -> usize {
        self.graph.node.len()
    }

    /// The number of elements of all weights.
    pub fn parameter_count(&self) -> usize {
        self.initializers.values().flatten().map(Tensor::len).sum()
    }
}

fn check_size(bytes: u64) -> Result<()> {
    if bytes > MAX_FILE_BYTES {
        let message = format!("the file has {bytes} bytes; at most {MAX_FILE_BYTES} are possible");
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

/// The domain of classical models.
pub(super) const ML_DOMAIN: &str = "ai.onnx.ml";

/// `ai.onnx` is the default domain's other name.
pub(super) fn normal_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The operator sets that a model or function imports.
pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> Result<Opsets> {
    let mut opsets = Opsets::new();
    for import in imports {
        let (domain, version) = (normal_domain(import.domain()), import.version());
        if version < MIN_OPSET {
            return Err(Error::invalid(format!("the operator set version {version} is not supported")));
        }
        if opsets.insert(domain.to_owned(), version).is_some_and(|other| other != version) {
            let message = format!("the operator set '{}' is imported in two versions", domain.escape_debug());
            return Err(Error::invalid(message));
        }
    }
    Ok(opsets)
}

/// Takes the initializers out of the graph, so that the file's bytes need not be kept for them.
fn initializers(
    graph: &mut GraphProto,
    mut raw_data: RawData,
    external: &External,
    problems: &mut Problems,
) -> BTreeMap<String, Result<Tensor>> {
    let dense = std::mem::take(&mut graph.initializer).into_iter();
    let sparse = std::mem::take(&mut graph.sparse_initializer).into_iter();
    let mut late = |(i, t): (usize, TensorProto)| decode_late(&t, raw_data.remove(&i), external);
    let dense = dense.enumerate().map(|(i, t)| (t.name().to_owned(), late((i, t))));
    let decoded = dense.chain(sparse.map(|t| {
        let name = t.values.as_ref().map(|v| v.name().to_owned()).unwrap_or_default();
        (name, decode_sparse(&t, external))
    }));
    let mut initializers = BTreeMap::new();
    for (name, tensor) in decoded {
        let tensor = tensor.map_err(|e| e.about(&format!("initializer '{}'", name.escape_debug())));
        if let Err(e) = &tensor
            && e.kind() != ErrorKind::Unsupported
        {
            problems.push(e.clone());
        }
        if name.is_empty() {
            problems.push(Error::invalid("an initializer has no name"));
        }
        if initializers.contains_key(&name) {
            problems.push(Error::invalid(format!("two initializers are named '{}'", name.escape_debug())));
        }
        initializers.insert(name, tensor);
    }
    initializers
}

fn functions(list: Vec<FunctionProto>, problems: &mut Problems) -> HashMap<FunctionKey, FunctionProto> {
    let mut functions = HashMap::new();
    for mut function in list {
        order::sort_nodes(&mut function.node);
        let domain = normal_domain(function.domain()).to_owned();
        let key = (domain, function.name().to_owned(), function.overload().to_owned());
        if functions.contains_key(&key) {
            let message = format!("two functions are named '{}'", function.name().escape_debug());
            problems.push(Error::invalid(message));
        }
        functions.insert(key, function);
    }
    functions
}

/// What a declared value is.
pub(super) fn input_spec(input: &ValueInfoProto) -> Result<InputSpec> {
    use proto::tensor_shape_proto::dimension::Value as D;
    if input.name().is_empty() {
        return Err(Error::invalid("the name is empty"));
    }
    let name = input.name().to_owned();
    let mut kind = InputKind::Tensor;
    let mut value = input.r#type.as_ref().and_then(|t| t.value.as_ref());
    let tensor = loop {
        let (inner, element) = match value {
            Some(Value::TensorType(tensor)) => break tensor,
            Some(Value::SequenceType(sequence)) => (InputKind::Sequence, sequence.elem_type.as_ref()),
            Some(Value::OptionalType(optional)) => (InputKind::Optional, optional.elem_type.as_ref()),
            _ => {
                return Err(value_dtype(input)
                    .err()
                    .unwrap_or_else(|| Error::invalid("the type is missing")));
            }
        };
        kind = match (kind, inner) {
            (InputKind::Tensor, inner) => inner,
            (InputKind::Optional, InputKind::Sequence) => InputKind::Optional,
            _ => {
                return Err(Error::unsupported(
                    "a sequence of sequences or optional values is not supported",
                ));
            }
        };
        value = element.and_then(|t| t.value.as_ref());
    };
    let nibble = Nibble::of(tensor.elem_type());
    let dtype = element_type(tensor.elem_type())?;
    if kind != InputKind::Tensor {
        return Ok(InputSpec { name, kind, dtype, nibble, dims: None });
    }
    let dim = |dim: &proto::tensor_shape_proto::Dimension| match &dim.value {
        // What converters write for any extent.
        Some(D::DimValue(-1)) => Ok(Dim::Unknown),
        Some(D::DimValue(extent)) => usize::try_from(*extent)
            .map(Dim::Fixed)
            .map_err(|_| Error::invalid(format!("a dimension is {extent}"))),
        Some(D::DimParam(name)) if is_symbol(name) => Ok(Dim::Symbol(name.clone())),
        _ => Ok(Dim::Unknown),
    };
    let dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(dim).collect::<Result<_>>()).transpose()?;
    Ok(InputSpec { name, kind, dtype, nibble, dims })
}

/// Whether a dimension's name is one: a word. Question marks, numbers and formulas, which converters write too, name
/// nothing that could be the same elsewhere.
fn is_symbol(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "_.:/-".contains(c))
}

fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
