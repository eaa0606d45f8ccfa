//! The cases of a suite: which there are, and what they consist of.

use std::fs;
use std::path::{Path, PathBuf};

use nestjit::onnx::proto::ValueInfoProto;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::type_proto::Value as TypeValue;
use nestjit::onnx::proto::{ModelProto, tensor_shape_proto::dimension::Value as Dim};
use nestjit::onnx::{InputKind, read_item};
use nestjit::{Error, Item, Result as Outcome, Tensor};
use prost::Message;

use super::class::{self, Class};

/// The folders of a suite that have a folder per case.
const FOLDERS: [&str; 4] = ["node", "simple", "pytorch-operator", "pytorch-converted"];

/// The folder that has a model and its outputs per case; the inputs are made by a rule.
const LIGHT: &str = "light";

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its folder in the suite, and its name: `node/test_abs`.
    pub name: String,
    /// The file with the model.
    pub model: PathBuf,
    /// What it is about.
    pub class: Class,
}

impl Case {
    /// The part of the suite it belongs to.
    pub fn category(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// One set of inputs, and the outputs that they must give.
pub struct DataSet {
    pub inputs: Vec<Item>,
    pub outputs: Vec<Item>,
}

/// All cases of a suite, in order.
pub fn find(suite: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for category in FOLDERS.into_iter().chain([LIGHT]) {
        let folder = suite.join(category);
        if !folder.is_dir() {
            continue;
        }
        for path in entries(&folder)? {
            let model = if category == LIGHT { path.clone() } else { path.join("model.onnx") };
            if model.extension().is_none_or(|e| e != "onnx") || (category != LIGHT && !path.is_dir()) {
                continue;
            }
            let stem = path.file_stem().filter(|_| category == LIGHT).or(path.file_name());
            let name = format!("{category}/{}", stem.unwrap_or_default().to_string_lossy());
            cases.push(Case { class: class::of(&model), name, model });
        }
    }
    match cases.is_empty() {
        true => Err(format!("there are no cases in '{}'", suite.display())),
        false => Ok(cases),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failure = |e: std::io::Error| format!("cannot read '{}': {e}", folder.display());
    let entries = fs::read_dir(folder).map_err(failure)?.map(|e| e.map(|e| e.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failure)?;
    entries.sort();
    Ok(entries)
}

/// The data of a case, which is given by its model's file.
pub fn data(model: &Path) -> Outcome<Vec<DataSet>> {
    let folder = model.parent().unwrap_or(Path::new("."));
    let sets: Vec<PathBuf> =
        entries(folder).map_err(Error::usage)?.into_iter().filter(|p| p.is_dir()).collect();
    if !sets.is_empty() {
        let graph =
            read(model).and_then(|m| m.graph).ok_or_else(|| Error::invalid("the model has no graph"))?;
        let set = |folder: &PathBuf| {
            let inputs = items(folder, "input", &graph.input)?;
            Ok(DataSet { inputs, outputs: items(folder, "output", &graph.output)? })
        };
        return sets.iter().map(set).collect();
    }
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let outputs = items(folder, &format!("{stem}_output"), &[])?;
    if outputs.is_empty() {
        return Err(Error::usage("the case has no data"));
    }
    Ok(vec![DataSet { inputs: ramps(model)?, outputs }])
}

/// `PREFIX_0.pb`, `PREFIX_1.pb`, .. of a folder, which are values of these types; tensors, if not declared.
fn items(folder: &Path, prefix: &str, declared: &[ValueInfoProto]) -> Outcome<Vec<Item>> {
    let files = (0..).map(|i| folder.join(format!("{prefix}_{i}.pb"))).take_while(|file| file.exists());
    let item = |(i, file): (usize, PathBuf)| read_item(file, declared.get(i).map_or(InputKind::Tensor, kind));
    files.enumerate().map(item).collect()
}

fn kind(value: &ValueInfoProto) -> InputKind {
    match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TypeValue::SequenceType(_)) => InputKind::Sequence,
        Some(TypeValue::OptionalType(_)) => InputKind::Optional,
        _ => InputKind::Tensor,
    }
}

/// The inputs of cases that come without: `i / n` for each of the `n` elements.
fn ramps(model: &Path) -> Outcome<Vec<Item>> {
    let graph = read(model).and_then(|m| m.graph).ok_or_else(|| Error::invalid("the model has no graph"))?;
    let weights: Vec<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let inputs = graph.input.iter().filter(|input| !weights.contains(&input.name()));
    let ramp = |input: &ValueInfoProto| {
        let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            return Err(Error::unsupported("an input that is no tensor, without data"));
        };
        if tensor.elem_type() != DataType::Float as i32 {
            return Err(Error::unsupported("an input that is not f32, without data"));
        }
        let dims = tensor.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
            Some(Dim::DimValue(extent)) => usize::try_from(*extent).unwrap_or(1),
            _ => 1,
        });
        let shape: Vec<usize> = dims.collect();
        let n: usize = shape.iter().product();
        Tensor::new(&shape, &(0..n).map(|i| (i as f64 / n as f64) as f32).collect::<Vec<_>>())
            .map(Item::Tensor)
    };
    inputs.map(ramp).collect()
}

/// The message in a model's file, if there is one.
pub fn read(model: &Path) -> Option<ModelProto> {
    ModelProto::decode(fs::read(model).ok()?.as_slice()).ok()
}
