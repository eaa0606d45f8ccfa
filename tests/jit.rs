//! Compiled code against the evaluator: every case of the operator table and every zoo model, in the configurations of
//! the table, on one and on several threads.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use common::cases::{Case, op_cases};
use common::compare::difference;
use common::configurations::{self, Configuration, THREADS};
use nestjit::graph::ValueId;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::machine::Isa;
use nestjit::passes::PIPELINE;
use nestjit::{Compiler, DType, GraphBuilder, Options, Tensor, zoo};

/// What is wrong with a case, if anything is. The outputs of each configuration must agree with the evaluator, and be
/// the same bits for all these numbers of threads.
fn check(case: &Case, configurations: &[Configuration], threads: &[usize]) -> Result<(), String> {
    let expected = reference(case)?;
    let model = case.graph.clone().into();
    for configuration in configurations {
        let (outputs, _) = configurations::run(*configuration, threads, &model, &case.inputs)?;
        compare(case, &outputs, &expected).map_err(|e| format!("{configuration:?}: {e}"))?;
    }
    Ok(())
}

/// The outputs by the evaluator, in `f64`.
fn reference(case: &Case) -> Result<Vec<Tensor>, String> {
    evaluate(&case.graph, &case.inputs, Precision::F64).map_err(|e| format!("evaluator: {e}"))
}

/// An error that says where outputs are not the expected ones within the tolerance of the case.
fn compare(case: &Case, outputs: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    assert_eq!(outputs.len(), expected.len(), "{}", case.name);
    for (i, (actual, expected)) in outputs.iter().zip(expected).enumerate() {
        let dtype = case.graph.value(case.graph.outputs[i]).dtype;
        if let Some(difference) = difference(actual, expected, dtype, case.tolerance) {
            return Err(format!("output {i}: {difference}"));
        }
    }
    Ok(())
}

/// Checks all cases, several at a time, and lists all failures.
fn check_all(check: impl Fn(&Case) -> Result<(), String> + Sync) {
    let cases = op_cases();
    assert!(cases.len() > 100);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = check(case) {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(format!("{}: {e}", case.name));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn with_all_passes() {
    check_all(|case| check(case, &[Configuration::usual()], &THREADS));
}

#[test]
fn without_any_pass() {
    let names = || PIPELINE.iter().map(|pass| pass.name);
    check_all(|case| {
        let options = Options { verify_passes: true, ..Options::default() };
        let compiler = Compiler::with_options(options).threads(2).disable_passes(names());
        let executable = compiler.compile(&case.graph.clone().into()).map_err(|e| e.to_string())?;
        let outputs = executable.run(&case.inputs).map_err(|e| e.to_string())?;
        compare(case, &outputs, &reference(case)?)
    });
}

#[test]
fn a_sample_of_the_table_of_configurations() {
    check_all(|case| {
        let threads = configurations::two_numbers_of_threads(&case.name);
        check(case, &configurations::one_for_each_pass(&case.name), &threads)
    });
}

#[test]
#[ignore = "minutes in release, a step of `.ci/run --long`: every case in a hundred configurations and for five numbers of threads"]
fn any_two_choices_of_the_table_of_configurations() {
    check_all(|case| check(case, &configurations::pairwise(&case.name), &THREADS));
}

#[test]
fn any_two_choices_meet_in_the_pairwise_rows() {
    let pairs = |rows: &[Configuration]| -> BTreeSet<String> {
        let choices = |c: &Configuration| {
            [
                format!("{:?} {}", c.isa, c.vnni),
                format!("fused {}", c.fused),
                format!("{:?}", c.row_rings),
                format!("{:?}", c.without),
            ]
        };
        let pairs = |[a, b, c, d]: [String; 4]| {
            [(&a, &b), (&a, &c), (&a, &d), (&b, &c), (&b, &d), (&c, &d)].map(|(a, b)| format!("{a}, {b}"))
        };
        rows.iter().map(choices).flat_map(pairs).collect()
    };
    let all = pairs(&configurations::table());
    for name in ["gemm", "conv", "softmax"] {
        assert_eq!(pairs(&configurations::pairwise(name)), all);
    }
}

#[test]
fn zoo_models() {
    let small = zoo::list().iter().filter(|entry| entry.size == zoo::Size::Small);
    check_models(small.map(|entry| entry.name));
}

#[test]
fn networks() {
    check_models([
        "resnet18@32",
        "resnet50@32",
        "mobilenet_v2@32",
        "efficientnet_b0@32",
        "squeezenet1_1@32",
        "densenet121@32",
        "bert_minilm@8",
    ]);
}

fn check_models<'a>(names: impl IntoIterator<Item = &'a str>) {
    for name in names {
        let model = zoo::build(name).unwrap();
        let random = |id: &ValueId| {
            let value = model.graph.value(*id);
            Tensor::random(value.dtype, &value.shape, u64::from(id.0)).unwrap()
        };
        let inputs = model.graph.inputs.iter().map(random).collect();
        // Sums of many products, layer after layer; single elements are small beside what they are sums of.
        let case = Case { name: name.to_owned(), graph: model.graph, inputs, tolerance: 3e-4 };
        let usual = Configuration::usual();
        let mut configurations = vec![usual, Configuration { fused: false, ..usual }];
        configurations.extend(configurations::some(name, 2));
        let threads = configurations::two_numbers_of_threads(name);
        check(&case, &configurations, &threads).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn an_index_outside_is_an_error_whatever_it_is_fused_with() {
    let chosen: [(&str, &[i64]); 6] = [
        ("chain/product_at_index_0", &[6, -7, 99, i64::MAX, i64::MIN]),
        ("chain/product_at_index_1", &[21, -22]),
        ("chain/softmax_at_index_1", &[33, -34, 99]),
        ("chain/normalised_at_index_1", &[33, -34]),
        ("chain/row_of_product_None", &[6, -7]),
        ("chain/element_of_product", &[126, -127]),
    ];
    let cases = op_cases();
    for (name, indices) in chosen {
        let case = cases.iter().find(|c| c.name == name).unwrap();
        let at = case.inputs.iter().position(|t| t.dtype() == DType::I64).unwrap();
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            if isa > Isa::host().min(Isa::WIDEST_EMITTED) {
                continue;
            }
            for (threads, fused) in [(1, true), (2, true), (2, false)] {
                let configuration = Configuration { isa, fused, ..Configuration::usual() };
                let compiler = configuration.compiler(threads);
                let executable = compiler.compile(&case.graph.clone().into()).unwrap();
                for &index in indices {
                    let mut inputs = case.inputs.clone();
                    inputs[at] = Tensor::new(case.inputs[at].shape(), &[index]).unwrap();
                    let error =
                        executable.run(&inputs).expect_err(&format!("{name}, {index}, {configuration:?}"));
                    assert_eq!(error.kind(), nestjit::ErrorKind::Index, "{error}");
                }
            }
        }
    }
}

#[test]
fn every_pass_keeps_the_meaning() {
    for case in op_cases() {
        let options = Options { verify_passes: true, check_passes: true, ..Options::default() };
        let compiled = Compiler::with_options(options).threads(1).compile(&case.graph.into());
        if let Err(e) = compiled {
            panic!("{}: {e}", case.name);
        }
    }
}

#[test]
fn rows_that_lie_pages_apart_are_transposed() {
    // Whole runs of blocks in both directions; a remainder of rows; one of columns, too.
    for (rows, columns) in [(1024, 1088), (1043, 1024), (1027, 1030)] {
        let x = Tensor::random(DType::F32, &[rows, columns], 1).unwrap();
        let mut g = GraphBuilder::new("transpose");
        let input = g.input("x", DType::F32, &[rows, columns]);
        let y = g.transpose(input, &[1, 0]);
        g.output("y", y);
        let model = g.build().unwrap().into();
        let expected = x.view::<f32>().unwrap().t().to_owned().into_dyn();
        for isa in [Isa::Simd128, Isa::Avx512] {
            let configuration = Configuration { isa, ..Configuration::usual() };
            let (outputs, _) =
                configurations::run(configuration, &[1, 2], &model, std::slice::from_ref(&x)).unwrap();
            assert!(outputs[0].view::<f32>().unwrap() == expected, "{rows}x{columns}, {isa:?}");
        }
    }
}
