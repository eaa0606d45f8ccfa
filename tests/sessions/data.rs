//! Shapes that depend on data: what is compiled, how often, and what comes out.

use nestjit::onnx::proto::TensorProto;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::{Compiler, Item, Session, Tensor};

use super::build::{With, declared, floats, graph, ints, item, model, node, nodes, proto, t};

fn session(model: nestjit::onnx::OnnxModel) -> Session {
    Session::new(model, Compiler::new().threads(1))
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.values::<f32>().unwrap().to_vec()
}

/// Twice the elements of `relu(x)` that are not 0.
fn picked() -> nestjit::onnx::OnnxModel {
    let text = "
        Relu: x -> r
        NonZero: r -> where
        Transpose: where -> places
        GatherND: r, places -> found
        Add: found, found -> y";
    model(graph(&["x: f32 n m"], &["y"], nodes(text)), vec![])
}

#[test]
fn a_result_of_unknown_length_ends_a_program_and_begins_another() {
    let s = session(picked());
    let call = |shape: &[usize], x: &[f32]| {
        let call = s.call(&[t(shape, x)]).unwrap();
        (f32s(&call.outputs[0]), call.programs)
    };
    assert_eq!(call(&[2, 2], &[1.0, -1.0, 0.0, 3.0]), (vec![2.0, 6.0], 2));
    assert_eq!(call(&[2, 2], &[0.0, 4.0, 5.0, -3.0]), (vec![8.0, 10.0], 0), "as many, elsewhere: warm");
    assert_eq!(call(&[2, 2], &[1.0, 1.0, 1.0, 0.0]), (vec![2.0; 3], 1), "only what follows is compiled anew");
    assert_eq!(call(&[2, 2], &[-1.0; 4]).0, Vec::<f32>::new());
    assert_eq!(call(&[1, 3], &[7.0, -1.0, 0.0]), (vec![14.0], 2));
    let timings = s.timings();
    assert_eq!((timings.calls, timings.compiling_calls, timings.programs as usize), (5, 4, s.cached()));
    assert_eq!(
        timings.last.iter().map(|c| c.compiled.is_some()).collect::<Vec<_>>(),
        [true, false, true, true, true]
    );
}

#[test]
fn programs_that_were_not_used_for_long_are_forgotten() {
    let s = session(picked()).cache_limit(2);
    let call = |n: usize| {
        let x: Vec<f32> = (0..8).map(|i| if i < n { 1.0 } else { 0.0 }).collect();
        s.call(&[t(&[2, 4], &x)]).unwrap().programs
    };
    assert_eq!([1, 2, 1, 3, 1, 2].map(call), [2, 1, 0, 1, 0, 1]);
    assert_eq!(s.cached(), 3);
}

#[test]
fn a_model_with_known_shapes_is_one_program() {
    let text = "
        Shape: x -> shape
        Gather: shape, one -> n
        Concat: n, minus -> wanted
        Reshape: x, wanted -> flat
        Softmax: flat -> y";
    let mut nodes = nodes(text);
    nodes[2] = nodes[2].clone().int("axis", 0);
    let weights = vec![ints("one", &[1], &[1]), ints("minus", &[1], &[-1])];
    let s = session(model(graph(&["x: f32 a b 2"], &["y"], nodes), weights));
    let (call, trace) = s.trace(&[item(&[2, 3, 2], &[0.5f32; 12])]).unwrap();
    assert_eq!((call.programs, s.cached(), trace.parts.len()), (1, 1, 1));
    let (executable, compiled) = s.executable(&[t(&[2, 3, 2], &[0.5f32; 12])]).unwrap();
    assert_eq!((executable.outputs()[0].shape.as_slice(), compiled), (&[3, 4][..], None));
}

#[test]
fn shapes_that_data_decides() {
    // The first `k` elements of `x`, in a row, with the indices from 0 on; `k` is what `x` has at its end.
    let text = "
        Gather: x, last -> end
        Cast: end -> k
        Slice: x, zero, k -> part
        Squeeze: k -> count
        Range: null, count, step -> steps
        Cast: steps -> offsets
        Add: part, offsets -> sum
        Concat: one, k -> row
        Reshape: sum, row -> y";
    let mut nodes = nodes(text);
    nodes[1] = nodes[1].clone().int("to", 7);
    nodes[5] = nodes[5].clone().int("to", 1);
    nodes[7] = nodes[7].clone().int("axis", 0);
    let weights = vec![
        ints("last", &[1], &[-1]),
        ints("zero", &[1], &[0]),
        ints("one", &[1], &[1]),
        ints("null", &[], &[0]),
        ints("step", &[], &[1]),
    ];
    let s = session(model(graph(&["x: f32 n"], &["y"], nodes), weights));
    let y = s.run(&[t(&[5], &[4.0f32, 5.0, 6.0, 7.0, 3.0])]).unwrap();
    assert_eq!(y[0], t(&[1, 3], &[4.0f32, 6.0, 8.0]));
    let y = s.run(&[t(&[5], &[4.0f32, 5.0, 6.0, 7.0, 1.0])]).unwrap();
    assert_eq!(y[0], t(&[1, 1], &[4.0f32]));
}

#[test]
fn an_axis_that_data_decides_is_compiled_for() {
    // No operation of the host: a cumulative sum along the axis that `a + a` names.
    let s = session(model(
        graph(&["x: f32 2 2", "a: f32 1"], &["y"], {
            let mut nodes = nodes("Add: a, a -> b\nCast: b -> c\nSqueeze: c -> axis\nCumSum: x, axis -> y");
            nodes[1] = nodes[1].clone().int("to", 7);
            nodes
        }),
        vec![],
    ));
    let call = |axis: f32| s.call(&[t(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]), t(&[1], &[axis])]).unwrap();
    assert_eq!(f32s(&call(0.0).outputs[0]), [1.0, 2.0, 4.0, 6.0]);
    assert_eq!(f32s(&call(0.5).outputs[0]), [1.0, 3.0, 3.0, 7.0]);
    assert_eq!(call(0.0).programs, 0);
}

#[test]
fn values_of_inputs_are_compiled_for_until_there_are_too_many() {
    let mut graph = graph(&["x: f32 60", "s: i64 2"], &["y"], nodes("Reshape: x, s -> r\nNeg: r -> y"));
    graph.input[1] = declared("s: i64 2");
    let s = session(model(graph, vec![]));
    let x: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let call = |rows: i64, columns: i64| {
        let call = s.call(&[t(&[60], &x), t(&[2], &[rows, columns])]).unwrap();
        assert_eq!(call.outputs[0].shape(), [rows as usize, (60 / rows) as usize]);
        assert_eq!(call.outputs[0].values::<f32>().unwrap()[59], -59.0);
        call.programs
    };
    assert_eq!([call(2, -1), call(2, -1), call(3, 20)], [1, 0, 1]);
    for _ in 0..2 {
        for rows in [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60] {
            call(rows, -1);
            call(rows, 60 / rows);
        }
    }
    // From then on the host reshapes, and only shapes matter.
    call(6, 10);
    assert_eq!([call(6, -1), call(6, 10)], [0, 0]);
}

#[test]
fn sorting_is_left_to_the_host() {
    let n = 200;
    let nodes = vec![node("Neg: x -> z"), node("TopK: z, k -> v, i").int("axis", 0), node("Neg: v -> y")];
    let s = session(model(graph(&["x: f32 200"], &["y", "i"], nodes), vec![ints("k", &[1], &[3])]));
    let x: Vec<f32> = (0..n).map(|i| ((i * 37) % n) as f32).collect();
    let (call, trace) = s.trace(&[item(&[n], &x)]).unwrap();
    assert_eq!(call.outputs[0], item(&[3], &[0.0f32, 1.0, 2.0]));
    assert_eq!(call.outputs[1], item(&[3], &[0i64, 173, 146]));
    let steps: Vec<&str> = trace.parts.iter().flat_map(|p| &p.reasons).map(|r| r.why.as_str()).collect();
    assert_eq!((call.programs, steps), (2, vec!["it sorts"]));
}

#[test]
fn inputs_and_outputs_may_be_sequences() {
    let nodes = vec![
        node("SequenceInsert: list, x -> longer"),
        node("SequenceAt: longer, zero -> first"),
        node("Add: first, x -> sum"),
        node("ConcatFromSequence: longer -> all").int("axis", 0),
    ];
    let graph = graph(&["list: seq-f32", "x: f32 2"], &["longer", "sum", "all"], nodes);
    let s = session(model(graph, vec![ints("zero", &[], &[0])]));
    let list = Item::Sequence(vec![t(&[2], &[1.0f32, 2.0])]);
    let outputs = s.call_items(&[list, item(&[2], &[3.0f32, 4.0])]).unwrap().outputs;
    assert_eq!(outputs[0].sequence().unwrap().len(), 2);
    assert_eq!(outputs[1], item(&[2], &[4.0f32, 6.0]));
    assert_eq!(outputs[2], item(&[4], &[1.0f32, 2.0, 3.0, 4.0]));
    let empty = s.call_items(&[Item::Sequence(Vec::new()), item(&[2], &[3.0f32, 4.0])]).unwrap().outputs;
    assert_eq!(empty[1], item(&[2], &[6.0f32, 8.0]));
    let error = s.call_items(&[item(&[1], &[1.0f32]), item(&[2], &[3.0f32, 4.0])]).unwrap_err();
    assert_eq!(error.to_string(), "input 'list' must be a sequence");
}

#[test]
fn compiled_and_evaluated_programs_agree() {
    let text = "
        MatMul: x, w -> h
        Tanh: h -> a
        Greater: a, zero -> positive
        Compress: a, mask -> rows
        ReduceSum: rows -> total
        Unique: positive -> kinds, _, _, counts
        Cast: counts -> c
        Mul: c, total -> y";
    let mut nodes = nodes(text);
    nodes[3] = nodes[3].clone().int("axis", 0);
    nodes[4] = nodes[4].clone().int("keepdims", 0);
    nodes[6] = nodes[6].clone().int("to", 1);
    let make = || {
        let weights: Vec<f32> = (0..12).map(|i| (i as f32 - 6.0) / 7.0).collect();
        let graph = graph(&["x: f32 n 3", "mask: bool n"], &["y", "rows"], nodes.clone());
        model(graph, vec![floats("w", &[3, 4], &weights), floats("zero", &[], &[0.0])])
    };
    let x = Tensor::random(nestjit::DType::F32, &[5, 3], 1).unwrap();
    let mask = t(&[5], &[true, false, true, true, false]);
    let expected = Session::reference(make()).run(&[x.clone(), mask.clone()]).unwrap();
    for compiler in [Compiler::new(), Compiler::new().disable_pass("OpFusion")] {
        let outputs = Session::new(make(), compiler.threads(2)).run(&[x.clone(), mask.clone()]).unwrap();
        for (a, b) in outputs.iter().zip(&expected) {
            assert_eq!(a.shape(), b.shape());
            assert!(f32s(a).iter().zip(f32s(b)).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)));
        }
    }
}

#[test]
fn threads_share_a_session() {
    let s = session(picked());
    std::thread::scope(|scope| {
        for n in 1..=4usize {
            let s = &s;
            scope.spawn(move || {
                let x: Vec<f32> = (0..8).map(|i| if i < n { (i + 1) as f32 } else { 0.0 }).collect();
                let expected: Vec<f32> = (1..=n).map(|i| 2.0 * i as f32).collect();
                for _ in 0..20 {
                    assert_eq!(f32s(&s.run(&[t(&[2, 4], &x)]).unwrap()[0]), expected);
                }
            });
        }
    });
    assert_eq!((s.cached(), s.timings().calls), (5, 80), "one first program, and one for each length");
}

/// A model of the newest operator set that is known.
fn newest(g: nestjit::onnx::proto::GraphProto, weights: Vec<nestjit::onnx::proto::TensorProto>) -> Session {
    let mut m = proto(g, weights, vec![]);
    m.opset_import[0].version = Some(nestjit::onnx::MAX_OPSET);
    session(nestjit::onnx::OnnxModel::from_proto(m).unwrap())
}

#[test]
fn bits_of_floats_become_integers_and_back() {
    let list = vec![
        node("Neg: x -> n"),
        node("BitCast: n -> bits").int("to", 6),
        node("BitwiseXor: bits, sign -> plus"),
        node("BitCast: plus -> y").int("to", 1),
    ];
    let sign = TensorProto {
        name: Some("sign".into()),
        data_type: Some(DataType::Int32.into()),
        int32_data: vec![i32::MIN],
        ..TensorProto::default()
    };
    let s = newest(graph(&["x: f32 3"], &["y", "bits"], list), vec![sign]);
    let call = s.call(&[t(&[3], &[1.0f32, -2.5, 0.0])]).unwrap();
    assert_eq!(f32s(&call.outputs[0]), [1.0, -2.5, 0.0]);
    assert_eq!(call.outputs[1].values::<i32>().unwrap(), [-1.0f32, 2.5, -0.0].map(|v| v.to_bits() as i32));
}

/// What an operator means by default may be said, also where the host runs it.
#[test]
fn defaults_of_operations_of_the_host_are_written_out() {
    let list = vec![
        node("SplitToSequence: x -> parts").int("axis", 0).int("keepdims", 1),
        node("ConcatFromSequence: parts -> joined").int("axis", 0).int("new_axis", 0),
        node("TopK: joined, one -> top, at").int("axis", -1).int("largest", 1).int("sorted", 1),
        node("Unique: joined -> different").int("sorted", 1),
        node("Size: different -> count"),
        node("Range: zero, count, one_ -> y").int("stash_type", 1),
    ];
    let weights = vec![ints("one", &[1], &[1]), ints("one_", &[], &[1]), ints("zero", &[], &[0])];
    let s = newest(graph(&["x: f32 4"], &["y", "top"], list), weights);
    let call = s.call(&[t(&[4], &[1.0f32, 3.0, 1.0, 2.0])]).unwrap();
    assert_eq!(call.outputs[0].values::<i64>().unwrap(), [0, 1, 2]);
    assert_eq!(f32s(&call.outputs[1]), [3.0]);
}
