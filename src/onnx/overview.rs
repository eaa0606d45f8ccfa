//! What a model consists of, without a look at shapes: its operators and how often each occurs, which of them are not
//! supported, its weights. Nothing is imported.

use std::collections::BTreeMap;

use super::import::Importer;
use super::model::{InputSpec, OnnxModel, Opsets, input_spec, normal_domain};
use super::ops;
use super::proto::NodeProto;
use super::scope::Scope;
use crate::error::Result;
use crate::graph::Graph;
use crate::tensor::Tensor;

/// What a model consists of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The versions of operator sets, by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, i64>,
    /// The outputs as the model declares them; without type or shape, what is known of them is known when the model is
    /// compiled.
    pub outputs: Vec<(String, Option<InputSpec>)>,
    /// The operators that nodes have, those in subgraphs and, for each definition once, in functions; by domain and name.
    pub operators: Vec<OperatorUse>,
    /// The functions that the file defines and nodes call.
    pub functions: usize,
    /// The elements of weights, and their bytes.
    pub weights: (usize, usize),
}

/// An operator that nodes of a model have.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OperatorUse {
    /// The domain; `""` is the default domain.
    pub domain: String,
    /// The name.
    pub name: String,
    /// How many nodes have it.
    pub count: usize,
    /// Why it cannot be imported, if it cannot.
    pub missing: Option<String>,
}

impl Overview {
    /// Of a graph of core operations: operators are these, of the domain `nestjit`.
    pub(crate) fn of_graph(graph: &Graph) -> Overview {
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        graph.nodes.iter().for_each(|node| *uses.entry(node.op.name()).or_default() += 1);
        let operator = |(name, count): (&str, usize)| OperatorUse {
            domain: "nestjit".to_owned(),
            name: name.to_owned(),
            count,
            missing: None,
        };
        let outputs = graph.outputs.iter().map(|id| {
            let value = graph.value(*id);
            (value.name.clone(), Some(InputSpec::of_shape(&value.name, value.dtype, &value.shape)))
        });
        Overview {
            opsets: BTreeMap::new(),
            outputs: outputs.collect(),
            operators: uses.into_iter().map(operator).collect(),
            functions: 0,
            weights: sizes(graph.value_ids().filter_map(|id| graph.constant(id))),
        }
    }

    /// The number of nodes, those in subgraphs and functions counted.
    pub fn nodes(&self) -> usize {
        self.operators.iter().map(|used| used.count).sum()
    }
}

/// The elements of tensors, and their bytes.
fn sizes<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> (usize, usize) {
    tensors.fold((0, 0), |(elements, bytes), t| (elements + t.len(), bytes + t.len() * t.dtype().size()))
}

/// Operators in the order of their names.
type Uses = BTreeMap<(String, String), OperatorUse>;

impl OnnxModel {
    /// What the model consists of.
    pub fn overview(&self) -> Overview {
        let mut uses = Uses::new();
        self.count(&self.graph.node, &self.opsets, &mut uses);
        let mut functions = 0;
        for function in self.functions() {
            if let Ok(opsets) = super::model::opsets(&function.opset_import) {
                functions += 1;
                let opsets = if opsets.is_empty() { self.opsets.clone() } else { opsets };
                self.count(&function.node, &opsets, &mut uses);
            }
        }
        let weights = sizes(self.initializers.values().flatten());
        let outputs = self.graph.output.iter().map(|o| (o.name().to_owned(), input_spec(o).ok())).collect();
        let operators = uses.into_values().collect();
        Overview { opsets: self.opsets.clone(), outputs, operators, functions, weights }
    }

    fn count(&self, nodes: &[NodeProto], opsets: &Opsets, uses: &mut Uses) {
        let importer = Importer { model: self, operators: ops::table() };
        let scope = Scope::new(opsets);
        for node in nodes {
            let (domain, name) = (normal_domain(node.domain()).to_owned(), node.op_type().to_owned());
            let missing = |entry: Result<_>| entry.err().map(|e| e.to_string());
            let used = uses.entry((domain.clone(), name.clone())).or_insert_with(|| OperatorUse {
                domain,
                name,
                count: 0,
                missing: missing(importer.entry(node, &scope)),
            });
            used.count += 1;
            let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
            graphs.for_each(|graph| self.count(&graph.node, opsets, uses));
        }
    }
}
