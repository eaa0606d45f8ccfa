//! What a case is about: whether it is one of the core of ONNX, and if not, what it needs beyond.
//!
//! A case is classified by the types of its model's inputs, outputs, constants and casts, and by its operators; types
//! of what is between them are not looked at. The first class that applies counts.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::type_proto::Value as TypeValue;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto};

use super::suite;

/// What a case is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Inference on `f32`, `i64`, `i32` and `bool`, all of whose shapes follow from shapes and parameters.
    Core,
    Int8,
    Float64,
    OtherInt,
    DynamicShape,
    ControlFlow,
    Float16,
    BFloat16,
    LowBit,
    Training,
    Random,
    Image,
    Sequence,
    String,
    OtherDomain,
}

impl Class {
    /// All, in the order of tables.
    pub const ALL: [Class; 15] = [
        Class::Core,
        Class::Int8,
        Class::Float64,
        Class::OtherInt,
        Class::DynamicShape,
        Class::ControlFlow,
        Class::Float16,
        Class::BFloat16,
        Class::LowBit,
        Class::Training,
        Class::Random,
        Class::Image,
        Class::Sequence,
        Class::String,
        Class::OtherDomain,
    ];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Core => "core: f32, i64, i32, bool",
            Class::Int8 => "i8, u8",
            Class::Float64 => "f64",
            Class::OtherInt => "i16, u16, u32, u64",
            Class::DynamicShape => "shapes that depend on data",
            Class::ControlFlow => "If, Loop, Scan",
            Class::Float16 => "f16",
            Class::BFloat16 => "bf16",
            Class::LowBit => "8-bit floats, 4 and 2 bits",
            Class::Training => "training",
            Class::Random => "random numbers",
            Class::Image => "image files",
            Class::Sequence => "sequences, optionals",
            Class::String => "strings",
            Class::OtherDomain => "ai.onnx.ml, previews",
        })
    }
}

/// The class of the case with this model.
pub fn of(path: &Path) -> Class {
    let class = suite::read(path).map_or(Class::Core, |model| of_model(&model));
    // An operator's expansion into others belongs to the same domain.
    match plain(path).and_then(|path| suite::read(&path)) {
        Some(plain) if of_model(&plain) == Class::OtherDomain => Class::OtherDomain,
        _ => class,
    }
}

/// The model that this one is an expansion of: that in `test_x`, for `test_x_expanded` and the like.
fn plain(path: &Path) -> Option<std::path::PathBuf> {
    let folder = path.parent()?;
    let (name, _) = folder.file_name()?.to_str()?.split_once("_expanded")?;
    Some(folder.with_file_name(name).join(path.file_name()?))
}

/// What a model consists of.
#[derive(Default)]
struct Parts<'a> {
    types: BTreeSet<i32>,
    /// Whether a value is a sequence, an optional or a map.
    composite: bool,
    nodes: Vec<&'a NodeProto>,
}

fn of_model(model: &ModelProto) -> Class {
    let mut parts = Parts::default();
    if let Some(graph) = &model.graph {
        parts.graph(graph);
    }
    for function in &model.functions {
        parts.nodes(&function.node);
    }
    parts.class()
}

impl<'a> Parts<'a> {
    fn graph(&mut self, graph: &'a GraphProto) {
        for value in graph.input.iter().chain(&graph.output) {
            match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
                Some(TypeValue::TensorType(tensor)) => {
                    self.types.insert(tensor.elem_type());
                }
                Some(_) => self.composite = true,
                None => {}
            }
        }
        self.types.extend(graph.initializer.iter().map(|t| t.data_type()));
        self.nodes(&graph.node);
    }

    fn nodes(&mut self, nodes: &'a [NodeProto]) {
        for node in nodes {
            self.nodes.push(node);
            for attribute in &node.attribute {
                if let Some(tensor) = &attribute.t {
                    self.types.insert(tensor.data_type());
                }
                if node.op_type() == "Cast" && attribute.name() == "to" {
                    self.types.insert(attribute.i() as i32);
                }
                if attribute.r#type() == AttributeType::Graph
                    && let Some(graph) = &attribute.g
                {
                    self.nodes(&graph.node);
                }
            }
        }
    }

    fn class(&self) -> Class {
        use DataType as D;
        let any = |names: &[&str]| self.nodes.iter().any(|n| names.contains(&n.op_type()));
        let has = |types: &[D]| types.iter().any(|t| self.types.contains(&(*t as i32)));
        let domain = |start: &str| self.nodes.iter().any(|n| n.domain().starts_with(start));
        let wide =
            [D::Float, D::Int64, D::Int32, D::Bool, D::Double, D::Int8, D::Uint8, D::Float16, D::Bfloat16];
        let ints = [D::Int16, D::Uint16, D::Uint32, D::Uint64];
        let known = |t: &i32| wide.iter().chain(&ints).any(|d| *d as i32 == *t);
        if domain("ai.onnx.preview.training") {
            Class::Training
        } else if domain("ai.onnx.ml") || domain("ai.onnx.preview") {
            Class::OtherDomain
        } else if has(&[D::String]) {
            Class::String
        } else if self.composite {
            Class::Sequence
        } else if any(&["ImageDecoder"]) {
            Class::Image
        } else if any(&["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"])
            || any(&["Multinomial", "Bernoulli"])
        {
            Class::Random
        } else if self.nodes.iter().any(|n| trains(n)) {
            Class::Training
        } else if self.types.iter().any(|t| !known(t)) {
            Class::LowBit
        } else if has(&[D::Bfloat16]) {
            Class::BFloat16
        } else if has(&[D::Float16]) {
            Class::Float16
        } else if any(&["If", "Loop", "Scan"]) {
            Class::ControlFlow
        } else if any(&["NonZero", "Compress", "Unique", "NonMaxSuppression"]) {
            Class::DynamicShape
        } else if has(&ints) {
            Class::OtherInt
        } else if has(&[D::Double]) {
            Class::Float64
        } else if has(&[D::Int8, D::Uint8]) {
            Class::Int8
        } else {
            Class::Core
        }
    }
}

/// Whether the node is in training mode.
fn trains(node: &NodeProto) -> bool {
    match node.op_type() {
        "Dropout" => node.input.get(2).is_some_and(|mode| !mode.is_empty()),
        "BatchNormalization" => node.attribute.iter().any(|a| a.name() == "training_mode" && a.i() != 0),
        _ => false,
    }
}
