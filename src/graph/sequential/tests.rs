//! Sequential against the functional builder, its layers' shapes, and its errors.

use super::*;
use crate::graph::{Precision, evaluate};

fn ops(model: &Model) -> Vec<(&str, &str)> {
    model.graph.nodes.iter().map(|n| (n.name.as_str(), n.op.name())).collect()
}

fn output_shape(sequential: Sequential) -> Vec<usize> {
    let model = sequential.build().unwrap();
    model.graph.value(model.graph.outputs[0]).shape.clone()
}

#[test]
fn layers_are_separate_operations() {
    let model = Sequential::new(&[2, 6])
        .dense(4, Activation::Relu)
        .dropout()
        .dense(3, Activation::Swish)
        .softmax()
        .build()
        .unwrap();
    assert_eq!(
        ops(&model),
        [
            ("dense/matmul", "MatMul"),
            ("dense/biasadd", "BiasAdd"),
            ("dense/relu", "Relu"),
            ("dropout/dropout", "Dropout"),
            ("dense_1/matmul", "MatMul"),
            ("dense_1/biasadd", "BiasAdd"),
            ("dense_1/sigmoid", "Sigmoid"),
            ("dense_1/mul", "Mul"),
            ("softmax/softmax", "Softmax"),
        ]
    );
}

#[test]
fn it_computes_what_the_functional_builder_does() {
    let sequential = Sequential::new(&[1, 3, 6, 6])
        .seed(7)
        .conv2d(Conv2dLayer::new(4, [3, 3]).padding(Padding::Same).activation(Activation::Relu))
        .batch_norm()
        .max_pool2d([2, 2])
        .flatten()
        .dense(5, Activation::Tanh)
        .build()
        .unwrap();

    let mut w = Weights::new(7);
    let mut g = GraphBuilder::new("functional");
    let x = g.input("x", DType::F32, &[1, 3, 6, 6]);
    let kernel = w.layer(&[4, 3, 3, 3], 27, 36, Activation::Relu).unwrap();
    let bias = w.bias(4).unwrap();
    let (kernel, bias) = (g.constant("kernel", kernel), g.constant("bias", bias));
    let y = g.conv2d(x, kernel, Some(bias), Conv2d { padding: Padding::Same, ..Conv2d::default() });
    let y = g.relu(y);
    let parameters = w.batch_norm(4).unwrap().map(|tensor| g.constant("parameter", tensor));
    let y = g.batch_norm(y, parameters, EPSILON, Format::ChannelsFirst);
    let y = g.max_pool(y, &Pool::new(&[2, 2]));
    let y = g.flatten(y, 1);
    let kernel = w.layer(&[36, 5], 36, 5, Activation::Tanh).unwrap();
    let bias = w.bias(5).unwrap();
    let (kernel, bias) = (g.constant("kernel", kernel), g.constant("bias", bias));
    let y = g.dense(y, kernel, bias);
    let y = g.tanh(y);
    g.output("y", y);
    let functional = g.build().unwrap();

    let x = w.uniform(&[1, 3, 6, 6], -1.0, 1.0).unwrap();
    let a = evaluate(&sequential.graph, std::slice::from_ref(&x), Precision::F64).unwrap();
    let b = evaluate(&functional, &[x], Precision::F64).unwrap();
    assert_eq!(a, b);
    assert!(a[0].values::<f64>().unwrap().iter().any(|v| v.abs() > 0.1));
}

#[test]
fn seeds_decide_the_weights() {
    let model = |seed| Sequential::new(&[1, 8]).seed(seed).dense(8, Activation::Relu).build().unwrap();
    let kernel = |model: &Model| model.graph.constant(model.graph.nodes[0].inputs[1]).unwrap().clone();
    assert_eq!(kernel(&model(1)), kernel(&model(1)));
    assert_ne!(kernel(&model(1)), kernel(&model(2)));
    // Pinned: the weights of a seed must not change between releases.
    let values = Weights::new(42).uniform(&[2], -1.0, 1.0).unwrap();
    assert_eq!(values.values::<f32>().unwrap(), [-0.5518385, 0.3637923]);
}

#[test]
fn layers_have_the_shapes_of_keras() {
    let first = || Sequential::new(&[2, 8, 16, 12]);
    let last = || Sequential::new(&[2, 16, 12, 8]).format(Format::ChannelsLast);
    assert_eq!(output_shape(first().conv2d((6, [3, 5]))), [2, 6, 14, 8]);
    assert_eq!(output_shape(last().conv2d((6, [3, 5]))), [2, 14, 8, 6]);
    let strided = || {
        let layer = Conv2dLayer::new(6, [3, 3]).stride([2, 2]).dilation([1, 1]).groups(2);
        layer.padding(Padding::Same).no_bias()
    };
    assert_eq!(output_shape(first().conv2d(strided())), [2, 6, 8, 6]);
    assert_eq!(output_shape(last().conv2d(strided())), [2, 8, 6, 6]);
    assert_eq!(output_shape(first().depthwise_conv2d([3, 3])), [2, 8, 14, 10]);
    assert_eq!(output_shape(last().depthwise_conv2d((3, [1, 1]))), [2, 16, 12, 24]);
    assert_eq!(output_shape(last().batch_norm().avg_pool2d([2, 3])), [2, 8, 4, 8]);
    assert_eq!(output_shape(last().global_avg_pool()), [2, 8]);
    assert_eq!(output_shape(first().global_avg_pool().layer_norm()), [2, 8]);
    assert_eq!(output_shape(first().flatten().reshape(&[4, 768]).activation(Activation::Selu)), [4, 768]);
}

#[test]
fn errors_name_the_layer_and_stop_the_stack() {
    let message = |s: Sequential| s.build().unwrap_err().to_string();
    assert_eq!(
        message(Sequential::new(&[1, 3, 2, 2]).conv2d((4, [3, 3])).batch_norm().dense(5, Activation::Relu)),
        "node 'conv2d/conv' (Conv): the window's extent 3 is larger than the padded input's 2 in spatial dimension 0"
    );
    assert_eq!(
        message(Sequential::new(&[4]).conv2d((4, [3, 3]))),
        "node 'conv2d' (conv2d): [4] has no channel dimension"
    );
    assert_eq!(
        message(Sequential::new(&[]).dense(4, Activation::Relu)),
        "node 'dense' (dense): a layer needs at least 1 dimension"
    );
    assert_eq!(
        message(Sequential::new(&[1, 5, 8, 8]).conv2d(Conv2dLayer::new(4, [3, 3]).groups(2))),
        "node 'conv2d/conv' (Conv): 2 groups do not divide 5 input channels"
    );
    let error = Sequential::new(&[1, 1 << 40]).dense(1 << 40, Activation::Relu).build().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit);
    assert_eq!(error.node(), Some("dense"));
}
