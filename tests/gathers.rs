//! Gathers whose indices are constants: lanes of indices, in every element type, for every length of vectors, alone and merged
//! with what stands before and after, on every vector tier, for several numbers of threads; what is outside is an error.

use nestjit::graph::{Graph, GraphBuilder, Precision, ValueId, evaluate};
use nestjit::ir::Scalar;
use nestjit::machine::Isa;
use nestjit::options::Options;
use nestjit::{Compiler, DType, Tensor};

fn tensor(dtype: DType, shape: &[usize], value: impl Fn(usize) -> f64) -> Tensor {
    let bits = |i| Scalar::from_f64(dtype, value(i)).to_bits().to_le_bytes();
    let count = shape.iter().product();
    let bytes: Vec<u8> = (0..count).flat_map(|i| bits(i).into_iter().take(dtype.size())).collect();
    Tensor::from_bytes(dtype, shape, &bytes).expect("as many bytes as elements")
}

fn numbers(dtype: DType, shape: &[usize]) -> Tensor {
    let truth = dtype == DType::Bool;
    tensor(dtype, shape, |i| if truth { (i * 7 % 3 % 2) as f64 } else { (i * 29 % 101) as f64 })
}

fn indices(dtype: DType, shape: &[usize], values: &[i64]) -> Tensor {
    tensor(dtype, shape, |i| values[i] as f64)
}

/// Compiled code computes exactly what the evaluator does.
#[track_caller]
fn check(graph: &Graph, input: &Tensor) {
    let expected = evaluate(graph, std::slice::from_ref(input), Precision::F32).expect("it runs");
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| *isa <= Isa::host()) {
        for (threads, without) in [(1, &[][..]), (1, &["OpFusion"]), (1, &["Vectorize"]), (3, &[])] {
            let options = Options { isa: Some(isa), verify_passes: true, ..Options::default() };
            let compiler =
                Compiler::with_options(options).threads(threads).disable_passes(without.iter().copied());
            let executable = compiler.compile(&graph.clone().into()).expect("it compiles");
            let found = executable.run(std::slice::from_ref(input)).expect("it runs");
            assert_eq!(found, expected, "{isa:?}, {threads} threads, without {without:?}\n{graph}");
        }
    }
}

fn graph(x: &Tensor, body: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) -> Graph {
    let mut b = GraphBuilder::new("gather");
    let x = b.input("x", x.dtype(), x.shape());
    let y = body(&mut b, x);
    b.output("y", y);
    b.build().expect("a valid graph")
}

/// Indices in no order, of both signs.
fn scattered(n: usize, extent: usize) -> Vec<i64> {
    (0..n).map(|i| (i * i * 13 + 5 * i) as i64 % (2 * extent) as i64 - extent as i64).collect()
}

#[test]
fn vectors_of_every_length_and_type() {
    for n in 1..=70 {
        let dtype = DType::ALL[n % DType::ALL.len()];
        let x = numbers(dtype, &[3, 2, 23]);
        let of = if n % 2 == 0 { DType::I64 } else { DType::I32 };
        let axis = if n % 5 == 0 { 1 } else { 2 };
        let extent = x.shape()[axis];
        check(
            &graph(&x, |b, x| {
                let at = b.constant("at", indices(of, &[n], &scattered(n, extent)));
                b.gather(x, at, axis)
            }),
            &x,
        );
    }
}

#[test]
fn merged_with_what_stands_before_and_after() {
    for n in [2, 7, 16, 33, 64] {
        let x = numbers(DType::F32, &[4, 20]);
        check(
            &graph(&x, |b, x| {
                // Both neighbours of each element of a larger image, as linear interpolation takes them.
                let before = b.neg(x);
                let [low, high] = [0, 1].map(|step| {
                    let at: Vec<i64> = (0..n).map(|i| (i * 19 / n + step) as i64).collect();
                    let at = b.constant("at", indices(DType::I64, &[n], &at));
                    b.gather(before, at, 1)
                });
                let sum = b.add(low, high);
                b.mul(sum, low)
            }),
            &x,
        );
    }
}

#[test]
fn indices_in_regular_steps_and_of_several_dimensions() {
    let x = numbers(DType::F32, &[3, 24, 5]);
    for (shape, values) in [
        (vec![8], (0..8).map(|i| 3 * i).collect::<Vec<i64>>()),
        (vec![8], (0..8).map(|i| -1 - 2 * i).collect()),
        (vec![6], vec![7; 6]),
        (vec![2, 3], vec![0, 1, 2, 10, 11, 12]),
        (vec![2, 3], vec![0, 1, 2, 10, 11, 13]),
        (vec![1, 4, 1], vec![-24, 0, 23, -1]),
        (vec![1], vec![-24]),
        (vec![0], vec![]),
    ] {
        check(
            &graph(&x, |b, x| {
                let at = b.constant("at", indices(DType::I64, &shape, &values));
                b.gather(x, at, 1)
            }),
            &x,
        );
    }
}

#[test]
fn a_constant_that_is_outside_is_an_error_of_the_run() {
    let x = numbers(DType::F32, &[3, 24]);
    for outside in [24, -25, i64::from(i32::MAX)] {
        let values: Vec<i64> = (0..19).map(|i| if i == 17 { outside } else { i * 5 % 24 }).collect();
        let graph = graph(&x, |b, x| {
            let at = b.constant("at", indices(DType::I64, &[19], &values));
            b.gather(x, at, 1)
        });
        let executable = Compiler::new().threads(1).compile(&graph.into()).expect("it compiles");
        let error = executable.run(std::slice::from_ref(&x)).expect_err("an index is outside").to_string();
        assert!(error.contains("24"), "{error}");
    }
}
