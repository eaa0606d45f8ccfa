//! Every case of the table is lowered and interpreted, and agrees with the evaluator.

mod common;

use std::collections::HashSet;

use common::cases::{Case, op_cases};
use common::compare::difference;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Direction, GraphBuilder, Op, RecurrentKind, Unary};
use nestjit::interpret::interpret;
use nestjit::ir::interp::Mode;
use nestjit::ir::parse::parse;
use nestjit::ir::verify::{Stage, verify};
use nestjit::lower::lower;
use nestjit::{DType, ErrorKind, Tensor};

/// What is wrong with a case in a mode, if anything is.
fn check(case: &Case, mode: Mode, tolerance: f64) -> Result<(), String> {
    let expected =
        evaluate(&case.graph, &case.inputs, Precision::F64).map_err(|e| format!("evaluator: {e}"))?;
    let unit = lower(&case.graph).map_err(|e| format!("lowering: {e}"))?;
    if let Some(error) = verify(&unit.program, Stage::Lowered).first() {
        return Err(format!("verifier: {error}"));
    }
    let actual = interpret(&unit, &case.inputs, mode).map_err(|e| format!("interpreter: {e}"))?;
    for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        let dtype = case.graph.value(case.graph.outputs[i]).dtype;
        if let Some(difference) = difference(actual, expected, dtype, tolerance) {
            return Err(format!("output {i} in mode {mode:?}: {difference}"));
        }
    }
    Ok(())
}

fn check_all(mode: Mode, tolerance: impl Fn(&Case) -> f64) {
    let failures: Vec<String> = op_cases()
        .iter()
        .filter_map(|case| check(case, mode, tolerance(case)).err().map(|e| format!("{}: {e}", case.name)))
        .collect();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_table_covers_every_operation_and_names_are_unique() {
    let cases = op_cases();
    let mut names = HashSet::new();
    let repeated: Vec<&str> = cases.iter().map(|c| c.name.as_str()).filter(|n| !names.insert(*n)).collect();
    assert_eq!(repeated, [] as [&str; 0]);
    let ops: HashSet<_> =
        cases.iter().flat_map(|c| &c.graph.nodes).map(|n| std::mem::discriminant(&n.op)).collect();
    // As many as there are variants of `Op`.
    assert_eq!(ops.len(), 35);
}

#[test]
fn exact_interpretation_agrees_with_the_evaluator() {
    check_all(Mode::Exact, |case| case.tolerance);
}

#[test]
fn interpretation_in_f64_agrees_with_the_evaluator_closely() {
    // Literals and tables of an f32 graph are rounded to f32; nothing else is.
    check_all(Mode::F64, |_| 2e-6);
}

#[test]
fn lowered_programs_are_read_back_as_they_were_printed() {
    for case in op_cases() {
        let program = lower(&case.graph).unwrap().program;
        let text = program.to_string();
        let read = parse(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", case.name));
        assert_eq!(read, program.canonical(), "{}\n{text}", case.name);
    }
}

/// Rows of a `[3, 2]` table, the index being an input or a constant.
fn gather_row(index: i64, constant: bool) -> nestjit::Result<Vec<Tensor>> {
    let mut g = GraphBuilder::new("gather");
    let table = g.input("table", DType::F32, &[3, 2]);
    let indices = Tensor::new(&[1], &[index]).unwrap();
    let i = if constant { g.constant("i", &indices) } else { g.input("i", DType::I64, &[1]) };
    let y = g.gather(table, i, 0);
    g.output("y", y);
    let unit = lower(&g.build().unwrap()).unwrap();
    let mut inputs = vec![Tensor::new(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()];
    if !constant {
        inputs.push(indices);
    }
    interpret(&unit, &inputs, Mode::Exact)
}

#[test]
fn indices_outside_are_an_error_of_the_run() {
    for constant in [false, true] {
        assert_eq!(gather_row(-3, constant).unwrap()[0].values::<f32>().unwrap(), [1.0, 2.0]);
        for index in [3, -4, i64::MAX, i64::MIN] {
            let error = gather_row(index, constant).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Index, "{index}: {error}");
        }
    }
}

#[test]
fn a_graph_that_contradicts_itself_is_an_error_that_names_the_node() {
    let mut g = GraphBuilder::new("test");
    let x = g.input("x", DType::F32, &[2, 3]);
    let y = g.node("activation", Op::Unary(Unary::Relu), &[x])[0];
    g.output("y", y);
    let mut graph = g.build().unwrap();
    graph.value_mut(y).shape = vec![3, 2];
    let error = lower(&graph).unwrap_err();
    assert_eq!((error.node(), error.op()), (Some("activation"), Some("Relu")));
}

#[test]
fn an_intermediate_result_that_cannot_be_addressed_is_an_error() {
    // The states take 2^60 bytes, the products with the input four times as many.
    let mut g = GraphBuilder::new("test");
    let x = g.input("x", DType::F32, &[1 << 30, 1 << 28, 0]);
    let (w, r) = (g.input("w", DType::F32, &[1, 4, 0]), g.input("r", DType::F32, &[1, 4, 1]));
    let op = Op::Recurrent {
        kind: RecurrentKind::Lstm,
        hidden: 1,
        direction: Direction::Forward,
        activations: vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
        clip: None,
    };
    let y = g.node("layer", op, &[x, w, r])[0];
    g.output("y", y);
    let error = lower(&g.build().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::Limit, Some("layer")));
}
