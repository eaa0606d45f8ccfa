//! ONNX files out: any [`Graph`] as a model that other runtimes load.
//!
//! A node becomes the ONNX operator of its name where there is one, and otherwise a few that compute the same.
//! The operator set is 17, or the lowest later one that has everything the graph needs.

mod attribute;
mod elementwise;
mod movement;
mod neural;
mod recurrent;
mod reduce;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use nestjit_ir::{DType, Scalar};
use prost::Message;
use prost::bytes::Bytes;

use super::proto::tensor_proto::DataType;
use super::proto::tensor_shape_proto::Dimension;
use super::proto::tensor_shape_proto::dimension::Value as Extent;
use super::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Binary, Graph, Model, Node, Op, PadMode, PoolKind, Reduction, Unary, Value, ValueId};
use crate::tensor::Tensor;

/// The operator set of graphs that need no later one.
const OPSET: i64 = 17;

/// Protocol buffers cannot be larger.
const MAX_BYTES: usize = i32::MAX as usize;

impl Model {
    /// Writes the model as an ONNX file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], naming the node, for operations on element types that ONNX does not have;
    /// [`ErrorKind::Limit`] for more than 2 GB; and if the file cannot be written.
    pub fn write_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_onnx()?;
        std::fs::write(path, bytes).map_err(|e| {
            Error::new(ErrorKind::Io, format!("'{}': {e}", path.display().to_string().escape_debug()))
        })
    }

    /// The bytes of an ONNX file of the model.
    ///
    /// # Errors
    /// As [`Model::write_onnx`].
    pub fn to_onnx(&self) -> Result<Vec<u8>> {
        let proto = export(&self.graph)?;
        let bytes = proto.encoded_len();
        if bytes > MAX_BYTES {
            let message = format!("the ONNX file would have {bytes} bytes; the format allows {MAX_BYTES}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(proto.encode_to_vec())
    }
}

/// The domain of ONNX Runtime's own operators.
const MICROSOFT: &str = "com.microsoft";

/// The graph as an ONNX model.
fn export(graph: &Graph) -> Result<ModelProto> {
    graph.validate()?;
    let opset = graph.nodes.iter().map(|node| required_opset(graph, node)).fold(OPSET, i64::max);
    let mut exporter = Exporter::new(graph, opset);
    for node in &graph.nodes {
        exporter.node(node).map_err(|e| e.at(&node.name, node.op.name()))?;
    }
    let outputs = exporter.outputs();
    let inputs = graph.inputs.iter().map(|id| (exporter.value_names[id.0 as usize].clone(), *id));
    let inputs = inputs.map(|(name, id)| value_info(name, graph.value(id))).collect();
    let Exporter { nodes, initializers, .. } = exporter;
    let import = |(domain, version): (&str, i64)| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let mut opset_import = vec![import(("", opset))];
    opset_import.extend(nodes.iter().any(|n| n.domain() == MICROSOFT).then(|| import((MICROSOFT, 1))));
    Ok(ModelProto {
        // What came with the operator set.
        ir_version: Some(if opset < 19 { 8 } else { 9 }),
        opset_import,
        producer_name: Some("nestjit".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(GraphProto {
            node: nodes,
            // The name must not be empty.
            name: Some(if graph.name.is_empty() { "graph".to_owned() } else { graph.name.clone() }),
            initializer: initializers.into_iter().collect::<Result<_>>()?,
            input: inputs,
            output: outputs,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    })
}

/// The first operator set that has what the node needs.
fn required_opset(graph: &Graph, node: &Node) -> i64 {
    let is_bool = || graph.value(node.inputs[0]).dtype == DType::Bool;
    match &node.op {
        Op::Unary(Unary::BitNot) => 18,
        Op::Binary(Binary::And | Binary::Or | Binary::Xor) if !is_bool() => 18,
        Op::Scatter { reduction: Some(_) } => 18,
        Op::Pad { mode: PadMode::Wrap, .. } => 19,
        Op::Pool { kind: PoolKind::Average { .. }, window, .. }
            if window.dilations.iter().any(|d| *d != 1) =>
        {
            19
        }
        _ => OPSET,
    }
}

/// Whether ONNX has the operation for `i32`, but not for the operands' smaller type.
fn needs_i32(graph: &Graph, node: &Node) -> bool {
    let types: &[DType] = match &node.op {
        Op::MatMul => &[DType::I16, DType::U16],
        Op::Gemm { .. } | Op::Binary(Binary::Pow) => &[DType::I8, DType::U8, DType::I16, DType::U16],
        Op::Reduce { op: Reduction::Max | Reduction::Min, .. } => &[DType::I16, DType::U16],
        Op::Reduce { axes, .. } if !axes.is_empty() => &[DType::I8, DType::U8, DType::I16, DType::U16],
        _ => &[],
    };
    types.contains(&graph.value(node.inputs[0]).dtype)
}

/// The model in the making.
struct Exporter<'g> {
    graph: &'g Graph,
    opset: i64,
    nodes: Vec<NodeProto>,
    /// Some of them may be weights that cannot be read.
    initializers: Vec<Result<TensorProto>>,
    /// By value id.
    value_names: Vec<String>,
    /// Names of values and nodes.
    taken: HashSet<String>,
    /// Constants of the graph that are initializers by now.
    written: HashSet<ValueId>,
    /// Rank-0 constants that nodes share, by type and value.
    scalars: HashMap<(DType, u64), String>,
    /// The name of the node being exported.
    current: String,
}

/// The node being exported: names of its operands and results, and what is known of them.
struct Site<'g> {
    graph: &'g Graph,
    node: &'g Node,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl<'g> Site<'g> {
    fn input(&self, i: usize) -> &'g Value {
        self.graph.value(self.node.inputs[i])
    }

    fn output(&self, i: usize) -> &'g Value {
        self.graph.value(self.node.outputs[i])
    }
}

impl<'g> Exporter<'g> {
    fn new(graph: &'g Graph, opset: i64) -> Exporter<'g> {
        let mut exporter = Exporter {
            graph,
            opset,
            nodes: Vec::new(),
            initializers: Vec::new(),
            value_names: Vec::new(),
            taken: HashSet::new(),
            written: HashSet::new(),
            scalars: HashMap::new(),
            current: String::new(),
        };
        // Inputs and outputs keep their names if any value does.
        let mut names = vec![String::new(); graph.values.len()];
        let ports = graph.inputs.iter().chain(&graph.outputs).copied();
        for id in ports.chain(graph.value_ids()) {
            let name = &mut names[id.0 as usize];
            if name.is_empty() {
                *name = exporter.free(&graph.value(id).name);
            }
        }
        exporter.value_names = names;
        exporter
    }

    /// A name that nothing has; an empty one would mean an operand that is left out.
    fn free(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "value" } else { base };
        let mut name = base.to_owned();
        let mut number = 0;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }

    fn node(&mut self, node: &'g Node) -> Result<()> {
        node.name.clone_into(&mut self.current);
        let inputs = node.inputs.iter().map(|id| self.operand(*id)).collect();
        let outputs = node.outputs.iter().map(|id| self.value_names[id.0 as usize].clone()).collect();
        let site = Site { graph: self.graph, node, inputs, outputs };
        if needs_i32(self.graph, node) { self.widened(site) } else { self.operation(&site) }
    }

    /// In `i32`, of which the lower bits are the result.
    fn widened(&mut self, mut site: Site<'g>) -> Result<()> {
        let to = |dtype: DType| vec![attribute::int("to", data_type(dtype).into())];
        for input in &mut site.inputs {
            *input = self.emit("Cast", &[input], to(DType::I32));
        }
        let wide = self.free(&format!("{}.wide", site.outputs[0]));
        let narrow = std::mem::replace(&mut site.outputs, vec![wide.clone()]);
        self.operation(&site)?;
        self.emit_to(&narrow, "Cast", &[&wide], to(site.output(0).dtype));
        Ok(())
    }

    fn operation(&mut self, site: &Site<'g>) -> Result<()> {
        match &site.node.op {
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Where
            | Op::Clip { .. }
            | Op::Cast { .. }
            | Op::Check { .. }
            | Op::Dropout => self.elementwise(site),
            Op::MatMul
            | Op::Gemm { .. }
            | Op::PackedMatMul { .. }
            | Op::Conv { .. }
            | Op::BiasAdd { .. }
            | Op::BatchNorm { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::InstanceNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::Pool { .. }
            | Op::GlobalPool { .. } => self.neural(site),
            Op::Reduce { .. } | Op::ArgReduce { .. } => self.reduction(site),
            Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::Split { .. }
            | Op::Gather { .. }
            | Op::Scatter { .. }
            | Op::Expand { .. } => self.movement(site),
            Op::Recurrent { .. } => self.recurrent(site),
            Op::PairwiseCoupling => {
                Err(Error::unsupported("ONNX has no operator that couples probabilities of pairs of classes"))
            }
            Op::DynamicQuantizeLstm { .. } => {
                Err(Error::unsupported("ONNX has no LSTM of products with the input and a state in 8 bits"))
            }
        }
    }

    /// The name of an operand; a constant is written when it is first read.
    fn operand(&mut self, id: ValueId) -> String {
        let name = self.value_names[id.0 as usize].clone();
        if let Some(tensor) = self.graph.constant(id)
            && self.written.insert(id)
        {
            self.initializers.push(initializer(name.clone(), tensor));
        }
        name
    }

    /// The outputs, each with a name of its own: one that is an input or a constant, or is listed twice, is a
    /// copy.
    fn outputs(&mut self) -> Vec<ValueInfoProto> {
        let graph = self.graph;
        let mut seen = HashSet::new();
        let mut outputs = Vec::new();
        for id in &graph.outputs {
            let value = graph.value(*id);
            let mut name = self.operand(*id);
            if graph.inputs.contains(id) || value.data.is_some() || !seen.insert(*id) {
                let copy = self.free(&name);
                self.current = copy.clone();
                self.emit_to(std::slice::from_ref(&copy), "Identity", &[&name], vec![]);
                name = copy;
            }
            outputs.push(value_info(name, value));
        }
        outputs
    }

    /// Adds an operator whose result has a name of its own.
    fn emit(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let name = self.free(&format!("{}.{}", self.current, op.to_ascii_lowercase()));
        self.emit_to(std::slice::from_ref(&name), op, inputs, attributes);
        name
    }

    /// Adds an operator with these results.
    fn emit_to(&mut self, outputs: &[String], op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: outputs.to_vec(),
            // Unique, since the name of a result is; and telling, since it is made from the node's.
            name: outputs.first().cloned(),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            ..NodeProto::default()
        });
    }

    /// A rank-0 constant.
    fn scalar(&mut self, dtype: DType, value: f64) -> String {
        if let Some(name) = self.scalars.get(&(dtype, value.to_bits())) {
            return name.clone();
        }
        let tensor = Tensor::from(Scalar::from_f64(dtype, value));
        let name = self.constant(&format!("{dtype}({value})"), &tensor);
        self.scalars.insert((dtype, value.to_bits()), name.clone());
        name
    }

    /// A vector of shapes, axes and the like.
    fn indices(&mut self, what: &str, values: &[i64]) -> Result<String> {
        let tensor = Tensor::new(&[values.len()], values)?;
        Ok(self.constant(&format!("{}.{what}", self.current), &tensor))
    }

    /// A constant that the graph does not have.
    fn constant(&mut self, name: &str, tensor: &Tensor) -> String {
        let name = self.free(name);
        self.initializers.push(initializer(name.clone(), tensor));
        name
    }
}

fn data_type(dtype: DType) -> i32 {
    (match dtype {
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I8 => DataType::Int8,
        DType::U8 => DataType::Uint8,
        DType::I16 => DataType::Int16,
        DType::U16 => DataType::Uint16,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::Bool => DataType::Bool,
    }) as i32
}

/// The format is little-endian, as are the machines that code is generated for.
fn initializer(name: String, tensor: &Tensor) -> Result<TensorProto> {
    Ok(TensorProto {
        dims: signed(tensor.shape()),
        data_type: Some(data_type(tensor.dtype())),
        name: Some(name),
        raw_data: Some(Bytes::copy_from_slice(tensor.bytes()?)),
        ..TensorProto::default()
    })
}

fn value_info(name: String, value: &Value) -> ValueInfoProto {
    let extent = |e: i64| Dimension { value: Some(Extent::DimValue(e)), ..Dimension::default() };
    let tensor = TensorType {
        elem_type: Some(data_type(value.dtype)),
        shape: Some(TensorShapeProto { dim: signed(&value.shape).into_iter().map(extent).collect() }),
    };
    ValueInfoProto {
        name: Some(name),
        r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// Extents as ONNX has them. A tensor fits in memory, so that none of its extents is too large, unless it has
/// no elements: then the other extents mean nothing.
fn signed(extents: &[usize]) -> Vec<i64> {
    extents.iter().map(|e| i64::try_from(*e).unwrap_or(i64::MAX)).collect()
}
