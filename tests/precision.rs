//! Contractions in `bf16`, where that is allowed: what is rounded, how far results are from exact ones, and that nothing else
//! changes.

use nestjit::graph::Model;
use nestjit::graph::builder::{Conv2d, Padding};
use nestjit::ir::interp::Mode;
use nestjit::lower::lower;
use nestjit::machine::{Isa, MachineModel};
use nestjit::passes::{PIPELINE, PassContext, Run};
use nestjit::{Compiler, DType, Executable, GraphBuilder, Options, Precision, Tensor, bf16};

/// Whether this machine is faster in `bf16`.
fn is_fast() -> bool {
    MachineModel::host(None).unwrap().isa.host_has_fast_bf16()
}

fn compile(model: &Model, precision: Precision, fused: bool, threads: usize) -> Executable {
    let compiler = Compiler::with_options(Options::default()).precision(precision).threads(threads);
    let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
    compiler.compile(model).unwrap()
}

fn bf16_nests(executable: &Executable) -> usize {
    (0..executable.kernels()).filter(|i| executable.computes(*i).contains(&"bf16")).count()
}

/// The numbers of a tensor, as they are or rounded.
fn numbers(tensor: &Tensor, round: bool) -> Vec<f64> {
    let values = tensor.values::<f32>().unwrap();
    values.iter().map(|v| f64::from(if round { bf16::from_f32(*v).to_f32() } else { *v })).collect()
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::random(DType::F32, shape, seed).unwrap()
}

/// `relu(x * w + b)` for matrices, the right one constant or not.
fn product([m, k, n]: [usize; 3], constant: bool) -> (Model, Vec<Tensor>, Tensor) {
    let mut g = GraphBuilder::new("product");
    let w = random(&[k, n], 2);
    let x = g.input("x", DType::F32, &[m, k]);
    let right = if constant { g.constant("w", w.clone()) } else { g.input("w", DType::F32, &[k, n]) };
    let b = g.constant("b", random(&[n], 3));
    let y = g.matmul(x, right);
    let y = g.add(y, b);
    let y = g.relu(y);
    g.output("y", y);
    let mut inputs = vec![random(&[m, k], 1)];
    if !constant {
        inputs.push(w.clone());
    }
    (Model::from(g.build().unwrap()), inputs, w)
}

#[test]
fn products_are_those_of_rounded_operands() {
    // Sums of more than 2,048 products are cut into blocks.
    for dims in [[64, 64, 64], [33, 70, 50], [7, 129, 31], [1, 300, 200], [40, 5001, 33], [16, 2, 16]] {
        for constant in [true, false] {
            let (model, inputs, w) = product(dims, constant);
            let [m, k, n] = dims;
            let executable = compile(&model, Precision::Bf16, true, 1);
            let rounded = bf16_nests(&executable) > 0;
            assert!(is_fast() || !rounded);
            if constant && m * n > 1024 {
                assert_eq!(rounded, is_fast(), "{dims:?}");
            }
            let found = executable.run(&inputs).unwrap();
            let (x, w, b) =
                (numbers(&inputs[0], rounded), numbers(&w, rounded), numbers(&random(&[n], 3), false));
            for (at, y) in numbers(&found[0], false).into_iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let terms = (0..k).map(|l| x[i * k + l] * w[l * n + j]);
                let magnitude: f64 = terms.clone().map(f64::abs).sum();
                let exact = (terms.sum::<f64>() + b[j]).max(0.0);
                let limit = f64::from(f32::EPSILON) * (2.0 + (k as f64).sqrt()) * (1.0 + magnitude);
                assert!((y - exact).abs() <= limit, "{dims:?} {constant} [{i},{j}]: {y} instead of {exact}");
            }
        }
    }
}

/// Two convolutions, the second one with a window that Winograd does not take, a residual addition, a product with both operands
/// computed, and a softmax between two products.
fn network() -> (Model, Vec<Tensor>) {
    let mut g = GraphBuilder::new("network");
    let x = g.input("x", DType::F32, &[1, 64, 20, 20]);
    let w0 = g.constant("w0", random(&[96, 64, 1, 1], 5));
    let w1 = g.constant("w1", random(&[96, 96, 3, 3], 6));
    let options =
        |stride, pad: usize| Conv2d { stride, padding: Padding::symmetric(&[pad, pad]), ..Conv2d::default() };
    let a = g.conv2d(x, w0, None, options([1, 1], 0));
    let a = g.relu(a);
    let b = g.conv2d(a, w1, None, options([2, 2], 1));
    let b = g.relu(b);
    let rows = g.reshape(b, &[96, 100]);
    let columns = g.transpose(rows, &[1, 0]);
    let scores = g.matmul(columns, rows);
    // So that rounding does not decide which one is the largest.
    let scale = g.constant("scale", Tensor::scalar(1e-4f32));
    let scores = g.mul(scores, scale);
    let weights = g.softmax(scores, 1);
    let mixed = g.matmul(weights, columns);
    let y = g.add(mixed, columns);
    g.output("y", y);
    g.output("a", a);
    (Model::from(g.build().unwrap()), vec![random(&[1, 64, 20, 20], 9)])
}

#[test]
fn networks_are_near_the_exact_results_and_the_same_for_every_number_of_threads() {
    let (model, inputs) = network();
    let exact = Compiler::with_options(Options::default()).interpret(&model, &inputs, Mode::F64).unwrap();
    for fused in [true, false] {
        let one = compile(&model, Precision::Bf16, fused, 1).run(&inputs).unwrap();
        for threads in [2, 3, 5] {
            let more = compile(&model, Precision::Bf16, fused, threads).run(&inputs).unwrap();
            assert_eq!(one, more, "{threads} threads");
        }
        for (exact, found) in exact.iter().zip(&one) {
            let exact = exact.values::<f64>().unwrap();
            let largest = exact.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (e, f) in exact.iter().zip(numbers(found, false)) {
                assert!((e - f).abs() <= largest / 40.0, "{f} instead of {e}, the largest is {largest}");
            }
        }
    }
}

#[test]
fn what_the_program_says_is_what_the_code_computes() {
    let (model, inputs) = network();
    let compiler = Compiler::with_options(Options::default()).precision(Precision::Bf16).threads(1);
    let executable = compiler.compile(&model).unwrap();
    if is_fast() {
        assert!(bf16_nests(&executable) >= 1);
        let text = compiler.program_after(&model, "RoundOperands").unwrap();
        assert!(text.contains("f32(%") && text.contains("bf16("), "{text}");
    }
    // What is asked for is written to the report.
    let report = executable.fusion_report();
    assert_eq!(report.precision, Some("bf16"));
    let nests = report.groups.iter().filter(|g| g.computes.contains(&"bf16".to_owned())).count();
    assert_eq!(nests, bf16_nests(&executable));
    drop(inputs);
}

#[test]
fn other_precisions_change_nothing() {
    let (model, inputs) = network();
    let expected = compile(&model, Precision::F32, true, 1).run(&inputs).unwrap();
    let executable = compile(&model, Precision::F16, true, 1);
    assert_eq!(executable.run(&inputs).unwrap(), expected);
    assert!(executable.fusion_report().to_text(10).contains("f16 was allowed: no nest computes in it"));
    let narrow = Compiler::with_options(Options::default()).isa(Isa::Simd128).threads(1);
    let expected = narrow.compile(&model).unwrap().run(&inputs).unwrap();
    let rounded = narrow.precision(Precision::Bf16).compile(&model).unwrap();
    assert_eq!((bf16_nests(&rounded), rounded.run(&inputs).unwrap()), (0, expected));
}

#[test]
fn what_is_no_number_stays_none() {
    let (model, mut inputs, _) = product([32, 64, 64], true);
    let x: &mut [f32] = inputs[0].values_mut().unwrap();
    (x[0], x[64], x[128], x[192], x[256]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.4e38, 1e-40);
    let exact = compile(&model, Precision::F32, true, 1).run(&inputs).unwrap();
    let found = compile(&model, Precision::Bf16, true, 1).run(&inputs).unwrap();
    let (exact, found) = (exact[0].values::<f32>().unwrap(), found[0].values::<f32>().unwrap());
    for (row, (e, f)) in exact.chunks(64).zip(found.chunks(64)).enumerate() {
        for (e, f) in e.iter().zip(f) {
            // The largest numbers round to infinity.
            assert!(row == 3 || e.is_finite() == f.is_finite(), "row {row}: {f} instead of {e}");
            assert!(e.is_nan() == f.is_nan() || row == 3, "row {row}: {f} instead of {e}");
        }
    }
}

#[test]
fn what_others_read_is_not_rounded() {
    let mut g = GraphBuilder::new("shared");
    let x = g.input("x", DType::F32, &[64, 96]);
    let t = g.sigmoid(x);
    let w = g.constant("w", random(&[96, 128], 2));
    let y = g.matmul(t, w);
    let half = g.constant("half", Tensor::scalar(0.5f32));
    let z = g.mul(t, half);
    g.output("y", y);
    g.output("z", z);
    let model = Model::from(g.build().unwrap());
    let inputs = [random(&[64, 96], 1)];
    for fused in [true, false] {
        let expected = compile(&model, Precision::F32, fused, 1).run(&inputs).unwrap();
        let executable = compile(&model, Precision::Bf16, fused, 1);
        assert_eq!(bf16_nests(&executable) > 0, is_fast());
        assert_eq!(executable.run(&inputs).unwrap()[1], expected[1], "fused: {fused}");
    }
}

/// What a program says is exact is not rounded, whatever would be faster.
#[test]
fn what_is_exact_stays_so() {
    let mut g = GraphBuilder::new("product");
    let x = g.input("x", DType::F32, &[64, 256]);
    let w = g.constant("w", random(&[256, 256], 1));
    let y = g.matmul(x, w);
    g.output("y", y);
    let graph = g.build().unwrap();
    let mut target = MachineModel::host(None).unwrap();
    (target.isa, target.bf16, target.amx_bf16) = (Isa::Avx512, true, false);
    let context = PassContext::new(&Options::default(), &target, 1);
    let pass = PIPELINE.iter().find(|p| p.name == "RoundOperands").unwrap();
    let Run::Nest(run, _) = pass.run else { panic!("a pass over nests") };
    for exact in [false, true] {
        let mut unit = lower(&graph).unwrap();
        if exact {
            unit.exact.extend(unit.consts.keys().copied());
        }
        run(&mut unit, &context, &mut Vec::new()).unwrap();
        assert_eq!(unit.program.to_string().contains("bf16"), !exact, "{}", unit.program);
    }
}

/// Winograd's algorithm may be taken in `f32`; in `bf16` its errors would be several times those of the convolution.
#[test]
fn convolutions_are_as_near_as_rounded_operands() {
    for (channels, side) in [(64, 28), (128, 14), (32, 40)] {
        let mut g = GraphBuilder::new("conv");
        let x = g.input("x", DType::F32, &[1, channels, side, side]);
        let w = g.constant("w", random(&[channels, channels, 3, 3], 6));
        let options = Conv2d { padding: Padding::symmetric(&[1, 1]), ..Conv2d::default() };
        let y = g.conv2d(x, w, None, options);
        let y = g.relu(y);
        g.output("y", y);
        let model = Model::from(g.build().unwrap());
        let inputs = [random(&[1, channels, side, side], 9)];
        let exact = compile(&model, Precision::F32, true, 1).run(&inputs).unwrap();
        let found = compile(&model, Precision::Bf16, true, 1).run(&inputs).unwrap();
        let (exact, found) = (numbers(&exact[0], false), numbers(&found[0], false));
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let error = squares(&mut exact.iter().zip(&found).map(|(e, f)| e - f));
        let share = (error / squares(&mut exact.iter().copied())).sqrt();
        assert!(share < 0.004, "{channels} channels: {share}");
    }
}
