//! ONNX files in and out. In: an [`OnnxModel`] is a parsed and checked file; importing it for concrete shapes
//! gives a [`Graph`] of core operations. Out: [`Model::write_onnx`].
//!
//! `model` reads and checks, `import` walks the nodes, `node` is what the import of one node works with, `ops` is
//! the table of operators, `sink` the graph that they make; `export` writes. Nothing here knows how a graph is compiled.
//!
//! A model that cannot be one graph (shapes depend on data, a condition decides what is computed) is imported in parts:
//! a [`Body`] is a list of nodes, a [`Stage`] what can be compiled of it and what must be run then.

use std::path::Path;

mod attributes;
mod body;
mod data;
mod export;
mod external;
mod file;
mod halt;
mod import;
mod limit;
mod model;
mod names;
mod nibble;
mod node;
mod ops;
mod order;
mod overview;
mod problems;
#[allow(missing_docs, clippy::doc_markdown, reason = "generated; the names are the schema's")]
pub mod proto;
mod scan;
mod scope;
mod sink;
mod skim;
mod stage;
mod tensor;

pub use body::{Body, Slot};
pub use data::{read_item, read_tensor};
pub use import::Specialization;
pub use model::{Dim, InputKind, InputSpec, MAX_ML_OPSET, MAX_OPSET, OnnxModel};
pub use node::operator::OpEntry;
pub use ops::operators;
pub use overview::{OperatorUse, Overview};
pub use scan::Scan;
pub use sink::Imported;
pub use stage::{Branch, Fact, Planned, Reason, Stage, Step, StepKind};

use crate::error::{Error, Result};
use crate::graph::{Graph, Model};

impl Model {
    /// The model in an ONNX file, all of whose input shapes are known. For symbolic shapes, or inputs that
    /// determine shapes, see [`OnnxModel`] and [`Specialization`].
    ///
    /// Weights stay in the file, which is kept open, until they are needed, when the model is compiled as a rule. If the
    /// file, or one of external data, is changed in place before that, compiling (or whatever needs the weights) ends
    /// with an error that names the file. Replacing it by another file of its name is fine, and executables do not need
    /// it any more.
    ///
    /// # Errors
    /// Everything that is wrong with the model or that is not supported, in one message; [`crate::ErrorKind::Io`] if the
    /// file cannot be read, or is a directory, a pipe or a device.
    pub fn from_onnx(path: impl AsRef<Path>) -> Result<Model> {
        Ok(OnnxModel::from_path(path)?.graph(&Specialization::default())?.into())
    }

    /// As [`Model::from_onnx`], from the bytes of a file. External data is not possible: no folder is known.
    ///
    /// # Errors
    /// As [`Model::from_onnx`].
    pub fn from_onnx_bytes(bytes: &[u8]) -> Result<Model> {
        Ok(OnnxModel::from_bytes(bytes)?.graph(&Specialization::default())?.into())
    }
}

impl OnnxModel {
    /// The graph for these shapes and values.
    ///
    /// # Errors
    /// As [`OnnxModel::import`]; [`crate::ErrorKind::Usage`] if the values of more inputs are needed.
    pub fn graph(&self, specialization: &Specialization) -> Result<Graph> {
        match self.import(specialization)? {
            Imported::Graph(graph) => Ok(graph),
            Imported::NeedsValues(names) => Err(Error::usage(format!(
                "the shapes in this model depend on the values of the input{} {}: give them when it is imported",
                if names.len() == 1 { "" } else { "s" },
                names.iter().map(|n| format!("'{}'", n.escape_debug())).collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}
