//! Random graphs: whatever the shapes and the order of operations, compiled code agrees with the evaluator in every
//! configuration, with the same bits for every number of threads, and no pass changes what is computed.

#[path = "../common/compare.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod compare;
#[path = "../common/configurations.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod configurations;
mod make;
mod reach;

use std::ops::Range;

use compare::to_f64;
use configurations::{Configuration, THREADS};
use make::random_graph;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Graph, ValueId};
use nestjit::{Compiler, Executable, Options, RowRings, Tensor};
use reach::Reach;

/// Graphs whose programs are interpreted after each pass have at most this many elements in any value.
const MAX_INTERPRETED: usize = 4_000;

/// Compiles in each configuration and compares; `seen` is told what came out.
fn check(
    graph: &Graph,
    configurations: &[Configuration],
    threads: &[usize],
    seen: &mut dyn FnMut(&Executable),
) -> Result<(), String> {
    let random = |id: &ValueId| {
        let value = graph.value(*id);
        Tensor::random(value.dtype, &value.shape, u64::from(id.0)).unwrap()
    };
    let inputs: Vec<Tensor> = graph.inputs.iter().map(random).collect();
    // What is rounded to a half is a step away from what it would be otherwise.
    let rounds = graph.values.iter().any(|value| value.dtype.is_float() && value.dtype.size() == 2);
    let precision = if rounds { Precision::F32 } else { Precision::F64 };
    let expected = evaluate(graph, &inputs, precision).map_err(|e| format!("evaluator: {e}"))?;
    let model = graph.clone().into();
    for configuration in configurations {
        let (outputs, executable) = configurations::run(*configuration, threads, &model, &inputs)?;
        seen(&executable);
        for (i, (actual, expected)) in outputs.iter().zip(&expected).enumerate() {
            let exact = !graph.value(graph.outputs[i]).dtype.is_float();
            let (actual, expected) = (to_f64(actual), to_f64(expected));
            let largest = expected.iter().fold(1.0f64, |m, e| m.max(e.abs()));
            let limit = if exact { 0.0 } else { 1e-4 * largest };
            for (a, e) in actual.iter().zip(&expected) {
                if (a - e).abs() > limit || a.is_nan() != e.is_nan() {
                    return Err(format!("{configuration:?}: output {i} has {a} instead of {e}"));
                }
            }
        }
    }
    if graph.values.iter().all(|value| value.shape.iter().product::<usize>() <= MAX_INTERPRETED) {
        let options = Options { verify_passes: true, check_passes: true, ..Options::default() };
        Compiler::with_options(options)
            .threads(1)
            .compile(&model)
            .map_err(|e| format!("interpreted: {e}"))?;
    }
    Ok(())
}

fn check_seeds(
    seeds: Range<u64>,
    rows: impl Fn(&str) -> Vec<Configuration>,
    threads: impl Fn(&str) -> Vec<usize>,
) -> Reach {
    const STEPS: usize = 12;
    let mut reach = Reach::default();
    let mut failures: Vec<String> = Vec::new();
    for seed in seeds {
        let name = format!("graph {seed}");
        let (rows, threads) = (rows(&name), threads(&name));
        let check = |graph: &Graph, seen: &mut dyn FnMut(&Executable)| check(graph, &rows, &threads, seen);
        if check(&random_graph(seed, STEPS), &mut |executable| reach.see(executable)).is_ok() {
            continue;
        }
        // The smallest part that fails is easier to understand.
        let fails = |steps| {
            let graph = random_graph(seed, steps);
            check(&graph, &mut |_| {}).err().map(|e| (graph, e))
        };
        let (graph, error) = (1..=STEPS).find_map(fails).expect("the whole graph fails");
        failures.push(format!("seed {seed}: {error}\n{graph}"));
    }
    assert!(failures.is_empty(), "{} graphs fail\n{}", failures.len(), failures.join("\n"));
    reach
}

#[test]
fn compiled_code_agrees_with_the_evaluator() {
    let rows = |name: &str| {
        let rings = Configuration { row_rings: RowRings::On, ..Configuration::usual() };
        let mut rows = vec![Configuration::usual(), rings];
        rows.extend(configurations::some(name, 4));
        rows
    };
    let reach = check_seeds(0..60, rows, |name| configurations::two_numbers_of_threads(name).to_vec());
    assert_eq!(reach.missing(), [] as [&str; 0]);
}

#[test]
#[ignore = "minutes in release, a step of `.ci/run --long`: more graphs, more configurations"]
fn many_more_graphs() {
    check_seeds(60..1060, configurations::one_for_each_pass, |_| THREADS.to_vec());
}
