//! Attributes of ONNX operators.

use prost::bytes::Bytes;

use crate::onnx::proto::AttributeProto;
use crate::onnx::proto::attribute_proto::AttributeType;

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..AttributeProto::default() }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// A dimension, or another number that is an index.
pub(super) fn index(name: &str, value: usize) -> AttributeProto {
    int(name, value as i64)
}

pub(super) fn flag(name: &str, value: bool) -> AttributeProto {
    int(name, i64::from(value))
}

pub(super) fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { ints: values, ..attribute(name, AttributeType::Ints) }
}

/// ONNX has no attributes of more precision.
pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

pub(super) fn floats(name: &str, values: &[f64]) -> AttributeProto {
    let floats = values.iter().map(|v| *v as f32).collect();
    AttributeProto { floats, ..attribute(name, AttributeType::Floats) }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    let bytes = Bytes::copy_from_slice(value.as_bytes());
    AttributeProto { s: Some(bytes), ..attribute(name, AttributeType::String) }
}

pub(super) fn strings(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|v| Bytes::copy_from_slice(v.as_bytes())).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}
