//! Compiled code against the evaluator: every case of the operator table and every zoo model, with all
//! passes, without each of them, with none of them, on one and on several threads.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use common::cases::{Case, op_cases};
use common::compare::difference;
use nestjit::graph::ValueId;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::passes::PIPELINE;
use nestjit::target::Isa;
use nestjit::{Compiler, DType, GraphBuilder, Options, Tensor, zoo};

/// A way to compile.
#[derive(Clone, Debug)]
struct Setting {
    threads: usize,
    disabled: Vec<&'static str>,
}

impl Setting {
    fn compiler(&self) -> Compiler {
        Compiler::with_options(Options { verify_passes: true, ..Options::default() })
            .threads(self.threads)
            .disable_passes(&self.disabled)
    }
}

fn all_passes(threads: usize) -> Setting {
    Setting { threads, disabled: Vec::new() }
}

fn pass_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = PIPELINE.iter().map(|pass| pass.name).collect();
    names.dedup();
    names
}

/// What is wrong with a case, if anything is. The outputs of each setting must agree with the evaluator, and
/// those of two settings that differ in their threads only must be the same bit by bit.
fn check(case: &Case, settings: &[Setting]) -> Result<(), String> {
    let expected =
        evaluate(&case.graph, &case.inputs, Precision::F64).map_err(|e| format!("evaluator: {e}"))?;
    let model = case.graph.clone().into();
    let mut known: Vec<(&[&str], Vec<Tensor>)> = Vec::new();
    for setting in settings {
        let executable = setting.compiler().compile(&model).map_err(|e| format!("{setting:?}: {e}"))?;
        let outputs = executable.run(&case.inputs).map_err(|e| format!("{setting:?}: {e}"))?;
        for (i, (actual, expected)) in outputs.iter().zip(&expected).enumerate() {
            let dtype = case.graph.value(case.graph.outputs[i]).dtype;
            if let Some(difference) = difference(actual, expected, dtype, case.tolerance) {
                return Err(format!("{setting:?}: output {i}: {difference}"));
            }
        }
        match known.iter().find(|(disabled, _)| *disabled == setting.disabled) {
            Some((_, others)) if *others != outputs => {
                return Err(format!("{setting:?}: other bits than with another number of threads"));
            }
            Some(_) => {}
            None => known.push((&setting.disabled, outputs)),
        }
    }
    Ok(())
}

/// Checks all cases, several at a time, and lists all failures.
fn check_all(settings: &[Setting]) {
    let cases = op_cases();
    assert!(cases.len() > 100);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = check(case, settings) {
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
    check_all(&[all_passes(1), all_passes(2), all_passes(3)]);
}

#[test]
fn without_any_pass() {
    check_all(&[Setting { threads: 1, disabled: pass_names() }]);
}

#[test]
fn without_each_pass() {
    let without = |name| Setting { threads: 1, disabled: vec![name] };
    check_all(&pass_names().into_iter().map(without).collect::<Vec<_>>());
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
        let fusion = pass_names().into_iter().filter(|name| *name == "OpFusion").collect();
        let unfused = Setting { threads: 1, disabled: fusion };
        check(&case, &[all_passes(1), all_passes(2), unfused]).unwrap_or_else(|e| panic!("{name}: {e}"));
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
            let fusion = vec!["OpFusion"];
            for setting in [all_passes(1), all_passes(2), Setting { threads: 2, disabled: fusion }] {
                let executable = setting.compiler().isa(isa).compile(&case.graph.clone().into()).unwrap();
                for &index in indices {
                    let mut inputs = case.inputs.clone();
                    inputs[at] = Tensor::new(case.inputs[at].shape(), &[index]).unwrap();
                    let error = executable.run(&inputs).expect_err(&format!("{name}, {index}, {setting:?}"));
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
        for isa in [Isa::Simd128, Isa::host()] {
            for setting in [all_passes(1), all_passes(2)] {
                let executable = setting.compiler().isa(isa).compile(&model).unwrap();
                let outputs = executable.run(std::slice::from_ref(&x)).unwrap();
                assert!(outputs[0].view::<f32>().unwrap() == expected, "{rows}x{columns}, {isa:?}");
            }
        }
    }
}
