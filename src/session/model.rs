//! What a session calls, an ONNX model or a graph, and the bodies that are executed: those of ONNX models have stages,
//! a graph is one program.

use std::collections::BTreeMap;
use std::sync::Arc;

use nestjit_ir::DType;

use crate::error::{Error, Result};
use crate::graph::{Graph, Model, ValueId};
use crate::onnx::{self, Fact, InputSpec, OnnxModel, Overview, Planned, Slot, Stage};

/// A model that sessions can call; made of an [`OnnxModel`] or of a [`Model`]. A copy is the same model: nothing is read or
/// kept twice.
#[derive(Clone, Debug)]
pub struct SessionModel {
    source: ModelSource,
    inputs: Arc<[InputSpec]>,
}

#[derive(Clone, Debug)]
enum ModelSource {
    Onnx(Arc<OnnxModel>),
    Graph(Arc<Graph>),
}

impl From<OnnxModel> for SessionModel {
    fn from(model: OnnxModel) -> SessionModel {
        SessionModel { inputs: model.inputs().into(), source: ModelSource::Onnx(Arc::new(model)) }
    }
}

impl From<Model> for SessionModel {
    fn from(model: Model) -> SessionModel {
        let spec = |id: &ValueId| {
            let value = model.graph.value(*id);
            InputSpec::of_shape(&value.name, value.dtype, &value.shape)
        };
        let inputs = model.graph.inputs.iter().map(spec).collect();
        SessionModel { inputs, source: ModelSource::Graph(Arc::new(model.graph)) }
    }
}

impl SessionModel {
    /// The name that the model has; it may be empty.
    pub fn name(&self) -> &str {
        match &self.source {
            ModelSource::Onnx(model) => model.name(),
            ModelSource::Graph(graph) => &graph.name,
        }
    }

    /// The inputs of a call, in order.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The names of the outputs of a call, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        let names: Vec<&str> = match &self.source {
            ModelSource::Onnx(model) => model.outputs().collect(),
            ModelSource::Graph(graph) => {
                graph.outputs.iter().map(|id| graph.value(*id).name.as_str()).collect()
            }
        };
        names.into_iter()
    }

    /// What the model consists of.
    pub fn overview(&self) -> Overview {
        match &self.source {
            ModelSource::Onnx(model) => model.overview(),
            ModelSource::Graph(graph) => Overview::of_graph(graph),
        }
    }

    /// What is executed for these outputs, given by their numbers.
    ///
    /// # Errors
    /// If a name is defined twice.
    pub(super) fn body(&self, wanted: &[usize]) -> Result<Body> {
        Ok(match &self.source {
            ModelSource::Onnx(model) => {
                Body::Onnx(Arc::new(onnx::Body::for_outputs(Arc::clone(model), wanted)?))
            }
            ModelSource::Graph(graph) => Body::Graph(GraphBody::new(graph, wanted)),
        })
    }
}

/// What is executed: values have places, and become known stage by stage.
#[derive(Debug)]
pub(super) enum Body {
    Onnx(Arc<onnx::Body>),
    Graph(GraphBody),
}

/// A graph, whose inputs have the first places and whose outputs the next.
#[derive(Debug)]
pub(super) struct GraphBody {
    graph: Arc<Graph>,
    arguments: Vec<Slot>,
    outputs: Vec<Slot>,
}

impl GraphBody {
    fn new(graph: &Arc<Graph>, wanted: &[usize]) -> GraphBody {
        let mut graph = Arc::clone(graph);
        if !wanted.iter().copied().eq(0..graph.outputs.len()) {
            let graph = Arc::make_mut(&mut graph);
            graph.outputs = wanted.iter().filter_map(|number| graph.outputs.get(*number).copied()).collect();
            graph.remove_dead();
        }
        let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
        GraphBody { arguments: (0..inputs).collect(), outputs: (inputs..inputs + outputs).collect(), graph }
    }

    /// The value that a place is for.
    fn value(&self, slot: Slot) -> Option<ValueId> {
        self.graph.inputs.iter().chain(&self.graph.outputs).nth(slot).copied()
    }

    /// All of it, if that is what arguments are.
    fn stage(&self, facts: &BTreeMap<Slot, Fact>) -> Result<Planned> {
        for (slot, id) in self.arguments.iter().zip(&self.graph.inputs) {
            let declared = self.graph.value(*id);
            let (dtype, shape) = match facts.get(slot) {
                Some(Fact::Tensor(dtype, shape)) => (*dtype, shape.as_slice()),
                Some(Fact::Value(tensor)) => (tensor.dtype(), tensor.shape()),
                Some(Fact::Item) | None => return Err(Error::internal("an input that is no tensor")),
            };
            if (dtype, shape) != (declared.dtype, &declared.shape) {
                return Err(Error::shape(format!(
                    "the input '{}' is {}{:?}, but {dtype}{shape:?} was given",
                    declared.name.escape_debug(),
                    declared.dtype,
                    declared.shape
                )));
            }
        }
        Ok(Planned::Stage(Box::new(Stage {
            graph: Some(Graph::clone(&self.graph)),
            inputs: self.arguments.clone(),
            whole: true,
            ..Stage::default()
        })))
    }
}

impl Body {
    /// How many values there are at most while it is executed.
    pub fn slots(&self) -> usize {
        match self {
            Body::Onnx(body) => body.slots(),
            Body::Graph(body) => body.arguments.len() + body.outputs.len(),
        }
    }

    /// Where arguments go: inputs, then values from around.
    pub fn arguments(&self) -> &[Slot] {
        match self {
            Body::Onnx(body) => body.arguments(),
            Body::Graph(body) => &body.arguments,
        }
    }

    /// Where outputs are found, in order.
    pub fn outputs(&self) -> &[Slot] {
        match self {
            Body::Onnx(body) => body.outputs(),
            Body::Graph(body) => &body.outputs,
        }
    }

    /// The name of a value.
    pub fn name(&self, slot: Slot) -> &str {
        match self {
            Body::Onnx(body) => body.name(slot),
            Body::Graph(body) => body.value(slot).map_or("", |id| &body.graph.value(id).name),
        }
    }

    /// The type and shape of an output as far as it is declared: see [`onnx::Body::declared`].
    pub fn declared(&self, output: usize) -> (DType, Vec<usize>) {
        match self {
            Body::Onnx(body) => body.declared(output),
            Body::Graph(body) => match body.graph.outputs.get(output).map(|id| body.graph.value(*id)) {
                Some(value) => (value.dtype, value.shape.clone()),
                None => (DType::F32, Vec::new()),
            },
        }
    }

    /// What can be compiled for what is known: see [`onnx::Body::stage`].
    ///
    /// # Errors
    /// What is wrong with the model, or with its arguments.
    pub fn stage(
        &self,
        rest: Option<&[usize]>,
        facts: &BTreeMap<Slot, Fact>,
        specialize: Option<usize>,
    ) -> Result<Planned> {
        match self {
            Body::Onnx(body) => body.stage(rest, facts, specialize),
            Body::Graph(body) => body.stage(facts),
        }
    }
}
