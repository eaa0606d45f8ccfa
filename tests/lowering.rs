//! Every case of the table is lowered and interpreted, and agrees with the evaluator.

mod common;

use std::collections::HashSet;

use common::cases::{Case, op_cases};
use common::compare::difference;
use common::interpreted::interpret_unit;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::ir::interp::Mode;
use nestjit::ir::verify::{Stage, verify};
use nestjit::lower::lower;

/// What is wrong with a case in a mode, if anything is.
fn check(case: &Case, mode: Mode, tolerance: f64) -> Result<(), String> {
    let expected =
        evaluate(&case.graph, &case.inputs, Precision::F64).map_err(|e| format!("evaluator: {e}"))?;
    let unit = lower(&case.graph).map_err(|e| format!("lowering: {e}"))?;
    if let Some(error) = verify(&unit.program, Stage::Lowered).first() {
        return Err(format!("verifier: {error}"));
    }
    let actual = interpret_unit(&unit, &case.inputs, mode).map_err(|e| format!("interpreter: {e}"))?;
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
    assert_eq!(ops.len(), 30);
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
