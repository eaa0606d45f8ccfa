//! If, Loop, Scan and functions: bodies that are compiled once and run as often as it takes.

use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{FunctionProto, GraphProto, OperatorSetIdProto, TensorProto};
use nestjit::{Compiler, Session, Tensor};

use super::build::{With, floats, graph, ints, item, model, node, nodes, t, with_functions};

fn session(model: OnnxModel) -> Session {
    Session::new(model, Compiler::new().threads(1))
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.values::<f32>().unwrap().to_vec()
}

/// An `int4` that is 1, named `zero`: a zero point.
fn nibble_one() -> TensorProto {
    TensorProto {
        name: Some("zero".into()),
        data_type: Some(DataType::Int4.into()),
        int32_data: vec![1],
        ..TensorProto::default()
    }
}

#[test]
fn only_the_branch_that_is_taken_runs() {
    // The other branch reads outside `x`.
    let then = graph(&[], &["a"], vec![node("Gather: x, far -> a")]);
    let other = graph(&[], &["b"], vec![node("MatMul: x, w -> b")]);
    let nodes = vec![
        node("ReduceSum: x -> sum").int("keepdims", 0),
        node("Greater: sum, zero -> c"),
        node("If: c -> y").graph("then_branch", then).graph("else_branch", other),
    ];
    let weights =
        vec![ints("far", &[1], &[9]), floats("w", &[2, 1], &[1.0, 2.0]), floats("zero", &[], &[0.0])];
    let s = session(model(graph(&["x: f32 1 2"], &["y"], nodes), weights));
    let call = s.call(&[t(&[1, 2], &[-3.0f32, 1.0])]).unwrap();
    assert_eq!((f32s(&call.outputs[0]), call.programs), (vec![-1.0], 2), "the condition, and one branch");
    let error = s.run(&[t(&[1, 2], &[3.0f32, 1.0])]).unwrap_err();
    assert_eq!(error.kind(), nestjit::ErrorKind::Index);
}

#[test]
fn branches_of_different_shapes() {
    let then = graph(&[], &["a"], vec![node("Concat: x, x -> a").int("axis", 0)]);
    let other = graph(&[], &["b"], vec![node("Neg: x -> b")]);
    let nodes = vec![
        node("If: c -> h").graph("then_branch", then).graph("else_branch", other),
        node("Add: h, one -> y"),
    ];
    let s = session(model(graph(&["c: bool", "x: f32 n"], &["y"], nodes), vec![floats("one", &[], &[1.0])]));
    let call = |c: bool| s.run(&[t(&[], &[c]), t(&[2], &[1.0f32, 2.0])]).unwrap().swap_remove(0);
    assert_eq!(call(true), t(&[4], &[2.0f32, 3.0, 2.0, 3.0]));
    assert_eq!(call(false), t(&[2], &[0.0f32, -1.0]));
}

#[test]
fn small_branches_become_a_choice() {
    let then = graph(&[], &["a"], vec![node("Exp: x -> a")]);
    let other = graph(&[], &["b"], vec![node("Neg: x -> b")]);
    let nodes = vec![node("If: c -> y").graph("then_branch", then).graph("else_branch", other)];
    let s = session(model(graph(&["c: bool", "x: f32 2"], &["y"], nodes), vec![]));
    let call = s.call(&[t(&[], &[false]), t(&[2], &[1.0f32, -2.0])]).unwrap();
    assert_eq!((f32s(&call.outputs[0]), call.programs), (vec![-1.0, 2.0], 1));
    s.executable(&[t(&[], &[true]), t(&[2], &[1.0f32, -2.0])]).unwrap();
}

/// The level at which `x <= level` holds first, found by nested conditions.
fn nested(level: usize, depth: usize) -> GraphProto {
    let value = node(&format!("Constant: -> v{level}")).tensor("value", floats("", &[1], &[level as f32]));
    if level == depth {
        let scaled = node(&format!("MatMul: v{level}, identity -> r{level}"));
        return graph(&[], &[&format!("r{level}")], vec![value, scaled]);
    }
    let found = node(&format!("MatMul: v{level}, identity -> f{level}"));
    let then = graph(&[], &[&format!("f{level}")], vec![found]);
    let nodes = vec![
        value,
        node(&format!("LessOrEqual: x, v{level} -> c{level}")),
        node(&format!("If: c{level} -> r{level}"))
            .graph("then_branch", then)
            .graph("else_branch", nested(level + 1, depth)),
    ];
    graph(&[], &[&format!("r{level}")], nodes)
}

#[test]
fn sixty_nested_conditions() {
    let mut outer = nested(0, 60);
    outer.input = graph(&["x: f32 1"], &[], vec![]).input;
    let s = session(model(outer, vec![floats("identity", &[1, 1], &[1.0])]));
    for (x, level) in [(-5.0f32, 0.0f32), (0.5, 1.0), (33.0, 33.0), (1e9, 60.0)] {
        assert_eq!(f32s(&s.run(&[t(&[1], &[x])]).unwrap()[0]), [level]);
    }
}

/// `n` steps of `h = tanh(h w + x[i])`, and all `h`.
fn recurrence() -> OnnxModel {
    let text = "
        Gather: x, i -> xi
        MatMul: h, w -> hw
        Add: hw, xi -> sum
        Tanh: sum -> next
        Identity: c -> go
        Identity: next -> shown";
    let body = graph(&["i: i64", "c: bool", "h: f32 1 4"], &["go", "next", "shown: f32 1 4"], nodes(text));
    let nodes = vec![
        node("Neg: start -> s0"),
        node("Loop: n, _, s0 -> h, all").graph("body", body),
        node("Neg: h -> y"),
    ];
    let weights: Vec<f32> = (0..16).map(|i| ((i * 7) % 5) as f32 / 10.0 - 0.2).collect();
    let graph = graph(&["x: f32 steps 4", "start: f32 1 4", "n: i64"], &["y", "all"], nodes);
    model(graph, vec![floats("w", &[4, 4], &weights)])
}

#[test]
fn a_loop_runs_one_compiled_body() {
    let s = session(recurrence());
    let reference = Session::reference(recurrence());
    let x = Tensor::random(nestjit::DType::F32, &[50, 4], 3).unwrap();
    let start = t(&[1, 4], &[0.1f32, -0.2, 0.3, 0.4]);
    for (n, programs) in [(50i64, 3), (7, 0), (1, 0)] {
        let inputs = [x.clone(), start.clone(), Tensor::scalar(n)];
        let call = s.call(&inputs).unwrap();
        assert_eq!(call.programs, programs, "{n} iterations");
        assert_eq!(call.outputs[1].shape(), [n as usize, 1, 4]);
        for (a, b) in call.outputs.iter().zip(reference.run(&inputs).unwrap()) {
            assert!(f32s(a).iter().zip(f32s(&b)).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
    let none = s.run(&[x.clone(), start.clone(), Tensor::scalar(0i64)]).unwrap();
    assert_eq!((f32s(&none[0]), none[1].shape()), (f32s(&start), &[0usize, 1, 4][..]));
    let negative = s.run(&[x.clone(), start.clone(), Tensor::scalar(-3i64)]).unwrap();
    assert_eq!(negative, none);
    // The body reads behind the end.
    let error = s.run(&[x, start, Tensor::scalar(51i64)]).unwrap_err();
    assert_eq!(error.kind(), nestjit::ErrorKind::Index);
}

#[test]
fn a_loop_that_a_condition_ends() {
    // Halves `v` while it is greater than 1, and counts.
    let text = "
        Mul: v, half -> w
        Add: n, one -> m
        Greater: w, one -> go";
    let body = graph(&["i: i64", "c: bool", "v: f32", "n: f32"], &["go", "w", "m"], nodes(text));
    let nodes = vec![node("Loop: _, go0, v0, zero -> v, n").graph("body", body)];
    let weights = vec![floats("half", &[], &[0.5]), floats("one", &[], &[1.0]), floats("zero", &[], &[0.0])];
    let s = session(model(graph(&["v0: f32", "go0: bool"], &["v", "n"], nodes), weights)).loop_limit(50);
    let call = |v: f32, go: bool| s.run(&[Tensor::scalar(v), Tensor::scalar(go)]).map(|y| f32s(&y[1])[0]);
    assert_eq!(call(8.0, true).unwrap(), 3.0);
    assert_eq!(call(1e6, true).unwrap(), 20.0);
    assert_eq!(call(8.0, false).unwrap(), 0.0);
    let error = call(f32::INFINITY, true).unwrap_err();
    assert_eq!(error.kind(), nestjit::ErrorKind::Limit);
    assert!(error.to_string().contains("(Loop, opset 18): the loop goes on after 50 iterations"), "{error}");
}

#[test]
fn a_body_with_shapes_that_depend_on_data() {
    // Keeps the rows `0..i` of `x` and sums them up; the sums are collected.
    let text = "
        Unsqueeze: i, axis -> end
        Slice: x, axis, end, axis -> part
        ReduceSum: part -> sum
        Add: acc, sum -> next
        Identity: c -> go";
    let mut inner = nodes(text);
    inner[2] = inner[2].clone().int("keepdims", 0);
    let body = graph(&["i: i64", "c: bool", "acc: f32"], &["go", "next", "sum"], inner);
    let nodes = vec![node("Loop: n, _, zero -> y, sums").graph("body", body)];
    let weights = vec![floats("zero", &[], &[0.0]), ints("axis", &[1], &[0])];
    let s = session(model(graph(&["x: f32 4", "n: i64"], &["y", "sums"], nodes), weights));
    let y = s.run(&[t(&[4], &[1.0f32, 2.0, 3.0, 4.0]), Tensor::scalar(5i64)]).unwrap();
    assert_eq!((f32s(&y[0]), f32s(&y[1])), (vec![20.0], vec![0.0, 1.0, 3.0, 6.0, 10.0]));
}

#[test]
fn bodies_know_the_limits_of_constants_of_four_bits() {
    let zero = nibble_one();
    let text = "
        QuantizeLinear: v, scale, zero -> q
        DequantizeLinear: q, scale, zero -> next
        Identity: c -> go";
    for in_body in [true, false] {
        let mut body = graph(&["i: i64", "c: bool", "v: f32 2"], &["go", "next: f32 2"], nodes(text));
        let mut weights = vec![floats("scale", &[], &[2.0])];
        if in_body { &mut body.initializer } else { &mut weights }.push(zero.clone());
        let main = vec![node("Loop: n, _, x -> y").graph("body", body)];
        let s = session(model(graph(&["x: f32 2", "n: i64"], &["y"], main), weights));
        let y = s.run(&[t(&[2], &[40.0f32, -40.0]), Tensor::scalar(1i64)]).unwrap();
        assert_eq!(f32s(&y[0]), [12.0, -18.0], "in the body: {in_body}");
    }
}

#[test]
fn what_is_imported_in_vain_leaves_no_trace() {
    // The first branch is imported, but costs too much to be computed for nothing.
    let four_bits = TensorProto { name: Some("four".into()), ..nibble_one() };
    let mut then = graph(&[], &["a"], nodes("Cast: four -> f\nAdd: x, f -> g\nMatMul: g, w -> a"));
    then.node[0] = then.node[0].clone().int("to", DataType::Float as i64);
    then.initializer.push(four_bits);
    let other = graph(&[], &["b"], nodes("Neg: x -> b"));
    let main = vec![
        node("If: c -> y").graph("then_branch", then).graph("else_branch", other),
        node("Neg: x -> n"),
        node("Exp: n -> z"),
    ];
    let weights = vec![floats("w", &[2, 2], &[1.0, 0.0, 0.0, 1.0])];
    let s = session(model(graph(&["x: f32 2 2", "c: bool"], &["y", "z"], main), weights));
    let y = s.run(&[t(&[2, 2], &[0.0f32; 4]), Tensor::scalar(true)]).unwrap();
    assert_eq!((f32s(&y[0]), f32s(&y[1])), (vec![1.0; 4], vec![1.0; 4]));
}

#[test]
fn a_loop_that_makes_a_sequence() {
    let inner = vec![node("SequenceInsert: list, x -> longer"), node("Identity: c -> go")];
    let body = graph(&["i: i64", "c: bool", "list"], &["go", "longer"], inner);
    let nodes = vec![
        node("SequenceEmpty: -> empty"),
        node("Loop: n, _, empty -> list").graph("body", body),
        node("ConcatFromSequence: list -> y").int("axis", 0).int("new_axis", 1),
    ];
    let s = session(model(graph(&["x: f32 2", "n: i64"], &["y"], nodes), vec![]));
    let y = s.run(&[t(&[2], &[1.0f32, 2.0]), Tensor::scalar(3i64)]).unwrap();
    assert_eq!(y[0], t(&[3, 2], &[1.0f32, 2.0, 1.0, 2.0, 1.0, 2.0]));
}

#[test]
fn scans_in_both_directions() {
    // Running sums along the second dimension, of `x` forwards and of `z` backwards; the second result is reversed.
    let inner = nodes("Add: s, a -> t1\nAdd: t1, b -> t2\nIdentity: t2 -> o1\nSub: a, b -> o2");
    let body = graph(&["s: f32 2", "a: f32 2", "b: f32 2"], &["t2", "o1", "o2"], inner);
    let scan = node("Scan: start, x, z -> last, sums, differences")
        .graph("body", body)
        .int("num_scan_inputs", 2)
        .ints("scan_input_axes", &[1, -1])
        .ints("scan_input_directions", &[0, 1])
        .ints("scan_output_axes", &[1, 0])
        .ints("scan_output_directions", &[0, 1]);
    let outputs = ["last", "sums", "differences"];
    let s =
        session(model(graph(&["start: f32 2", "x: f32 2 n", "z: f32 2 n"], &outputs, vec![scan]), vec![]));
    let run = |n: usize| {
        let x: Vec<f32> = (0..2 * n).map(|i| i as f32).collect();
        let z: Vec<f32> = (0..2 * n).map(|i| 100.0 * i as f32).collect();
        let call = s.call(&[t(&[2], &[1.0f32, 2.0]), t(&[2, n], &x), t(&[2, n], &z)]).unwrap();
        let (mut sum, mut sums, mut differences) = ([1.0, 2.0], vec![0.0; 2 * n], vec![0.0; 2 * n]);
        for i in 0..n {
            for row in 0..2 {
                let (a, b) = (x[row * n + i], z[row * n + n - 1 - i]);
                sum[row] += a + b;
                sums[row * n + i] = sum[row];
                differences[(n - 1 - i) * 2 + row] = a - b;
            }
        }
        assert_eq!(f32s(&call.outputs[0]), sum, "{n}");
        assert_eq!(call.outputs[1], t(&[2, n], &sums), "{n}");
        assert_eq!(call.outputs[2], t(&[n, 2], &differences), "{n}");
        call.programs
    };
    // A short scan is unrolled, long ones share a body.
    assert_eq!([run(3), run(300), run(300)], [1, 1, 0]);
    run(0);
}

/// A function whose result's length depends on data, called twice, and once without its second operand.
#[test]
fn functions_may_contain_what_cannot_be_compiled() {
    let function = FunctionProto {
        name: Some("NonZeros".into()),
        domain: Some("local".into()),
        input: vec!["v".into(), "shift".into()],
        output: vec!["found".into()],
        node: nodes(
            "NonZero: v -> at\nSqueeze: at -> flat\nGather: v, flat -> values\nClip: values, _, shift -> found",
        ),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(18) }],
        ..FunctionProto::default()
    };
    let mut calls = nodes("NonZeros: x, most -> a\nNonZeros: a -> b\nAdd: a, b -> y");
    calls[0].domain = Some("local".into());
    calls[1].domain = Some("local".into());
    let weights = vec![floats("most", &[], &[2.0])];
    let m = with_functions(graph(&["x: f32 n"], &["y"], calls), weights, vec![function]).unwrap();
    let y = session(m).run(&[t(&[4], &[0.0f32, 3.0, 0.0, -1.0])]).unwrap();
    assert_eq!(f32s(&y[0]), [4.0, -2.0]);
}

/// Decoding with a cache of keys and values, a loop of steps inside the model: the body is compiled once.
#[test]
fn generation_with_a_cache() {
    let (length, d) = (8usize, 4usize);
    let text = "
        Unsqueeze: i, zero1 -> at
        MatMul: x, wk -> key
        MatMul: x, wv -> value
        ScatterND: keys, at2, key -> keys2
        ScatterND: values, at2, value -> values2
        Transpose: keys2 -> kt
        MatMul: x, kt -> scores
        LessOrEqual: positions, i -> seen
        Where: seen, scores, low -> masked
        Softmax: masked -> p
        MatMul: p, values2 -> read
        Add: read, x -> next
        Identity: c -> go
        Identity: next -> shown";
    let mut inner = nodes(text);
    inner.insert(1, node("Unsqueeze: at, one1 -> at2"));
    let body = graph(
        &["i: i64", "c: bool", "x", "keys", "values"],
        &["go", "next", "keys2", "values2", "shown"],
        inner,
    );
    let main = vec![node("Loop: n, _, x0, k0, v0 -> x, k, v, all").graph("body", body)];
    let weight = |seed: usize| -> Vec<f32> {
        (0..d * d).map(|i| ((i * 5 + seed * 3) % 7) as f32 / 7.0 - 0.4).collect()
    };
    let positions: Vec<i64> = (0..length as i64).collect();
    let initializers = vec![
        floats("wk", &[4, 4], &weight(1)),
        floats("wv", &[4, 4], &weight(2)),
        floats("low", &[], &[-1e9]),
        floats("k0", &[8, 4], &[0.0; 32]),
        floats("v0", &[8, 4], &[0.0; 32]),
        ints("positions", &[8], &positions),
        ints("zero1", &[1], &[0]),
        ints("one1", &[1], &[1]),
    ];
    let s = session(model(graph(&["x0: f32 1 4", "n: i64"], &["x", "all"], main), initializers));
    let x0 = [0.5f32, -0.25, 1.0, 0.125];
    let call = s.call(&[t(&[1, d], &x0), Tensor::scalar(length as i64)]).unwrap();
    assert_eq!(call.programs, 1, "one body");
    assert_eq!(s.call(&[t(&[1, d], &x0), Tensor::scalar(3i64)]).unwrap().programs, 0);

    let product = |x: &[f32], w: &[f32]| -> Vec<f32> {
        (0..d).map(|j| (0..d).map(|k| x[k] * w[k * d + j]).sum()).collect()
    };
    let (mut x, mut keys, mut values) = (x0.to_vec(), Vec::new(), Vec::new());
    let mut all: Vec<f32> = Vec::new();
    for _ in 0..length {
        keys.push(product(&x, &weight(1)));
        values.push(product(&x, &weight(2)));
        let scores: Vec<f32> = keys.iter().map(|k| k.iter().zip(&x).map(|(a, b)| a * b).sum()).collect();
        let top = scores.iter().copied().fold(f32::MIN, f32::max);
        let e: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f32 = e.iter().sum();
        for j in 0..d {
            x[j] += e.iter().zip(&values).map(|(e, v)| e / sum * v[j]).sum::<f32>();
        }
        all.extend(&x);
    }
    assert_eq!(call.outputs[1].shape(), [length, 1, d]);
    for (a, b) in f32s(&call.outputs[1]).iter().zip(&all) {
        assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{a} {b}");
    }
}

/// The same with a cache that grows from call to call, which is the caller's.
#[test]
fn a_cache_that_grows_is_compiled_for_each_length() {
    let nodes = vec![
        node("Concat: past, x -> present").int("axis", 0),
        node("ReduceSum: present, axis -> y").int("keepdims", 1),
    ];
    let g = graph(&["past: f32 t 2", "x: f32 1 2"], &["y", "present"], nodes);
    let s = session(model(g, vec![ints("axis", &[1], &[0])]));
    for round in 0..2 {
        let mut past = t::<f32>(&[0, 2], &[]);
        for step in 1..=5 {
            let mut call = s.call(&[past, t(&[1, 2], &[1.0f32, step as f32])]).unwrap();
            assert_eq!(call.programs, usize::from(round == 0));
            past = call.outputs.pop().unwrap();
            let total = (step * (step + 1) / 2) as f32;
            assert_eq!(f32s(&call.outputs[0]), [step as f32, total]);
        }
    }
}

#[test]
fn bodies_are_traced_with_their_depth() {
    let s = session(recurrence());
    let x = Tensor::random(nestjit::DType::F32, &[9, 4], 3).unwrap();
    let inputs = [x.into(), item(&[1, 4], &[0.0f32; 4]), item(&[], &[9i64])];
    let (_, trace) = s.trace(&inputs).unwrap();
    let parts: Vec<_> = trace.parts.iter().map(|p| (p.depth, p.program.is_some(), p.runs)).collect();
    assert_eq!(parts, [(0, true, 1), (0, false, 1), (1, true, 9), (0, true, 1)]);
    assert_eq!(trace.parts[1].reasons[0].op, "Loop, opset 18");
    assert_eq!(trace.parts[1].reasons[0].why, "the number of iterations depends on data");
}
