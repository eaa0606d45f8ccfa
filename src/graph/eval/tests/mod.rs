//! Golden values computed by hand, and identities between operations. Every evaluation also compares what it
//! yields with what inference says.

use std::slice::from_ref;

use super::*;
use crate::graph::{Binary, GraphBuilder, Unary};

mod arithmetic;
mod empty;
mod movement;
mod neural;
mod recurrent;

fn t(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

fn ints(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

/// The only result of an operation.
#[track_caller]
fn eval(op: Op, inputs: &[Tensor]) -> Tensor {
    let mut results = evaluate_op(&op, inputs).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

#[track_caller]
fn assert_close(actual: &Tensor, shape: &[usize], expected: &[f32]) {
    assert_eq!(actual.shape(), shape);
    for (a, e) in actual.values::<f32>().unwrap().iter().zip(expected) {
        let same = a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan());
        assert!(same || (a - e).abs() <= 1e-6 * e.abs().max(1.0), "{actual:?}: {a} instead of {e}");
    }
}

/// `count` values that look random, in -1 .. 1.
fn noise(shape: &[usize], seed: u32) -> Tensor {
    let count: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    t(shape, &(0..count).map(|_| next()).collect::<Vec<_>>())
}

#[test]
fn graphs_are_evaluated_in_both_precisions() {
    let mut g = GraphBuilder::new("thirds");
    let x = g.input("x", DType::F32, &[1]);
    let three = g.scalar_like(x, 3.0);
    let third = g.div(x, three);
    let back = g.mul(third, three);
    let rest = g.sub(back, x);
    g.output("third", third);
    g.output("rest", rest);
    let graph = g.build().unwrap();
    let single = evaluate(&graph, &[t(&[1], &[10.0])], Precision::F32).unwrap();
    assert_eq!(single[0].values::<f32>().unwrap(), [10.0 / 3.0]);
    let double = evaluate(&graph, &[t(&[1], &[10.0])], Precision::F64).unwrap();
    assert_eq!(double[0].values::<f64>().unwrap(), [10.0 / 3.0]);
    let exact = Tensor::new(&[1], &[0.1f64]).unwrap();
    let double = evaluate(&graph, &[exact], Precision::F64).unwrap();
    assert_eq!(double[0].values::<f64>().unwrap(), [0.1 / 3.0]);
}

#[test]
fn outputs_may_be_inputs_constants_and_repeated() {
    let mut graph = Graph::new("direct");
    let x = graph.add_value("x", DType::F32, &[]);
    graph.inputs.push(x);
    let c = graph.add_constant("c", ints(&[], &[7]));
    graph.outputs = vec![x, c, x];
    let outputs = evaluate(&graph, &[Tensor::scalar(2.5f32)], Precision::F32).unwrap();
    assert_eq!(outputs, [Tensor::scalar(2.5f32), Tensor::scalar(7i64), Tensor::scalar(2.5f32)]);
}

#[test]
fn wrong_inputs_are_errors() {
    let mut g = GraphBuilder::new("inputs");
    let x = g.input("x", DType::F32, &[2]);
    let indices = g.input("i", DType::I64, &[1]);
    let y = g.gather(x, indices, 0);
    g.output("y", y);
    let graph = g.build().unwrap();
    let message = |inputs: &[Tensor]| evaluate(&graph, inputs, Precision::F32).unwrap_err().to_string();
    let x = t(&[2], &[1.0, 2.0]);
    assert_eq!(message(from_ref(&x)), "2 inputs are needed, but 1 given");
    assert_eq!(message(&[t(&[1], &[1.0]), ints(&[1], &[0])]), "input 'x' is f32[2], but f32[1] was given");
    assert_eq!(message(&[x.clone(), x.clone()]), "input 'i' is i64[1], but f32[2] was given");
    assert_eq!(
        message(&[Tensor::new(&[2], &[1.0f64, 2.0]).unwrap(), ints(&[1], &[0])]),
        "input 'x' is f32[2], but f64[2] was given"
    );
    assert_eq!(
        message(&[x.clone(), ints(&[1], &[2])]),
        "node 'gather_0' (Gather): the index 2 in 'i' is outside 0..2 (or -2..0, counted from the end)"
    );
    assert_eq!(
        message(&[x, ints(&[1], &[i64::MIN])]),
        format!(
            "node 'gather_0' (Gather): the index {} in 'i' is outside 0..2 (or -2..0, counted from the end)",
            i64::MIN
        )
    );
}
