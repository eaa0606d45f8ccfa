//! Tests of the builder's mechanics: names, scopes, outputs, and how errors are collected.

use super::*;
use crate::error::ErrorKind;
use crate::graph::{Format, PadMode};

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(DType::F32, shape).unwrap()
}

#[test]
fn names_are_made_up_unique_and_scoped() {
    let mut g = GraphBuilder::new("names");
    let x = g.input("x", DType::F32, &[2, 4]);
    let a = g.relu(x);
    let b = g.relu(a);
    let c = g.named("act").relu(b);
    let d = g.named("act").tanh(c);
    let e = g.scope("block", |g| {
        let w = g.constant("w", zeros(&[4, 4]));
        let b = g.constant("b", zeros(&[4]));
        g.named("fc").dense(d, w, b)
    });
    g.output("y", e);
    let graph = g.build().unwrap();
    assert_eq!(names(&graph), ["relu_0", "relu_1", "act", "act_1", "block/fc/matmul", "block/fc/biasadd"]);
    assert_eq!(graph.value(graph.nodes[2].outputs[0]).name, "act");
    assert_eq!(graph.value(graph.nodes[4].inputs[1]).name, "block/w");
    assert_eq!(graph.value(graph.outputs[0]).name, "y");
}

#[test]
fn outputs_take_their_names_and_inputs_keep_theirs() {
    let mut g = GraphBuilder::new("outputs");
    let x = g.input("x", DType::F32, &[2]);
    let first = g.named("y").relu(x);
    let second = g.tanh(first);
    g.output("y", second);
    g.output("copy", x);
    g.output("again", second);
    let late = g.input("tanh_0", DType::F32, &[]);
    g.output("late", late);
    let graph = g.build().unwrap();
    let outputs: Vec<&str> = graph.outputs.iter().map(|id| graph.value(*id).name.as_str()).collect();
    assert_eq!(outputs, ["y", "copy", "again", "late"]);
    assert_eq!(graph.value(first).name, "y_1");
    assert_eq!(names(&graph), ["y", "tanh_0", "identity_0", "identity_1", "identity_2"]);
    assert_eq!(graph.value(graph.inputs[1]).name, "tanh_0");
}

#[test]
fn a_node_with_several_results_numbers_them() {
    let mut g = GraphBuilder::new("split");
    let x = g.input("x", DType::F32, &[2, 5]);
    let parts = g.split(x, 1, &[2, 3]);
    g.output("a", parts[0]);
    let graph = g.build().unwrap();
    assert_eq!(graph.value(parts[0]).name, "a");
    assert_eq!(graph.value(parts[1]).name, "split_0.1");
    assert_eq!(graph.value(parts[1]).shape, [2, 3]);
}

#[test]
fn all_errors_are_reported_and_dependents_skipped() {
    let mut g = GraphBuilder::new("bad");
    let x = g.input("x", DType::F32, &[2, 4]);
    let w = g.constant("w", zeros(&[5, 3]));
    let y = g.named("fc1").matmul(x, w);
    let skipped = g.relu(y);
    let skipped = g.flatten(skipped, 9);
    let skipped = g.conv(skipped, w, None, &Conv::default());
    let parts = g.split(skipped, 0, &[1, 2]);
    assert_eq!(parts.len(), 2);
    let z = g.transpose(x, &[0, 0]);
    g.input("x", DType::F32, &[1]);
    g.output("y", skipped);
    g.output("z", z);
    let error = g.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert_eq!(error.node(), Some("fc1"));
    assert_eq!(
        error.to_string(),
        "node 'fc1' (MatMul): 'x' f32[2, 4] and 'w' f32[5, 3] cannot be multiplied: the inner dimensions are 4 and 5\n\
         node 'transpose_0' (Transpose): [0, 0] is not a permutation of the 2 dimensions of 'x' f32[2, 4]\n\
         input 'x': the name is taken"
    );
}

#[test]
fn helpers_report_what_they_cannot_lower() {
    let message = |build: &dyn Fn(&mut GraphBuilder, ValueId) -> ValueId| {
        let mut g = GraphBuilder::new("helper");
        let x = g.input("x", DType::F32, &[1, 3, 8, 8]);
        let y = build(&mut g, x);
        g.output("y", y);
        g.build().unwrap_err().to_string()
    };
    assert_eq!(
        message(&|g, x| g.flatten(x, 5)),
        "node 'flatten_0' (Flatten): axis 5 does not exist in [1, 3, 8, 8]"
    );
    assert_eq!(
        message(&|g, x| g.named("s").squeeze(x, &[1])),
        "node 's' (Squeeze): dimension 1 of [1, 3, 8, 8] is not 1"
    );
    assert_eq!(
        message(&|g, x| g.unsqueeze(x, &[0, 0])),
        "node 'unsqueeze_0' (Unsqueeze): [0, 0] are not distinct dimensions of a result of rank 6"
    );
    assert_eq!(
        message(&|g, x| g.slice_axis(x, 4, 0, 1)),
        "node 'slice_0' (Slice): axis 4 does not exist in [1, 3, 8, 8]"
    );
    assert_eq!(
        message(&|g, x| {
            let options = Pool { kernel: vec![2, 0], padding: Padding::Same, ..Pool::default() };
            g.max_pool(x, &options)
        }),
        "node 'maxpool_0' (MaxPool): the kernel [2, 0] must have an entry of at least 1 for each of 2 spatial dimensions"
    );
    assert_eq!(
        message(&|g, x| g.add(x, ValueId(99))),
        "node 'add_0' (Add): operand 1 is not a value of this graph"
    );
    assert_eq!(
        message(&|g, _| g.conv(ValueId(99), ValueId(98), None, &Conv::default())),
        "node 'conv_0' (Conv): operand 0 is not a value of this graph"
    );
}

#[test]
fn inputs_and_outputs_are_checked() {
    let mut g = GraphBuilder::new("io");
    let x = g.input("x", DType::F32, &[usize::MAX, 8]);
    g.input("", DType::F32, &[1]);
    g.output("y", x);
    g.output("z", ValueId(77));
    assert_eq!(
        g.build().unwrap_err().to_string(),
        format!(
            "input 'x': a tensor of shape [{}, 8] is larger than the address space\n\
             an input has an empty name\n\
             output 'z': the value is not of this graph",
            usize::MAX
        )
    );
    assert_eq!(GraphBuilder::new("empty").build().unwrap_err().to_string(), "the graph has no output");
}

#[test]
fn padding_same_keeps_the_extent_and_puts_odd_elements_where_asked() {
    for (padding, begin, end) in
        [(Padding::Same, vec![1, 0], vec![1, 1]), (Padding::SameLower, vec![1, 1], vec![1, 0])]
    {
        let mut g = GraphBuilder::new("same");
        let x = g.input("x", DType::F32, &[1, 5, 6, 2]);
        let w = g.constant("w", zeros(&[4, 2, 3, 3]));
        let options = Conv { strides: vec![1, 2], padding, format: Format::ChannelsLast, ..Conv::default() };
        let y = g.conv(x, w, None, &options);
        assert_eq!(g.shape(y), [1, 5, 3, 4]);
        g.output("y", y);
        let graph = g.build().unwrap();
        let Op::Conv { window, .. } = &graph.nodes[0].op else { panic!("not a convolution") };
        assert_eq!((&window.pads_begin, &window.pads_end), (&begin, &end));
    }
}

#[test]
fn shape_helpers_lower_to_reshape() {
    let mut g = GraphBuilder::new("shapes");
    let x = g.input("x", DType::F32, &[2, 1, 3, 4]);
    let flat = g.flatten(x, 2);
    assert_eq!(g.shape(flat), [2, 12]);
    let all = g.flatten(x, 0);
    assert_eq!(g.shape(all), [1, 24]);
    let squeezed = g.squeeze(x, &[1]);
    assert_eq!(g.shape(squeezed), [2, 3, 4]);
    let unsqueezed = g.unsqueeze(squeezed, &[4, 0]);
    assert_eq!(g.shape(unsqueezed), [1, 2, 3, 4, 1]);
    let padded = g.pad(squeezed, &[0, 1, -1], &[0, 0, 2], PadMode::Constant(1.0));
    assert_eq!(g.shape(padded), [2, 4, 5]);
    g.output("y", padded);
    assert!(g.build().is_ok());
}

#[test]
fn cells_have_the_nodes_that_pytorch_exports() {
    let mut g = GraphBuilder::new("cells");
    let x = g.input("x", DType::F32, &[1, 3]);
    let h = g.input("h", DType::F32, &[1, 2]);
    let c = g.input("c", DType::F32, &[1, 2]);
    let mut weights = |gates: usize| CellWeights {
        input: g.constant("w", zeros(&[gates * 2, 3])),
        hidden: g.constant("r", zeros(&[gates * 2, 2])),
        input_bias: g.constant("b", zeros(&[gates * 2])),
        hidden_bias: g.constant("b", zeros(&[gates * 2])),
    };
    let (rnn, lstm, gru) = (weights(1), weights(4), weights(3));
    let a = g.rnn_cell(x, h, &rnn);
    let (b, d) = g.named("lstm").lstm_cell(x, h, c, &lstm);
    let e = g.gru_cell(x, h, &gru);
    for (name, id) in [("a", a), ("b", b), ("d", d), ("e", e)] {
        assert_eq!(g.shape(id), [1, 2]);
        g.output(name, id);
    }
    let graph = g.build().unwrap();
    let ops: Vec<&str> =
        graph.nodes.iter().filter(|n| n.name.starts_with("lstm/")).map(|n| n.op.name()).collect();
    assert_eq!(
        ops,
        [
            "Gemm", "Gemm", "Add", "Split", "Sigmoid", "Sigmoid", "Tanh", "Sigmoid", "Mul", "Mul", "Add",
            "Tanh", "Mul"
        ]
    );
}
