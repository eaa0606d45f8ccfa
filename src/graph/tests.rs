//! Tests of validation, queries and edits.

use nestjit_ir::DType;

use super::*;
use crate::error::ErrorKind;
use crate::tensor::Tensor;

fn diamond() -> Graph {
    let mut g = GraphBuilder::new("diamond");
    let x = g.input("x", DType::F32, &[2, 3]);
    let unused = g.input("unused", DType::F32, &[1]);
    let w = g.constant("w", Tensor::zeros(DType::F32, &[3]).unwrap());
    let left = g.named("left").add(x, w);
    let dead = g.named("dead").tanh(unused);
    g.named("dead_too").exp(dead);
    let right = g.named("right").mul(left, left);
    let parts = g.named("cut").split(right, 1, &[1, 2]);
    g.output("y", parts[1]);
    g.output("z", left);
    g.build().unwrap()
}

fn id(graph: &Graph, name: &str) -> ValueId {
    graph.value_ids().find(|id| graph.value(*id).name == name).unwrap()
}

#[test]
fn producers_and_consumers() {
    let graph = diamond();
    let (producers, consumers) = (graph.producers(), graph.consumers());
    let at = |name: &str| id(&graph, name).0 as usize;
    assert_eq!(producers[at("x")], None);
    assert_eq!(producers[at("w")], None);
    assert_eq!(producers[at("y")], Some(Port { node: 4, index: 1 }));
    assert_eq!(consumers[at("z")], [Port { node: 3, index: 0 }, Port { node: 3, index: 1 }]);
    assert_eq!(consumers[at("y")], []);
    assert!(graph.is_const(id(&graph, "w")) && !graph.is_const(id(&graph, "x")));
    assert_eq!(graph.constant(id(&graph, "w")).unwrap().shape(), [3]);
}

#[test]
fn dead_nodes_and_values_are_removed() {
    let mut graph = diamond();
    graph.add_constant("orphan", Tensor::scalar(1.0f32));
    assert_eq!(graph.remove_dead(), 2);
    graph.validate().unwrap();
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["left", "right", "cut"]);
    let values: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(values, ["x", "unused", "w", "z", "right", "cut.0", "y"]);
    assert_eq!(graph.inputs.len(), 2);
    assert_eq!(graph.value(graph.outputs[0]).name, "y");
    assert_eq!(graph.remove_dead(), 0);
}

#[test]
fn uses_are_replaced_everywhere() {
    let mut graph = diamond();
    let (left, x) = (id(&graph, "z"), id(&graph, "x"));
    graph.replace_uses(left, x);
    assert_eq!(graph.nodes[3].inputs, [x, x]);
    assert_eq!(graph.outputs[1], x);
    assert_eq!(graph.remove_dead(), 3);
    graph.validate().unwrap();
}

#[test]
fn free_names_are_found() {
    let mut graph = diamond();
    assert_eq!(graph.unique_value_name("new"), "new");
    assert_eq!(graph.unique_value_name("w"), "w_1");
    graph.add_value("w_1", DType::F32, &[]);
    assert_eq!(graph.unique_value_name("w"), "w_2");
    assert_eq!(graph.unique_node_name("left"), "left_1");
}

#[test]
fn invalid_graphs_are_found_out() {
    #[track_caller]
    fn refused(spoil: impl FnOnce(&mut Graph), message: &str) {
        let mut graph = diamond();
        graph.validate().unwrap();
        spoil(&mut graph);
        let error = graph.validate().unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_ne!(error.kind(), ErrorKind::Internal);
    }
    refused(|g| g.values[1].name = "x".into(), "two values are named 'x'");
    refused(|g| g.nodes[1].name = "left".into(), "two nodes are named 'left'");
    refused(|g| g.values[2].shape = vec![4], "the constant 'w' is declared f32[4] but holds f32[3]");
    refused(|g| g.inputs.push(g.inputs[0]), "'x' is an input, but is defined elsewhere already");
    refused(|g| g.inputs.push(ValueId(99)), "value 99 does not exist");
    refused(|g| g.outputs.push(ValueId(99)), "value 99 does not exist");
    refused(|g| g.nodes.swap(0, 3), "node 'right' (Mul): 'z' is read before anything defines it");
    refused(
        |g| g.nodes[0].outputs[0] = g.inputs[0],
        "node 'left' (Add): 'x' is a result, but is defined elsewhere already",
    );
    refused(|g| g.nodes[0].inputs.truncate(1), "node 'left' (Add): takes 2 operands, but 1 was given");
    refused(
        |g| g.nodes[0].op = Op::Binary(Binary::Lt),
        "node 'left' (Less): the results are [(Bool, [2, 3])], but other types or shapes are recorded",
    );
    refused(
        |g| {
            g.nodes.truncate(4);
        },
        "'y' is read before anything defines it",
    );
    refused(
        |g| g.values[0].shape = vec![usize::MAX, 2],
        &format!("a tensor of shape [{}, 2] is larger than the address space", usize::MAX),
    );
}

#[test]
fn the_depth_is_that_of_the_longest_way() {
    let mut g = GraphBuilder::new("depth");
    let x = g.input("x", DType::F32, &[2]);
    let a = g.relu(x);
    let b = g.neg(a);
    let y = g.add(b, x);
    g.output("y", y);
    assert_eq!(g.build().unwrap().depth(), 3);
    assert_eq!(Graph::default().depth(), 0);
}
