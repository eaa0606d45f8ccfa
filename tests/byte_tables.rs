//! Functions from bytes to bytes are tables after ByteTables, for all bytes what the graph computes, on every vector tier,
//! and what is no such function, or is faster computed, stays.

use nestjit::graph::{Graph, GraphBuilder, Op, Precision, ValueId, evaluate};
use nestjit::machine::Isa;
use nestjit::options::Options;
use nestjit::{Compiler, DType, Tensor};

/// `(x - zero) * scale` in `f32`.
fn dequantise(b: &mut GraphBuilder, x: ValueId, scale: f64, zero: f64) -> ValueId {
    let wide = b.cast(x, DType::I32);
    let zero = b.scalar(DType::I32, zero);
    let shifted = b.sub(wide, zero);
    let float = b.cast(shifted, DType::F32);
    let scale = b.scalar(DType::F32, scale);
    b.mul(float, scale)
}

/// `x / scale + zero`, rounded and saturated.
fn quantise(b: &mut GraphBuilder, x: ValueId, scale: f64, zero: f64, to: DType) -> ValueId {
    let scale = b.scalar(DType::F32, scale);
    let divided = b.div(x, scale);
    let rounded = b.round(divided);
    let zero = b.scalar(DType::F32, zero);
    let shifted = b.add(rounded, zero);
    let (low, high) = if to == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
    let saturated = b.clip(shifted, Some(low), Some(high));
    b.cast(saturated, to)
}

/// All bytes, three of them again: a ragged end for every number of lanes.
fn all_bytes(dtype: DType) -> Tensor {
    let bytes: Vec<u8> = (0..=255).chain([7, 128, 255]).collect();
    Tensor::from_bytes(dtype, &[1, 7, 37], &bytes).expect("as many bytes as elements")
}

/// A model with one tensor of bytes as its input.
fn graph(dtype: DType, body: impl FnOnce(&mut GraphBuilder, ValueId) -> Vec<ValueId>) -> Graph {
    let mut b = GraphBuilder::new("table");
    let x = b.input("x", dtype, &[1, 7, 37]);
    for (i, y) in body(&mut b, x).into_iter().enumerate() {
        b.output(&format!("y{i}"), y);
    }
    b.build().expect("a valid graph")
}

/// Checks that so many tables are made of a graph, and that code computes what the evaluator does: bytes exactly, `f32`
/// but for rounding.
#[track_caller]
fn check(graph: &Graph, tables: usize) {
    let input = all_bytes(graph.value(graph.inputs[0]).dtype);
    let expected = evaluate(graph, std::slice::from_ref(&input), Precision::F32).expect("it runs");
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| *isa <= Isa::host()) {
        for without in [&[][..], &["OpFusion"], &["ByteTables"]] {
            let options = Options { isa: Some(isa), verify_passes: true, ..Options::default() };
            let compiler = Compiler::with_options(options).threads(1).disable_passes(without.iter().copied());
            let executable = compiler.compile(&graph.clone().into()).expect("it compiles");
            let found = executable.remarks().iter().filter(|r| r.pass() == "ByteTables").count();
            assert_eq!(found, if without == ["ByteTables"] { 0 } else { tables }, "{graph}");
            for (found, expected) in
                executable.run(std::slice::from_ref(&input)).unwrap().iter().zip(&expected)
            {
                if expected.dtype() == DType::F32 {
                    let pairs = found.values::<f32>().unwrap().iter().zip(expected.values::<f32>().unwrap());
                    pairs.for_each(|(a, b)| assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}"));
                } else if without.contains(&"ByteTables") {
                    // Elementary functions in code are other roundings of the same numbers.
                    let pairs = found.bytes().unwrap().iter().zip(expected.bytes().unwrap());
                    pairs.for_each(|(a, b)| assert!(a.abs_diff(*b) <= 1, "{a} {b}"));
                } else {
                    assert_eq!(found, expected, "{isa:?} without {without:?}\n{graph}");
                }
            }
        }
    }
}

#[test]
fn activations_between_quantisations_of_both_signs() {
    use DType::{I8, U8};
    for (from, to) in [(U8, U8), (U8, I8), (I8, U8), (I8, I8)] {
        let (zero_from, zero_to) =
            (if from == U8 { 121.0 } else { -7.0 }, if to == U8 { 3.0 } else { -125.0 });
        // Sigmoid, quantised on its own, times its operand.
        check(
            &graph(from, |b, x| {
                let v = dequantise(b, x, 0.06, zero_from);
                let s = b.sigmoid(v);
                let s = quantise(b, s, 1.0 / 255.0, 0.0, U8);
                let s = dequantise(b, s, 1.0 / 255.0, 0.0);
                let y = b.mul(v, s);
                vec![quantise(b, y, 0.03, zero_to, to)]
            }),
            1,
        );
        check(
            &graph(from, |b, x| {
                let v = dequantise(b, x, 0.06, zero_from);
                let y = b.gelu(v);
                vec![quantise(b, y, 0.03, zero_to, to)]
            }),
            1,
        );
    }
}

#[test]
fn what_is_not_a_number_is_a_byte_as_the_evaluator_says() {
    check(
        &graph(DType::I8, |b, x| {
            let v = dequantise(b, x, 1.0, 0.0);
            let root = b.sqrt(v);
            let log = b.log(root);
            vec![quantise(b, log, 0.02, 10.0, DType::U8)]
        }),
        1,
    );
}

#[test]
fn several_readers() {
    // A table each: of the first bytes, although the second are computed from the first by way of bytes.
    let two = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.05, 128.0);
        let v = b.tanh(v);
        let first = quantise(b, v, 1.0 / 128.0, 128.0, DType::U8);
        let v = dequantise(b, first, 1.0 / 128.0, 128.0);
        let v = b.exp(v);
        vec![first, quantise(b, v, 0.0125, 0.0, DType::U8)]
    });
    check(&two, 2);
    // The floating-point numbers are needed in any case, and rounding them is no work.
    let float = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.05, 128.0);
        let v = b.tanh(v);
        vec![quantise(b, v, 1.0 / 128.0, 128.0, DType::U8), v]
    });
    check(&float, 0);
    // What follows from the bytes in floating point does not hide them.
    let behind = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.05, 128.0);
        let v = b.tanh(v);
        let bytes = quantise(b, v, 1.0 / 128.0, 128.0, DType::U8);
        vec![dequantise(b, bytes, 1.0 / 128.0, 128.0)]
    });
    check(&behind, 1);
}

#[test]
fn what_is_no_function_of_one_byte_or_is_little_work_stays() {
    let cheap = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.7, 128.0);
        let rounded = b.round(v);
        let saturated = b.clip(rounded, Some(0.0), Some(255.0));
        vec![b.cast(saturated, DType::U8)]
    });
    check(&cheap, 0);
    let by_column = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.05, 128.0);
        let scales: Vec<f32> = (0..37).map(|i| i as f32 * 0.03).collect();
        let scales = b.constant("scales", Tensor::new(&[37], &scales).expect("37 numbers"));
        let v = b.mul(v, scales);
        let v = b.sigmoid(v);
        vec![quantise(b, v, 1.0 / 255.0, 0.0, DType::U8)]
    });
    check(&by_column, 0);
    let moved = graph(DType::U8, |b, x| {
        let y = b.transpose(x, &[0, 2, 1]);
        let y = b.reshape(y, &[1, 7, 37]);
        let (x, y) = (dequantise(b, x, 0.05, 128.0), dequantise(b, y, 0.05, 128.0));
        let sum = b.add(x, y);
        let v = b.sigmoid(sum);
        vec![quantise(b, v, 1.0 / 255.0, 0.0, DType::U8)]
    });
    check(&moved, 0);
    // A number with more dimensions than the bytes gives the result more dimensions.
    let higher = graph(DType::U8, |b, x| {
        let v = dequantise(b, x, 0.05, 128.0);
        let factor = b.constant("factor", Tensor::new(&[1; 4], &[1.5f32]).expect("a number"));
        let v = b.mul(v, factor);
        let v = b.sigmoid(v);
        vec![quantise(b, v, 1.0 / 255.0, 0.0, DType::U8)]
    });
    check(&higher, 0);
}

#[test]
fn tables_are_looked_up_in_the_nest_of_a_product() {
    let mut b = GraphBuilder::new("product");
    let x = b.input("x", DType::U8, &[19, 40]);
    let weights: Vec<i8> = (0..40 * 33).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let w = b.constant("w", Tensor::new(&[40, 33], &weights).expect("a matrix"));
    let product = b.matmul(x, w);
    let product = b.cast(product, DType::F32);
    let scale = b.scalar(DType::F32, 0.0004);
    let v = b.mul(product, scale);
    let bytes = quantise(&mut b, v, 0.05, 128.0, DType::U8);
    let v = dequantise(&mut b, bytes, 0.05, 128.0);
    let v = b.silu(v);
    let y = quantise(&mut b, v, 0.05, 20.0, DType::U8);
    b.output("y", y);
    let graph = b.build().expect("a valid graph");
    assert!(graph.nodes.iter().any(|n| n.op == Op::MatMul));
    let values: Vec<u8> = (0..19 * 40).map(|i| (i * 89 % 256) as u8).collect();
    let input = Tensor::new(&[19, 40], &values).expect("a matrix");
    let expected = evaluate(&graph, std::slice::from_ref(&input), Precision::F32).expect("it runs");
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| *isa <= Isa::host()) {
        let options = Options { isa: Some(isa), verify_passes: true, ..Options::default() };
        let executable = Compiler::with_options(options).compile(&graph.clone().into()).expect("it compiles");
        assert_eq!(executable.kernels(), 1, "one nest");
        assert_eq!(executable.run(std::slice::from_ref(&input)).unwrap(), expected, "{isa:?}");
    }
}
