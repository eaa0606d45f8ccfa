//! Running compiled programs: results, threads, callers, errors. The programs are written as text, so that
//! nothing but the back end of the compiler is involved.

use std::thread;

use ndarray::{Array, Array1, Array2, ArrayView2};
use nestjit::ir::parse::parse;
use nestjit::machine::Isa;
use nestjit::passes::PIPELINE;
use nestjit::unit::Unit;
use nestjit::{Compiler, DType, ErrorKind, Executable, Options, Tensor, TensorView};

/// `y = x * w + sum(x of the row)`, in two parallel nests with a temporary between them.
const TWO_STEPS: &str = "
nest @sums(in %x: f32[100,8], temp %t: f32[100]) {
  for n < 100 parallel {
    temp %s: f32[]
    %s = 0.0
    for c < 8 { %s += %x[n,c] }
    %t[n] = %s
  }
}
nest @scale(in %x: f32[100,8], const %w: f32[8], temp %t: f32[100], out %y: f32[100,8]) {
  for n < 100 parallel { for c < 8 { %y[n,c] = %x[n,c] * %w[c] + %t[n] } }
}
";

/// `y[i] = x[indices[i]]`
const GATHER: &str = "
nest @gather(in %x: f32[4], in %indices: i64[3], out %y: f32[3]) {
  for i < 3 { %y[i] = %x[(%indices[i])] }
}
";

fn w() -> Tensor {
    Tensor::from(Array::linspace(1.0f32, 2.0, 8))
}

fn x() -> Array2<f32> {
    Array::from_shape_fn((100, 8), |(n, c)| (n * 8 + c) as f32 / 64.0 - 5.0)
}

fn expected() -> Array2<f32> {
    let (x, w) = (x(), Array::linspace(1.0f32, 2.0, 8));
    Array::from_shape_fn((100, 8), |(n, c)| {
        let sum = (0..8).fold(0.0f32, |sum, c| sum + x[[n, c]]);
        x[[n, c]] * w[c] + sum
    })
}

/// A compiler that no environment variable influences.
fn compiler() -> Compiler {
    Compiler::with_options(Options::default()).threads(1)
}

/// What must be switched off to keep two nests two nests.
fn fusion() -> impl Iterator<Item = &'static str> {
    PIPELINE.iter().map(|pass| pass.name).filter(|name| *name == "OpFusion")
}

fn two_steps(compiler: &Compiler) -> Executable {
    two_steps_or_error(compiler).unwrap()
}

fn two_steps_or_error(compiler: &Compiler) -> nestjit::Result<Executable> {
    let unit = Unit::from_program(parse(TWO_STEPS).unwrap(), [("w", w())]).unwrap();
    compiler.compile_unit("two_steps", unit)
}

fn assert_close(y: &Tensor, expected: &Array2<f32>) {
    for (y, e) in y.values::<f32>().unwrap().iter().zip(expected) {
        assert!((y - e).abs() <= 1e-5 * e.abs().max(1.0), "{y} instead of {e}");
    }
}

#[test]
fn results_are_the_same_for_every_number_of_threads() {
    let one = two_steps(&compiler()).run(&[x()]).unwrap();
    assert_close(&one[0], &expected());
    for threads in [2, 3, 7] {
        let executable = two_steps(&compiler().threads(threads));
        assert_eq!(executable.threads(), threads);
        for _ in 0..100 {
            assert_eq!(executable.run(&[x()]).unwrap(), one, "{threads} threads");
        }
    }
}

#[test]
fn many_threads_may_run_one_executable() {
    for threads in [1, 3] {
        let executable = two_steps(&compiler().threads(threads));
        thread::scope(|scope| {
            for k in 0..4 {
                let executable = &executable;
                scope.spawn(move || {
                    let x = x() + k as f32;
                    let first = executable.run(&[x.view()]).unwrap();
                    assert_eq!(first[0].shape(), [100, 8]);
                    for _ in 0..200 {
                        assert_eq!(executable.run(&[x.view()]).unwrap(), first);
                    }
                });
            }
        });
    }
}

#[test]
fn inputs_may_be_tensors_arrays_or_any_view() {
    let executable = two_steps(&compiler());
    let y = executable.run(&[x().into_dyn()]).unwrap();
    assert_eq!(executable.run(&[Tensor::from(x())]).unwrap(), y);
    assert_eq!(executable.run(&[x().view().into_dyn()]).unwrap(), y);
    let by_columns = x().t().as_standard_layout().into_owned().reversed_axes();
    assert!(!by_columns.is_standard_layout());
    assert_eq!(executable.run(&[by_columns]).unwrap(), y);
}

#[test]
fn inputs_and_outputs_need_no_more_alignment_than_their_elements() {
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
        // Not every machine has all of them.
        let Ok(executable) = two_steps_or_error(&compiler().isa(isa)) else { continue };
        let x = x();
        for shift in 0..4 {
            let mut input = vec![0.0f32; shift];
            input.extend(x.iter());
            let input = ArrayView2::from_shape((100, 8), &input[shift..]).unwrap();
            let mut output = vec![7.0f32; 808];
            executable.run_into(&[TensorView::from(&input)], &mut [&mut output[shift..shift + 800]]).unwrap();
            let values = Tensor::from_vec(&[100, 8], output[shift..shift + 800].to_vec()).unwrap();
            assert_close(&values, &expected());
            assert!(output[..shift].iter().chain(&output[shift + 800..]).all(|v| *v == 7.0));
        }
    }
}

#[test]
fn wrong_inputs_are_errors_that_name_the_input() {
    let executable = two_steps(&compiler());
    let message = |result: nestjit::Result<Vec<Tensor>>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        error.to_string()
    };
    assert_eq!(message(executable.run::<Tensor>(&[])), "the model has 1 input ('x'), but 0 were given");
    assert_eq!(
        message(executable.run(&[Array2::<f32>::zeros((8, 100))])),
        "the input 'x' is f32[100, 8], but f32[8, 100] was given"
    );
    assert_eq!(
        message(executable.run(&[Array2::<f64>::zeros((100, 8))])),
        "the input 'x' is f32[100, 8], but f64[100, 8] was given"
    );
    let x = x();
    let mut outputs = vec![Tensor::zeros(DType::F32, &[100]).unwrap()];
    let error = executable.run_into(&[TensorView::from(&x)], &mut outputs).unwrap_err();
    assert_eq!(error.to_string(), "the output 'y' is f32[100, 8], but f32[100] was given");
}

#[test]
fn run_into_does_not_write_to_shared_tensors() {
    let executable = two_steps(&compiler());
    let x = x();
    let mut outputs = executable.allocate_outputs().unwrap();
    let zeros = outputs[0].clone();
    executable.run_into(&[TensorView::from(&x)], &mut outputs).unwrap();
    assert_close(&outputs[0], &expected());
    assert!(zeros.values::<f32>().unwrap().iter().all(|v| *v == 0.0));
}

#[test]
fn an_index_outside_its_tensor_is_an_error_and_the_executable_survives() {
    let unit = Unit::from_program(parse(GATHER).unwrap(), []).unwrap();
    let executable = compiler().compile_unit("gather", unit).unwrap();
    let x = Tensor::from(Array1::from(vec![10.0f32, 11.0, 12.0, 13.0]));
    let run = |indices: [i64; 3]| executable.run(&[x.clone(), Tensor::new(&[3], &indices).unwrap()]);
    for bad in [4, -5, i64::MAX, i64::MIN] {
        let error = run([0, bad, 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Index);
        let message = format!("nest @gather: the index {bad} of dimension 0 of %x is outside 0..4");
        assert_eq!(error.message(), message);
    }
    assert_eq!(run([3, 0, 1]).unwrap()[0].values::<f32>().unwrap(), [13.0, 10.0, 11.0]);
}

#[test]
fn rank_zero_and_zero_sizes_work() {
    let text = "
nest @scalar(in %x: f32[], out %y: f32[]) { %y = %x + 1.0 }
nest @empty(in %e: f32[0,3], out %f: f32[0,3]) {
  for i < 0 parallel { for j < 3 { %f[i,j] = %e[i,j] } }
}
";
    let unit = Unit::from_program(parse(text).unwrap(), []).unwrap();
    let executable = compiler().threads(2).compile_unit("odd", unit).unwrap();
    let inputs = [Tensor::scalar(2.0f32), Tensor::zeros(DType::F32, &[0, 3]).unwrap()];
    let outputs = executable.run(&inputs).unwrap();
    assert_eq!(outputs, [Tensor::scalar(3.0f32), inputs[1].clone()]);
}

#[test]
fn an_output_may_be_listed_twice() {
    let mut unit = Unit::from_program(parse(TWO_STEPS).unwrap(), [("w", w())]).unwrap();
    unit.outputs.push(unit.outputs[0]);
    let outputs = compiler().compile_unit("twice", unit).unwrap().run(&[x()]).unwrap();
    assert_close(&outputs[0], &expected());
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn phases_add_up_to_the_whole() {
    let timings = two_steps(&compiler().verify_passes(true)).timings().clone();
    assert_eq!(timings.all_passes() + timings.codegen + timings.pack, timings.total);
    assert!(timings.passes.iter().any(|(name, _)| *name == "PlanMemory"));
    assert!(timings.codegen > std::time::Duration::ZERO);
}

#[test]
fn memory_is_planned_or_separate() {
    let planned = two_steps(&compiler());
    let separate = two_steps(&compiler().disable_pass("PlanMemory"));
    assert!(planned.temp_bytes() <= separate.temp_bytes());
    assert_eq!(separate.run(&[x()]).unwrap(), planned.run(&[x()]).unwrap());
}

#[test]
fn a_profile_has_every_nest() {
    let executable = two_steps(&compiler().disable_passes(fusion()));
    let x = x();
    let trace = executable.trace(&[TensorView::from(&x)], 5).unwrap();
    assert_eq!((trace.nests.as_slice(), trace.runs), (&["sums".to_owned(), "scale".to_owned()][..], 5));
    assert_eq!(trace.whole.iter().map(|s| s.nest).collect::<Vec<_>>(), [0, 1].repeat(5));
    assert!(trace.whole.iter().all(|s| s.thread == 0) && trace.parts.len() >= 10);
    for span in &trace.whole {
        let inside = |p: &&nestjit::runtime::trace::Span| {
            p.nest == span.nest && p.start >= span.start && p.start + p.time <= span.start + span.time
        };
        assert!(trace.parts.iter().any(|p| inside(&p)), "{span:?}");
    }
    assert_eq!(trace.medians().len(), 2);
}

#[test]
fn invalid_programs_are_refused_whatever_the_options() {
    let text = TWO_STEPS.replace("%x[n,c] * %w[c]", "%x[n,c + 1] * %w[c]");
    let unit = Unit::from_program(parse(&text).unwrap(), [("w", w())]).unwrap();
    let error = compiler().verify_passes(false).compile_unit("wrong", unit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let missing = Unit::from_program(parse(TWO_STEPS).unwrap(), []).unwrap_err();
    assert_eq!(missing.to_string(), "the constant %w is not given");
    let unknown = Unit::from_program(parse(GATHER).unwrap(), [("w", w())]).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Usage);
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let compile = |compiler: Compiler| {
        let unit = Unit::from_program(parse(GATHER).unwrap(), []).unwrap();
        let error = compiler.compile_unit("gather", unit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    };
    let message = compile(compiler().disable_pass("NoSuchPass"));
    assert!(message.starts_with("there is no pass 'NoSuchPass'; the passes are "), "{message}");
    assert!(message.contains("'FoldBatchNorm', ") && message.contains("'OpFusion'"), "{message}");
    assert!(compile(compiler().threads(0)).starts_with("0 threads"));
    let disabled = Options { disabled_passes: vec!["Tyle".into()], ..Options::default() };
    assert!(compile(Compiler::with_options(disabled)).contains("'Tyle'"));
}

#[test]
fn programs_are_kept_and_dumped_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { dump: Some(dir.path().to_owned()), ..Options::default() };
    let executable = two_steps(&Compiler::with_options(options).threads(1).keep_programs(true));
    assert!(executable.program_after("Lower").unwrap().contains("nest @sums"));
    assert_eq!(executable.program_after("PlanMemory").unwrap(), executable.program().to_string());
    assert!(executable.program_after("NoSuchPass").is_err());
    let mut files: Vec<String> =
        dir.path().read_dir().unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files.first().unwrap(), "00_Lower.nest");
    assert!(files.last().unwrap().ends_with("_code.txt"), "{files:?}");
    let kept_nothing = two_steps(&compiler());
    assert_eq!(kept_nothing.program_after("PlanMemory").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn loads_outside_a_local_yield_their_alternative() {
    // The local fits registers, which have no bounds; the vector loop makes this vector code.
    let text = "
nest @window(in %x: f32[9,4], out %y: f32[9,4]) {
  for i < 9 {
    temp %p: f32[4]
    for c < 4 unrolled { %p[c] = %x[i,c] }
    for c < 4 unrolled {
      temp %a: f32[1]
      for l < 1 vector { %a[l] = -inf }
      for k < 3 unrolled { for l < 1 vector { %a[l] max= (%p[c+k-1] else -99.0) } }
      for l < 1 vector { %y[i,c] = %a[l] }
    }
  }
}
";
    let unit = Unit::from_program(parse(text).unwrap(), []).unwrap();
    let executable = compiler().compile_unit("window", unit).unwrap();
    let x = Array::from_shape_fn((9, 4), |(i, c)| -((i * 4 + c) as f32) - 1.0);
    // Every value is larger than the one after it and than the alternative.
    let expected = Array::from_shape_fn((9, 4), |(i, c): (usize, usize)| x[[i, c.saturating_sub(1)]]);
    assert_eq!(executable.run(&[x.view()]).unwrap(), [Tensor::from(&expected)]);
}
