//! Small models from the schema's messages, in few words.

use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::attribute_proto::AttributeType;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use nestjit::onnx::proto::type_proto::{Sequence, Tensor as TensorType, Value as TypeValue};
use nestjit::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
};
use nestjit::{Element, Item, Tensor};

/// `op: a, b -> y, z`; an operand left out is `_`.
pub fn node(text: &str) -> NodeProto {
    let (op, names) = text.split_once(':').unwrap();
    let (inputs, outputs) = names.split_once("->").unwrap();
    let list = |names: &str| -> Vec<String> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| if name == "_" { String::new() } else { name.to_owned() }).collect()
    };
    NodeProto { op_type: Some(op.into()), input: list(inputs), output: list(outputs), ..NodeProto::default() }
}

/// Nodes of one line each.
pub fn nodes(text: &str) -> Vec<NodeProto> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(node).collect()
}

pub trait With: Sized {
    fn with(self, attribute: AttributeProto) -> Self;

    fn int(self, name: &str, value: i64) -> Self {
        let a = attribute(name, AttributeType::Int);
        self.with(AttributeProto { i: Some(value), ..a })
    }

    fn ints(self, name: &str, values: &[i64]) -> Self {
        let a = attribute(name, AttributeType::Ints);
        self.with(AttributeProto { ints: values.to_vec(), ..a })
    }

    fn tensor(self, name: &str, tensor: TensorProto) -> Self {
        let a = attribute(name, AttributeType::Tensor);
        self.with(AttributeProto { t: Some(tensor), ..a })
    }

    fn graph(self, name: &str, graph: GraphProto) -> Self {
        let a = attribute(name, AttributeType::Graph);
        self.with(AttributeProto { g: Some(graph), ..a })
    }
}

impl With for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> NodeProto {
        self.attribute.push(attribute);
        self
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind.into()), ..AttributeProto::default() }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub fn ints(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Int64.into()),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A declared tensor: `"name: type d e"`, with extents or symbols; only `"name"` leaves the type open.
pub fn declared(text: &str) -> ValueInfoProto {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let mut words = rest.split_whitespace();
    let mut info = ValueInfoProto { name: Some(name.trim().into()), ..ValueInfoProto::default() };
    let Some(dtype) = words.next() else { return info };
    let (dtype, sequence) = dtype.strip_prefix("seq-").map_or((dtype, false), |dtype| (dtype, true));
    let dtype = match dtype {
        "f32" => DataType::Float,
        "i64" => DataType::Int64,
        "i32" => DataType::Int32,
        "bool" => DataType::Bool,
        other => panic!("{other}"),
    };
    let dim = |d: &str| Dimension {
        value: Some(d.parse().map_or_else(|_| Dim::DimParam(d.into()), Dim::DimValue)),
        denotation: None,
    };
    let shape = (!sequence).then(|| TensorShapeProto { dim: words.map(dim).collect() });
    let tensor = TypeValue::TensorType(TensorType { elem_type: Some(dtype.into()), shape });
    let tensor = TypeProto { value: Some(tensor), denotation: None };
    info.r#type = Some(match sequence {
        true => TypeProto {
            value: Some(TypeValue::SequenceType(Box::new(Sequence { elem_type: Some(Box::new(tensor)) }))),
            denotation: None,
        },
        false => tensor,
    });
    info
}

pub fn graph(inputs: &[&str], outputs: &[&str], node: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        input: inputs.iter().map(|i| declared(i)).collect(),
        output: outputs.iter().map(|o| declared(o)).collect(),
        node,
        ..GraphProto::default()
    }
}

/// A model of opset 18.
pub fn model(graph: GraphProto, initializer: Vec<TensorProto>) -> OnnxModel {
    with_functions(graph, initializer, Vec::new()).unwrap()
}

pub fn with_functions(
    graph: GraphProto,
    initializer: Vec<TensorProto>,
    functions: Vec<FunctionProto>,
) -> nestjit::Result<OnnxModel> {
    OnnxModel::from_proto(proto(graph, initializer, functions))
}

pub fn proto(
    mut graph: GraphProto,
    initializer: Vec<TensorProto>,
    functions: Vec<FunctionProto>,
) -> ModelProto {
    graph.initializer = initializer;
    let opset =
        |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset("", 18), opset("local", 1)],
        graph: Some(graph),
        functions,
        ..ModelProto::default()
    }
}

pub fn t<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

pub fn item<T: Element>(shape: &[usize], values: &[T]) -> Item {
    Item::Tensor(t(shape, values))
}
