//! What is only known when a model runs: indices and divisors. Fused, unfused, on one thread and two.

use nestjit::graph::{Precision, evaluate};
use nestjit::onnx::proto::tensor_proto::DataType::{self, Float, Int32, Int64};
use nestjit::onnx::proto::{ModelProto, NodeProto};
use nestjit::{Compiler, ErrorKind, Model, Result, Tensor};

use super::common::onnx::*;
use super::harness::without_panic;

/// The results, fused and not, on one thread and on two; a panic in any of them fails.
fn run_everywhere(m: ModelProto, inputs: &[Tensor]) -> Vec<Result<Vec<Tensor>>> {
    let model: Model = import(m).unwrap().into();
    let mut results = vec![evaluate(&model.graph, inputs, Precision::F32)];
    for threads in [1, 2] {
        for fused in [true, false] {
            let compiler = Compiler::new().threads(threads);
            let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
            let executable = compiler.compile(&model).unwrap();
            results.push(without_panic(|| executable.run(inputs)).unwrap());
            // A failed run leaves nothing behind.
            let again = without_panic(|| executable.run(inputs)).unwrap();
            assert_eq!(again.is_ok(), results.last().unwrap().is_ok());
        }
    }
    results
}

fn two_inputs(x: &[&str], i: (DataType, &[&str]), nodes: Vec<NodeProto>) -> ModelProto {
    model_of(graph_of(vec![declared("x", Float, x), declared("i", i.0, i.1)], nodes, &["y"]))
}

#[test]
fn indices_outside_their_dimension() {
    let x = || Tensor::random(nestjit::DType::F32, &[64, 8], 3).unwrap();
    let around = |n: NodeProto| {
        // With work before and after it, so that it is fused into a nest.
        let (input, mut n) = (n.input[0].clone(), n);
        n.input[0] = "before".into();
        n.output = vec!["taken".into()];
        vec![node("Exp", &[&input], &["before"]), n, node("Neg", &["taken"], &["y"])]
    };
    let gather = |n: i64| with(node("Gather", &["x", "i"], &["y"]), int("axis", n));
    let elements = with(node("GatherElements", &["x", "i"], &["y"]), int("axis", 1));
    let cases: Vec<(&str, NodeProto, Vec<usize>)> = vec![
        ("Gather", gather(0), vec![40]),
        ("Gather along columns", gather(1), vec![3]),
        ("GatherElements", elements, vec![64, 8]),
        ("GatherND", node("GatherND", &["x", "i"], &["y"]), vec![30, 1]),
    ];
    for (what, n, shape) in cases {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        let count: usize = shape.iter().product();
        for wrong in [1000, 64, -65, i64::MAX, i64::MIN] {
            for at in [0, count - 1] {
                let mut indices = vec![1i64; count];
                indices[at] = wrong;
                let i = Tensor::new(&shape, &indices).unwrap();
                let m = two_inputs(&["64", "8"], (Int64, &dims), around(n.clone()));
                for result in run_everywhere(m, &[x(), i]) {
                    let error = result.expect_err(what);
                    assert_eq!(error.kind(), ErrorKind::Index, "{what}: {error}");
                    assert!(error.to_string().contains("outside "), "{what}: {error}");
                }
            }
        }
        let valid = Tensor::new(&shape, &vec![-1i64; count]).unwrap();
        let m = two_inputs(&["64", "8"], (Int64, &dims), around(n.clone()));
        for result in run_everywhere(m, &[x(), valid]) {
            assert!(result.is_ok(), "{what}: -1 is the last");
        }
    }
}

#[test]
fn scattering_outside() {
    let x = || Tensor::random(nestjit::DType::F32, &[16, 4], 3).unwrap();
    let updates = vec![0.5f32; 64];
    let elements = |reduction: &str| {
        with(node("ScatterElements", &["x", "i", "u"], &["y"]), string("reduction", reduction))
    };
    let cases = [
        ("ScatterElements", elements("none"), vec![16usize, 4]),
        ("ScatterElements, add", elements("add"), vec![16, 4]),
        ("ScatterND", node("ScatterND", &["x", "i", "u"], &["y"]), vec![16, 1]),
    ];
    for (what, n, shape) in cases {
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        for wrong in [16, -17, i64::MIN] {
            let mut indices = vec![0i64; shape.iter().product()];
            *indices.last_mut().unwrap() = wrong;
            let mut m = two_inputs(&["16", "4"], (Int64, &dims), vec![n.clone()]);
            m.graph.as_mut().unwrap().initializer.push(f32s("u", &[16, 4], &updates));
            for result in run_everywhere(m, &[x(), Tensor::new(&shape, &indices).unwrap()]) {
                let error = result.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Index, "{what}: {error}");
            }
        }
    }
}

/// Divisors of zero and the one quotient that overflows: some value, the same everywhere, and no trap.
#[test]
fn integer_division_does_not_trap() {
    for (op, fmod) in [("Div", None), ("Mod", Some(0)), ("Mod", Some(1))] {
        let n = fmod.into_iter().fold(node(op, &["a", "b"], &["q"]), |n, fmod| with(n, int("fmod", fmod)));
        let nodes = vec![node("Add", &["a0", "zero"], &["a"]), n, node("Mul", &["q", "one"], &["y"])];
        let of = |dtype: DataType, zero, one| {
            model_of(nestjit::onnx::proto::GraphProto {
                initializer: vec![zero, one],
                ..graph_of(
                    vec![declared("a0", dtype, &["40"]), declared("b", dtype, &["40"])],
                    nodes.clone(),
                    &["y"],
                )
            })
        };
        let (numerators, divisors) = ([i64::MIN, i64::MAX, 0, 5, -5], [0i64, -1, 1, 3, i64::MIN, -3, 0, 2]);
        let a: Vec<i64> = (0..40).map(|i| numerators[i / 8]).collect();
        let b: Vec<i64> = (0..40).map(|i| divisors[i % 8]).collect();
        let m = of(Int64, i64s("zero", &[], &[0]), i64s("one", &[], &[1]));
        let inputs = [Tensor::new(&[40], &a).unwrap(), Tensor::new(&[40], &b).unwrap()];
        let results = run_everywhere(m, &inputs);
        let expected = results[0].as_ref().unwrap();
        assert!(results.iter().all(|r| r.as_ref().unwrap() == expected), "{op} of i64: {results:?}");
        let quotients = expected[0].values::<i64>().unwrap();
        for ((a, b), q) in a.iter().zip(&b).zip(quotients).filter(|((_, b), _)| **b > 0) {
            let expected = match (op, fmod) {
                ("Div", _) => a.wrapping_div(*b),
                (_, Some(1)) => a.wrapping_rem(*b),
                _ => a.rem_euclid(*b),
            };
            assert_eq!(*q, expected, "{op} {a} {b}");
        }
        // The same bits for 32.
        let narrow = |list: &[i64]| -> Tensor {
            let clamped = |v: &i64| (*v).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
            Tensor::new(&[40], &list.iter().map(clamped).collect::<Vec<_>>()).unwrap()
        };
        let scalar = |name: &str, v| nestjit::onnx::proto::TensorProto {
            int32_data: vec![v],
            ..empty(name, Int32, &[])
        };
        let m = of(Int32, scalar("zero", 0), scalar("one", 1));
        let results = run_everywhere(m, &[narrow(&a), narrow(&b)]);
        let expected = results[0].as_ref().unwrap();
        assert!(results.iter().all(|r| r.as_ref().unwrap() == expected), "{op} of i32: {results:?}");
    }
    // Nor where constants are folded when the model is imported.
    let constant = |op: &str, a: i64, b: i64| {
        let nodes = vec![
            node(op, &["a", "b"], &["q"]),
            with(node("Cast", &["q"], &["f"]), int("to", 1)),
            node("Add", &["x", "f"], &["y"]),
        ];
        model(&["1"], nodes, vec![i64s("a", &[], &[a]), i64s("b", &[], &[b])])
    };
    for op in ["Div", "Mod"] {
        for (a, b) in [(1, 0), (i64::MIN, -1), (0, 0)] {
            let result = without_panic(|| import(constant(op, a, b)).map(drop));
            assert!(result.is_ok(), "{op} {a} {b}: {result:?}");
        }
    }
}

#[test]
fn inputs_that_determine_shapes_are_checked_like_constants() {
    use nestjit::Session;
    use nestjit::onnx::OnnxModel;
    let session = |m: ModelProto| Session::new(OnnxModel::from_proto(m).unwrap(), Compiler::new().threads(1));
    let range = session(model_of(graph_of(
        vec![declared("a", Int64, &[]), declared("b", Int64, &[]), declared("c", Int64, &[])],
        vec![node("Range", &["a", "b", "c"], &["y"])],
        &["y"],
    )));
    let call = |a: i64, b: i64, c: i64| range.run(&[a, b, c].map(Tensor::scalar));
    assert_eq!(call(0, 6, 2).unwrap()[0].values::<i64>().unwrap(), [0, 2, 4]);
    assert_eq!(call(5, 0, 1).unwrap()[0].len(), 0);
    let zero = call(0, 5, 0).unwrap_err();
    assert!(zero.to_string().contains("(Range, opset 17): delta is 0"), "{zero}");
    assert_eq!(call(0, i64::MAX, 1).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(call(i64::MIN, i64::MAX, 1).unwrap_err().kind(), ErrorKind::Limit);
    assert!(call(i64::MAX, i64::MIN, i64::MIN).is_ok_and(|y| y[0].len() <= 2), "a step that overflows");

    let expand = session(model_of(graph_of(
        vec![declared("x", Float, &["1"]), declared("s", Int64, &["?"])],
        vec![node("Expand", &["x", "s"], &["y"])],
        &["y"],
    )));
    let x = Tensor::new(&[1], &[1.0f32]).unwrap();
    let call = |s: &[i64]| expand.run(&[x.clone(), Tensor::new(&[s.len()], s).unwrap()]);
    assert_eq!(call(&[2, 3]).unwrap()[0].shape(), [2, 3]);
    for s in [&[1 << 60][..], &[1 << 40, 1 << 40], &[i64::MAX]] {
        assert_eq!(call(s).unwrap_err().kind(), ErrorKind::Limit, "{s:?}");
    }
    assert!(call(&[-1]).unwrap_err().to_string().contains("Expand"));
}
