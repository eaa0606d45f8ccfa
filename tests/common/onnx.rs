//! ONNX models made from the schema's messages, as files of other producers have them.

use nestjit::graph::Graph;
use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use nestjit::onnx::proto::type_proto::{Tensor as TensorType, Value as TypeValue};
use nestjit::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};
use nestjit::onnx::{OnnxModel, Specialization};
use nestjit::{Error, ErrorKind};

/// A node of the default domain, without a name.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| (*s).into()).collect(),
        output: outputs.iter().map(|s| (*s).into()).collect(),
        ..NodeProto::default()
    }
}

/// The node with one attribute more.
pub fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(of.into()), ..AttributeProto::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

pub fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec().into()), ..attribute(name, AttributeType::String) }
}

pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|v| v.as_bytes().to_vec().into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(value), ..attribute(name, AttributeType::Tensor) }
}

pub fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, AttributeType::Graph) }
}

/// An attribute of a function's node whose value is the attribute `outer` of the call.
pub fn reference(name: &str, outer: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: Some(outer.into()), ..attribute(name, of) }
}

/// A declared value; `"n"` is a symbol, `"?"` unknown, numbers are extents.
pub fn declared(name: &str, dtype: DataType, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| Dimension {
        value: match *d {
            "?" => None,
            d => Some(d.parse().map_or_else(|_| Dim::DimParam(d.into()), Dim::DimValue)),
        },
        denotation: None,
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorType { elem_type: Some(dtype.into()), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(TypeValue::TensorType(tensor)), denotation: None }),
        ..ValueInfoProto::default()
    }
}

/// A value of which only the name is declared.
pub fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
}

/// A tensor of a type, with its data still to be filled in.
pub fn empty(name: &str, dtype: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(dtype.into()),
        ..TensorProto::default()
    }
}

pub fn f32s(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto { float_data: values.to_vec(), ..empty(name, DataType::Float, dims) }
}

pub fn i64s(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..empty(name, DataType::Int64, dims) }
}

pub fn bools(name: &str, dims: &[i64], values: &[bool]) -> TensorProto {
    TensorProto {
        int32_data: values.iter().map(|v| i32::from(*v)).collect(),
        ..empty(name, DataType::Bool, dims)
    }
}

/// The import of an operator set.
pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    let domain = (!domain.is_empty()).then(|| domain.to_owned());
    OperatorSetIdProto { domain, version: Some(version) }
}

/// A graph without initializers.
pub fn graph_of(input: Vec<ValueInfoProto>, node: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        input,
        node,
        output: outputs.iter().map(|name| named(name)).collect(),
        ..GraphProto::default()
    }
}

/// A model of opset 17 around a graph.
pub fn model_of(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 17)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A model of opset 17 with one float input `x` and one output `y`.
pub fn model(x: &[&str], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = graph_of(vec![declared("x", DataType::Float, x)], nodes, &["y"]);
    model_of(GraphProto { initializer, ..graph })
}

/// The same with another version of the default operator set.
pub fn in_opset(mut model: ModelProto, version: i64) -> ModelProto {
    model.opset_import = vec![opset("", version)];
    model
}

/// A function of the domain `mine`, which uses opset 17 and may call others of the domain.
pub fn function(
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[&str],
    node: Vec<NodeProto>,
) -> FunctionProto {
    let list = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect();
    FunctionProto {
        name: Some(name.into()),
        domain: Some("mine".into()),
        input: list(inputs),
        output: list(outputs),
        attribute: list(attributes),
        node,
        opset_import: vec![opset("", 17), opset("mine", 1)],
        ..FunctionProto::default()
    }
}

/// A call of a function of the domain `mine`.
pub fn call(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: Some("mine".into()), ..node(name, inputs, outputs) }
}

/// The model with functions of the domain `mine`.
pub fn with_functions(mut model: ModelProto, functions: Vec<FunctionProto>) -> ModelProto {
    model.opset_import.push(opset("mine", 1));
    model.functions = functions;
    model
}

/// The imported graph of a model whose shapes are all known.
pub fn import(model: ModelProto) -> Result<Graph, Error> {
    OnnxModel::from_proto(model)?.graph(&Specialization::default())
}

/// Why a model is refused.
#[track_caller]
pub fn refusal(model: ModelProto) -> (ErrorKind, String) {
    match import(model) {
        Err(error) => (error.kind(), error.to_string()),
        Ok(graph) => panic!("the model is accepted: {graph:?}"),
    }
}
