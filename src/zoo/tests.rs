//! Every model is alive: its outputs vary, follow its inputs and are the same each time; and the spelling with
//! the channels last computes what the other does.

use std::collections::BTreeMap;

use nestjit_ir::DType;

use crate::error::ErrorKind;
use crate::graph::{Graph, Op, Precision, Weights, evaluate, evaluate_op};
use crate::tensor::Tensor;

use super::*;

fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut weights = Weights::new(seed);
    let values = graph.inputs.iter().map(|id| graph.value(*id));
    values
        .map(|value| match value.dtype == DType::F32 {
            true => weights.uniform(&value.shape, -1.0, 1.0).unwrap(),
            false => Tensor::random(value.dtype, &value.shape, seed).unwrap(),
        })
        .collect()
}

fn of_size(size: Size) -> impl Iterator<Item = &'static ZooEntry> {
    list().iter().filter(move |entry| entry.size == size)
}

fn spread(values: &[f32]) -> (f32, f32) {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
    (mean, variance.sqrt())
}

#[test]
fn every_model_is_alive() {
    for entry in of_size(Size::Small) {
        let model = entry.build().unwrap();
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
    let names = ["squeezenet1_1@64", "mobilenet_v2@64"];
    let small = of_size(Size::Small).map(|entry| entry.name);
    for name in small.chain(names) {
        let [a, b] = [build(name).unwrap().graph, build(name).unwrap().graph];
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

/// How many operations there are of each kind.
fn counts(name: &str) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for node in build(name).unwrap().graph.nodes {
        *counts.entry(node.op.name()).or_default() += 1;
    }
    counts
}

fn parameters(graph: &Graph) -> usize {
    let trained = |name: &str| !["running_", "_ids", "scalar"].iter().any(|part| name.contains(part));
    graph.values.iter().filter(|v| trained(&v.name)).filter_map(|v| v.data.as_ref()).map(|t| t.len()).sum()
}

/// The numbers of parameters that PyTorch's models have.
#[test]
fn networks_have_the_parameters_of_their_originals() {
    let expected = [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("mobilenet_v2", 3_504_872),
        ("efficientnet_b0", 5_288_548),
        ("efficientnet_b1", 7_794_184),
        ("efficientnet_b2", 9_109_994),
        ("efficientnet_b3", 12_233_232),
        ("efficientnet_b4", 19_341_616),
        ("efficientnet_b5", 30_389_784),
        ("efficientnet_b6", 43_040_704),
        ("efficientnet_b7", 66_347_960),
        ("squeezenet1_1", 1_235_496),
        ("densenet121", 7_978_856),
        ("vit_b_16", 86_567_656),
        ("bert_minilm", 22_713_216),
    ];
    assert_eq!(of_size(Size::Network).count(), expected.len());
    for (entry, (name, count)) in of_size(Size::Network).zip(expected) {
        assert_eq!(entry.name, name);
        assert_eq!(parameters(&entry.build().unwrap().graph), count, "{name}");
    }
}

#[test]
fn networks_leave_operations_for_fusion() {
    let resnet = counts("resnet50@32");
    assert_eq!((resnet["Conv"], resnet["BatchNorm"], resnet["Relu"], resnet["Add"]), (53, 53, 49, 16));
    let mobilenet = counts("mobilenet_v2@32");
    assert_eq!((mobilenet["Conv"], mobilenet["BatchNorm"], mobilenet["Relu6"]), (52, 52, 35));
    assert_eq!(mobilenet["Add"], 10);
    let efficientnet = counts("efficientnet_b0@32");
    assert_eq!((efficientnet["Conv"], efficientnet["BatchNorm"], efficientnet["Add"]), (81, 49, 9));
    assert_eq!((efficientnet["Sigmoid"], efficientnet["Mul"]), (65, 65));
    assert_eq!(counts("densenet121@32")["Concat"], 58);
    assert_eq!(counts("squeezenet1_1@32")["Conv"], 26);
    let vit = counts("vit_b_16@32");
    assert_eq!((vit["LayerNorm"], vit["Softmax"], vit["Erf"], vit["Split"]), (25, 12, 12, 12));
    let bert = counts("bert_minilm@8");
    assert_eq!((bert["Gather"], bert["LayerNorm"], bert["Softmax"], bert["Erf"]), (3, 13, 6, 6));
}

/// A signal that is as strong behind the last layer as before the first, and still depends on the input.
#[test]
fn networks_are_alive() {
    let names = [
        "resnet18@64",
        "resnet50@64",
        "mobilenet_v2@64",
        "efficientnet_b0@64",
        "efficientnet_b2@64",
        "squeezenet1_1@64",
        "densenet121@64",
        "vit_b_16@32",
        "bert_minilm@16",
    ];
    for name in names {
        let graph = build(name).unwrap().graph;
        let [a, b] = [1, 2].map(|seed| evaluate(&graph, &inputs(&graph, seed), Precision::F32).unwrap());
        for (a, b) in a.iter().zip(&b) {
            let (a, b) = (a.values::<f32>().unwrap(), b.values::<f32>().unwrap());
            let deviation = spread(a).1;
            assert!(deviation > 0.1 && deviation < 10.0, "{name}: {deviation}");
            let differences: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            let share = spread(&differences).1 / deviation;
            assert!(share > 0.1, "{name}: inputs change {share} of the output");
        }
    }
}

#[test]
fn resolutions_are_checked() {
    let resolution = |name: &str| {
        let graph = build(name).unwrap().graph;
        (graph.name.clone(), graph.value(graph.inputs[0]).shape.clone())
    };
    assert_eq!(resolution("squeezenet1_1@96"), ("squeezenet1_1@96".to_owned(), vec![1, 3, 96, 96]));
    for (name, message) in [
        ("mlp10@64", "the built-in model 'mlp10' has one resolution only"),
        ("resnet18@", "'resnet18@': a number must follow the '@': the resolution of the network"),
        ("resnet18@-1", "'resnet18@-1': a number must follow the '@': the resolution of the network"),
        ("bert_minilm@513", "bert_minilm takes at most 512 tokens, not 513"),
    ] {
        let error = build(name).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Usage, message));
    }
    for name in [
        "squeezenet1_1@0",
        "squeezenet1_1@7",
        "vit_b_16@15",
        "resnet18@0",
        "mobilenet_v2@4611686018427387904",
    ] {
        assert!(build(name).is_err(), "{name}");
    }
}

#[test]
fn unknown_names_list_the_known() {
    let error = build("resnet\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        error.to_string(),
        format!(
            "there is no built-in model 'resnet\\n' (did you mean 'resnet18'?); there are: '{}'",
            list().iter().map(|entry| entry.name).collect::<Vec<_>>().join("', '")
        )
    );
    assert_eq!(crate::Model::zoo("mlp10").unwrap().graph.name, "mlp10");
}
