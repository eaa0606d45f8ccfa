//! What operators of ONNX compute where implementations like to differ: held against results that are written down, or
//! computed here by loops that follow the operator's text. Evaluator, fused and unfused code must all give them.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod classical;
mod contrib;
mod exactness;
mod halves;
mod nbits;
mod nibbles;
mod pools;
mod quantized_lstm;
mod sampling;

use common::compare::difference;
use common::onnx::*;
use nestjit::graph::{Precision, evaluate};
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use nestjit::{Compiler, DType, Tensor};

/// A model of one node with inputs of these types and shapes.
fn single(
    opset: i64,
    node: NodeProto,
    inputs: &[(&str, DataType, &[usize])],
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let declare = |(name, dtype, shape): &(&str, DataType, &[usize])| {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        declared(name, *dtype, &dims.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let outputs: Vec<String> = node.output.iter().filter(|name| !name.is_empty()).cloned().collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let graph = graph_of(inputs.iter().map(declare).collect(), vec![node], &outputs);
    in_opset(model_of(GraphProto { initializer, ..graph }), opset)
}

/// Every way to compute the model gives `expected`: floats within `tolerance * (1 + |expected|)`, others exactly.
#[track_caller]
fn assert_gives(model: ModelProto, inputs: &[Tensor], expected: &[Tensor], tolerance: f64) {
    let graph = import(model).unwrap();
    let mut ways = vec![("evaluator".to_owned(), evaluate(&graph, inputs, Precision::F32).unwrap())];
    for (fused, threads) in [(true, 2), (false, 1)] {
        let compiler = Compiler::new().threads(threads);
        let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
        let executable = compiler.compile(&graph.clone().into()).unwrap();
        ways.push((format!("fused {fused}, {threads} threads"), executable.run(inputs).unwrap()));
    }
    for (way, outputs) in ways {
        assert_eq!(outputs.len(), expected.len(), "{way}");
        for (i, (output, expected)) in outputs.iter().zip(expected).enumerate() {
            if let Some(difference) = difference(output, expected, expected.dtype(), tolerance) {
                panic!("{way}: output {i}: {difference}");
            }
        }
    }
}

/// Values between -1 and 1 that look random.
fn noise(shape: &[usize], seed: u64) -> Tensor {
    Tensor::random(DType::F32, shape, seed).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    common::compare::to_f64(tensor)
}

/// The tensor of a function of the index.
fn tensor_of(shape: &[usize], value: impl Fn(&[usize]) -> f64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut values = Vec::with_capacity(count);
    for flat in 0..count {
        let mut rest = flat;
        let mut index: Vec<usize> = shape.iter().rev().map(|n| (rest % n, rest /= n).0).collect();
        index.reverse();
        values.push(value(&index) as f32);
    }
    Tensor::new(shape, &values).unwrap()
}
