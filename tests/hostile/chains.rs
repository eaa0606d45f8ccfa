//! Models that are long: every step must take time and stack in proportion at most.

use std::time::{Duration, Instant};

use nestjit::ir::parse::parse;
use nestjit::onnx::proto::{ModelProto, NodeProto};
use nestjit::{Compiler, Executable, Tensor};

use super::common::onnx::*;

/// `nodes` nodes one after the other.
fn chain(nodes: usize, of: impl Fn(usize, &str, &str) -> NodeProto) -> ModelProto {
    let name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    let mut list: Vec<NodeProto> = (0..nodes).map(|i| of(i, &name(i), &name(i + 1))).collect();
    list.last_mut().unwrap().output = vec!["y".into()];
    model(&["4", "4"], list, vec![f32s("w", &[4, 4], &[0.25; 16])])
}

fn compile(m: ModelProto, fused: bool) -> Executable {
    let compiler = Compiler::new().threads(1);
    let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
    compiler.compile(&import(m).unwrap().into()).unwrap()
}

fn run(executable: &Executable) -> Vec<f32> {
    let x = Tensor::new(&[4, 4], &[0.5f32; 16]).unwrap();
    executable.run(&[x]).unwrap()[0].values::<f32>().unwrap().to_vec()
}

/// 10,000 elementwise operations become one expression, or a list of them; neither may be handled by recursion that is
/// as deep.
#[test]
fn expressions_do_not_overflow_the_stack() {
    let alternating = |i: usize, a: &str, b: &str| node(["Neg", "Abs", "Relu"][i % 3], &[a], &[b]);
    let growing = |_: usize, a: &str, b: &str| node("Add", &["x", a], &[b]);
    let doubling = |_: usize, a: &str, b: &str| node("Mul", &[a, a], &[b]);
    // A test's thread has 2 MB of stack, a program's main thread usually 8.
    let expected: [(&str, ModelProto, f32); 3] = [
        ("alternating", chain(10_000, alternating), -0.5),
        ("growing", chain(10_000, growing), 5000.5),
        ("doubling", chain(10_000, doubling), 0.0),
    ];
    for (what, m, value) in expected {
        let fused = compile(m, true);
        assert!(run(&fused).iter().all(|v| *v == value), "{what}: {:?}", run(&fused));
        assert!(fused.kernels() < 1000, "{what}: {} kernels", fused.kernels());
        // Printed and read back.
        assert!(parse(&fused.program().to_string()).is_ok(), "{what}");
    }
}

/// Time grows in proportion to the number of nodes: eight times as many must take less than 24 times as long.
#[test]
fn long_chains_take_time_in_proportion() {
    let seconds = |m: ModelProto, fused: bool| -> Duration {
        let start = Instant::now();
        compile(m, fused);
        start.elapsed()
    };
    let product = |_: usize, a: &str, b: &str| node("MatMul", &[a, "w"], &[b]);
    let softmax = |_: usize, a: &str, b: &str| node("Softmax", &[a], &[b]);
    for (what, short, long) in [
        ("products", chain(250, product), chain(2000, product)),
        ("softmax", chain(100, softmax), chain(800, softmax)),
    ] {
        for fused in [true, false] {
            // The best of a few: the machine may be busy with other tests.
            let best = |m: &ModelProto| (0..3).map(|_| seconds(m.clone(), fused)).min().unwrap();
            let (short, long) = (best(&short), best(&long));
            assert!(long < short * 24, "{what}, fused {fused}: {short:?} and {long:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_nodes_are_imported() {
    let m = chain(100_000, |i, a, b| node(["Neg", "Abs", "Relu"][i % 3], &[a], &[b]));
    let graph = import(m).unwrap();
    assert_eq!((graph.nodes.len(), graph.depth()), (100_000, 100_000));
}
