//! Every model is alive: its outputs vary, follow its inputs and are the same each time; and the spelling with
//! the channels last computes what the other does.

use crate::error::ErrorKind;
use crate::graph::{Graph, Op, Precision, Weights, evaluate, evaluate_op};
use crate::tensor::Tensor;

use super::*;

fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut weights = Weights::new(seed);
    let shapes = graph.inputs.iter().map(|id| &graph.value(*id).shape);
    shapes.map(|shape| weights.uniform(shape, -1.0, 1.0).unwrap()).collect()
}

fn spread(values: &[f32]) -> (f32, f32) {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
    (mean, variance.sqrt())
}

#[test]
fn every_model_is_alive() {
    for entry in list() {
        let model = (entry.build)().unwrap();
        assert_eq!(model.graph.name, entry.name);
        let first = inputs(&model.graph, 1);
        let outputs = evaluate(&model.graph, &first, Precision::F32).unwrap();
        assert_eq!(outputs.len(), model.graph.outputs.len());
        for output in &outputs {
            let values = output.values::<f32>().unwrap();
            let (mean, deviation) = spread(values);
            assert!(values.iter().all(|v| v.is_finite()), "{}", entry.name);
            assert!(deviation > 0.03 && deviation < 30.0, "{}: {mean} +- {deviation}", entry.name);
        }
        // Every input matters to every output.
        let second = inputs(&model.graph, 2);
        for i in 0..first.len() {
            let mut changed = first.clone();
            changed[i] = second[i].clone();
            let others = evaluate(&model.graph, &changed, Precision::F32).unwrap();
            for (output, other) in outputs.iter().zip(&others) {
                let pairs = output.values::<f32>().unwrap().iter().zip(other.values::<f32>().unwrap());
                let differences: Vec<f32> = pairs.map(|(a, b)| a - b).collect();
                assert!(spread(&differences).1 > 0.01, "{}: input {i} hardly matters", entry.name);
            }
        }
    }
}

#[test]
fn models_are_reproducible() {
    for entry in list() {
        let [a, b] = [(entry.build)().unwrap().graph, (entry.build)().unwrap().graph];
        for (a, b) in a.values.iter().zip(&b.values) {
            assert_eq!((&a.name, &a.data), (&b.name, &b.data));
        }
    }
}

/// `[N, C, S..]` as `[N, S.., C]`.
fn to_channels_last(tensor: &Tensor) -> Tensor {
    let rank = tensor.shape().len();
    let perm = [0].into_iter().chain(2..rank).chain([1]).collect();
    evaluate_op(&Op::Transpose { perm }, std::slice::from_ref(tensor)).unwrap().remove(0)
}

#[test]
fn channels_last_computes_the_same() {
    let names: Vec<&str> = list().iter().filter_map(|e| e.name.strip_suffix("_nhwc")).collect();
    assert_eq!(names, ["weenet", "conv_swish", "conv_squeeze_bias", "conv_bn_side_relu"]);
    for name in names {
        let (first, last) = (build(name).unwrap().graph, build(&format!("{name}_nhwc")).unwrap().graph);
        let given = inputs(&first, 3);
        let transposed: Vec<Tensor> = given.iter().map(to_channels_last).collect();
        let expected = evaluate(&first, &given, Precision::F64).unwrap();
        let actual = evaluate(&last, &transposed, Precision::F64).unwrap();
        for (expected, actual) in expected.iter().map(to_channels_last).zip(&actual) {
            assert_eq!(expected.shape(), actual.shape());
            let pairs = expected.values::<f64>().unwrap().iter().zip(actual.values::<f64>().unwrap());
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-12), "{name}");
        }
    }
}

#[test]
fn operations_are_left_for_fusion() {
    let ops = |name: &str| -> Vec<&'static str> {
        build(name).unwrap().graph.nodes.iter().map(|n| n.op.name()).collect()
    };
    let mlp = ops("mlp10");
    assert_eq!(mlp.len(), 33);
    assert_eq!(mlp[..3], ["MatMul", "BiasAdd", "Relu"]);
    assert_eq!(mlp[30..], ["MatMul", "BiasAdd", "Softmax"]);
    assert_eq!(ops("weenet"), ["Conv", "BatchNorm", "Relu"]);
    assert_eq!(ops("tvm_dw"), ["Conv", "BatchNorm", "Relu"]);
    assert_eq!(ops("conv_swish")[..4], ["Conv", "BiasAdd", "Sigmoid", "Mul"]);
    assert_eq!(ops("conv_squeeze_bias"), ["Conv", "Reshape", "BiasAdd"]);
    assert_eq!(ops("conv_bn_side_relu"), ["Conv", "BatchNorm", "Add", "Relu"]);
    assert_eq!(ops("rnn_cell"), ["Gemm", "Gemm", "Add", "Tanh"]);
}

#[test]
fn unknown_names_list_the_known() {
    let error = build("resnet\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        error.to_string(),
        "there is no built-in model 'resnet\\n'; there are: mlp10, weenet, weenet_nhwc, weenet_conv, tvm_conv, \
         tvm_dw, rnn_cell, lstm_cell, lstm_seq, conv_swish, conv_swish_nhwc, conv_squeeze_bias, \
         conv_squeeze_bias_nhwc, conv_bn_side_relu, conv_bn_side_relu_nhwc"
    );
    assert_eq!(crate::Model::zoo("mlp10").unwrap().graph.name, "mlp10");
}
