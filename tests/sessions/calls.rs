//! The ways to call a session: names, views, chosen outputs, buffers, deadlines; and what is said about wrong ones.

use std::thread;
use std::time::{Duration, Instant};

use ndarray::{Array2, ArrayD, array, s};
use nestjit::onnx::OnnxModel;
use nestjit::{
    AsInput, CancelHandle, Compiler, DType, ErrorKind, Item, OutputBuffer, Result, RunOptions, Session,
    Tensor,
};

use super::build::{With, floats, graph, ints, model, node, nodes, t};

fn session(model: OnnxModel) -> Session {
    Session::new(model, Compiler::new().threads(1))
}

/// `sum = a + b`, `product = a * b`, and what is greater than 1 of the sum, whose length depends on data.
fn pair() -> OnnxModel {
    let nodes = nodes(
        "
        Add: a, b -> sum
        Mul: a, b -> product
        Greater: sum, one -> large
        Compress: sum, large -> found",
    );
    let graph = graph(&["a: f32 n", "b: f32 n"], &["sum", "product", "found"], nodes);
    model(graph, vec![floats("one", &[], &[1.0])])
}

fn abc() -> OnnxModel {
    model(graph(&["a: f32 n 2", "b: i64 n"], &["y", "z"], nodes("Neg: a -> y\nNeg: b -> z")), vec![])
}

fn error<T>(result: Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[test]
fn inputs_have_names_or_an_order_and_are_tensors_or_views() {
    let s = session(abc());
    let (a, b) = (array![[1.0f32, 2.0], [3.0, 4.0]], array![5i64, 6]);
    let expected = [t(&[2, 2], &[-1.0f32, -2.0, -3.0, -4.0]), t(&[2], &[-5i64, -6])];
    assert_eq!(s.run(&[("b", &b as &dyn AsInput), ("a", &a)]).unwrap(), expected);
    assert_eq!(s.run(&[&a as &dyn AsInput, &b.view()]).unwrap(), expected);
    assert_eq!(s.run(&[("a", Tensor::from(&a)), ("b", Tensor::from(&b))]).unwrap(), expected);
    assert_eq!(
        s.run(&[(String::from("b"), &Item::from(Tensor::from(&b))), ("a".into(), &Tensor::from(&a).into())])
            .unwrap(),
        expected
    );
    // Any strides.
    let wide = array![[3.0f32, 9.0, 4.0], [1.0, 9.0, 2.0]];
    let outputs = s.run(&[("a", &wide.slice(s![..;-1, ..;2]) as &dyn AsInput), ("b", &b)]).unwrap();
    assert_eq!(outputs, expected);
    assert_eq!(s.timings().programs, 1);
}

#[test]
fn wrong_inputs_are_errors_that_say_what_there_is() {
    let s = session(abc());
    let (a, b) = (t(&[1, 2], &[1.0f32, 2.0]), t(&[1], &[3i64]));
    let run = |inputs: &[(&str, &Tensor)]| error(s.run(inputs));
    let usage = |text: &str| (ErrorKind::Usage, text.to_owned());
    assert_eq!(run(&[("a", &a), ("c", &b)]), usage("there is no input 'c'; there is 'a', 'b'"));
    assert_eq!(run(&[("a", &a), ("a", &a)]), usage("input 'a' is given twice"));
    assert_eq!(run(&[("b", &b)]), usage("not given: input 'a'"));
    assert_eq!(
        error(s.run(&[&a])),
        (ErrorKind::Shape, "the model has 2 inputs ('a', 'b'), but 1 were given".to_owned())
    );
    assert_eq!(
        run(&[("a", &b), ("b", &b)]),
        (ErrorKind::Shape, "input 'a' is f32, but i64 was given".to_owned())
    );
    let (kind, text) = run(&[("a", &t(&[2], &[1.0f32; 2])), ("b", &b)]);
    assert_eq!((kind, text.as_str()), (ErrorKind::Shape, "input 'a' has rank 2, but [2] was given"));
    let choose = |names: &[&str]| {
        error(s.run_with(&[("a", &a), ("b", &b)], &RunOptions::new().outputs(names.iter().copied())))
    };
    assert_eq!(choose(&["x"]), usage("there is no output 'x'; there is 'y', 'z'"));
    assert_eq!(choose(&["y", "y"]), usage("output 'y' is chosen twice"));
    let named =
        session(model(graph(&["pixels: f32 n"], &["scores"], nodes("Neg: pixels -> scores")), vec![]));
    let (_, text) = error(named.run(&[("pixel", &t(&[1], &[1.0f32]))]));
    assert_eq!(text, "there is no input 'pixel' (did you mean 'pixels'?); there is 'pixels'");
    assert_eq!(choose(&[]), usage("no output is chosen; there is 'y', 'z'"));
}

#[test]
fn only_what_chosen_outputs_need_is_computed() {
    let s = session(pair());
    let inputs = [("a", array![1.0f32, 0.0, 2.0]), ("b", array![3.0f32, 0.5, 4.0])];
    let outputs =
        |names: &[&str]| s.call_with(&inputs, &RunOptions::new().outputs(names.iter().copied())).unwrap();
    let product = outputs(&["product"]);
    assert_eq!((product.outputs, product.programs), (vec![t(&[3], &[3.0f32, 0.0, 8.0])], 1));
    let both = outputs(&["found", "sum"]);
    assert_eq!(both.outputs, [t(&[2], &[4.0f32, 6.0]), t(&[3], &[4.0f32, 0.5, 6.0])]);
    assert_eq!(outputs(&["product"]).programs, 0);
    assert_eq!(s.run(&inputs).unwrap().len(), 3);
    // What nobody supports does not matter if nobody wants it.
    let s =
        session(model(graph(&["x: f32 n"], &["y", "z"], nodes("Frobnicate: x -> y\nNeg: x -> z")), vec![]));
    let x = [array![1.0f32]];
    assert_eq!(s.run_with(&x, &RunOptions::new().outputs(["z"])).unwrap(), [t(&[1], &[-1.0f32])]);
    assert_eq!(error(s.run(&x)).0, ErrorKind::Unsupported);
}

#[test]
fn outputs_are_written_to_what_the_caller_has() {
    // As one program, and as several.
    for nodes in [
        "Add: a, b -> y\nSub: a, b -> z",
        "Add: a, b -> y\nGreater: y, y -> no\nNonZero: no -> none\nSub: a, b -> z",
    ] {
        let s = session(model(
            graph(&["a: f32 n 2", "b: f32 n 2"], &["y", "z"], super::build::nodes(nodes)),
            vec![],
        ));
        let inputs = [array![[1.0f32, 2.0], [3.0, 4.0]], array![[1.0f32, 1.0], [1.0, 1.0]]];
        let (mut y, mut z) = (Array2::<f32>::zeros((2, 2)), vec![0.0f32; 4]);
        s.run_into(&inputs, &mut [&mut y as &mut dyn OutputBuffer, &mut z]).unwrap();
        assert_eq!((y, z), (array![[2.0f32, 3.0], [4.0, 5.0]], vec![0.0f32, 1.0, 2.0, 3.0]));
        // Slices, aligned as their elements are.
        let mut memory = [9.0f32; 10];
        let (left, right) = memory[1..9].split_at_mut(4);
        s.run_into(&inputs, &mut [left, right]).unwrap();
        assert_eq!(memory, [9.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 9.0]);
        // One that is chosen, as a tensor.
        let mut tensor = [Tensor::zeros(DType::F32, &[2, 2]).unwrap()];
        let shared = tensor[0].clone();
        s.run_into_with(&inputs, &mut tensor, &RunOptions::new().outputs(["z"])).unwrap();
        assert_eq!(tensor[0], t(&[2, 2], &[0.0f32, 1.0, 2.0, 3.0]));
        assert_eq!(shared, t(&[2, 2], &[0.0f32; 4]), "another tensor keeps its elements");
        // A part of an array, in standard layout.
        let mut array = ArrayD::<f32>::zeros(vec![3, 2, 2]);
        let mut part = array.index_axis_mut(ndarray::Axis(0), 1);
        s.run_into_with(&inputs, &mut [part.view_mut()], &RunOptions::new().outputs(["z"])).unwrap();
        assert_eq!(
            array.into_raw_vec_and_offset().0,
            [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]
        );
    }
}

#[test]
fn buffers_that_do_not_fit_are_errors() {
    let s = session(abc());
    let inputs = [("a", Tensor::zeros(DType::F32, &[1, 2]).unwrap()), ("b", t(&[1], &[3i64]))];
    let into = |outputs: &mut [&mut dyn OutputBuffer]| error(s.run_into(&inputs, outputs));
    let shape = |text: &str| (ErrorKind::Shape, text.to_owned());
    let (mut f, mut i) = (vec![0.0f32; 2], vec![0i64; 1]);
    assert_eq!(into(&mut [&mut f]), shape("2 outputs ('y', 'z') need as many buffers, but 1 were given"));
    assert_eq!(
        into(&mut [&mut i, &mut f]),
        shape("the output 'y' is f32[1, 2], but 1 elements of i64 were given")
    );
    let mut short = vec![0i64; 2];
    assert_eq!(
        into(&mut [&mut f, &mut short]),
        shape("the output 'z' is i64[1], but 2 elements of i64 were given")
    );
    let mut turned = Array2::<f32>::zeros((2, 1));
    assert_eq!(
        into(&mut [&mut turned, &mut i]),
        shape("the output 'y' is f32[1, 2], but f32[2, 1] was given")
    );
    let mut strided = Array2::<f32>::zeros((2, 4));
    let mut strided = strided.slice_mut(s![..1, ..;2]);
    assert_eq!(
        into(&mut [&mut strided, &mut i]),
        shape("the buffer of the output 'y': its elements do not lie one after the other in row-major order")
    );
}

#[test]
fn truth_values_in_the_callers_memory_are_true_or_false() {
    let s = session(model(graph(&["x: bool n"], &["y"], nodes("Identity: x -> y")), vec![]));
    let mut x = t(&[3], &[true, false, true]);
    let mut y = [false, true, false];
    s.run_into(&[&x], &mut [&mut y[..]]).unwrap();
    assert_eq!(y, [true, false, true]);
    // A tensor may hold other bytes; what is given out does not.
    x.bytes_mut().unwrap()[1] = 2;
    let mut y = vec![false; 3];
    s.run_into(&[&x], &mut [&mut y]).unwrap();
    assert_eq!(y, [true; 3]);
}

#[test]
fn sessions_are_warmed_up() {
    let s = session(abc());
    assert_eq!(s.warm_up(&[&[3, 2][..], &[3]]).unwrap(), 1);
    assert_eq!(s.warm_up(&[("b", vec![3]), ("a", vec![3, 2])]).unwrap(), 0);
    assert_eq!(s.warm_up(&[("b", &[5][..]), ("a", &[5, 2])]).unwrap(), 1);
    let call =
        s.call(&[Tensor::zeros(DType::F32, &[5, 2]).unwrap(), Tensor::zeros(DType::I64, &[5]).unwrap()]);
    assert_eq!(call.unwrap().programs, 0);
    let timings = s.timings();
    assert_eq!((timings.calls, timings.compiling_calls, timings.programs), (4, 2, 2));
    assert_eq!(error(s.warm_up(&[[3, 2]])).0, ErrorKind::Shape);
    assert_eq!(error(s.warm_up(&[&[3, 2][..], &[4, 4]])).0, ErrorKind::Shape, "not what is declared");
    let chosen = RunOptions::new().outputs(["z"]);
    assert_eq!(s.warm_up_with(&[&[5, 2][..], &[5]], &chosen).unwrap(), 1);
    // What depends on data is compiled when it comes.
    let s = session(pair());
    assert_eq!(s.warm_up(&[[3], [3]]).unwrap(), 1);
    let call = s.call(&[array![1.0f32, 0.0, 2.0], array![3.0f32, 0.5, 4.0]]).unwrap();
    assert_eq!(call.programs, 0);
    let s =
        session(model(graph(&["x: f32 6", "s: i64 2"], &["y"], vec![node("Reshape: x, s -> y")]), vec![]));
    let (kind, text) = error(s.warm_up(&[[6], [2]]));
    assert_eq!(kind, ErrorKind::Usage);
    assert!(text.contains("depend on the values of the input 's'"), "{text}");
}

/// A loop whose condition always holds, around a product; and one around operations of the host.
fn endless() -> [OnnxModel; 2] {
    ["MatMul: v, v -> w", "NonZero: v -> at\nShape: at -> n\nCast: n -> f\nMul: v, f -> w"].map(|body| {
        let mut body = nodes(body);
        body.iter_mut()
            .filter(|node| node.op_type() == "Cast")
            .for_each(|node| *node = node.clone().int("to", 1));
        body.push(node("Identity: c -> go"));
        let body = graph(&["i: i64", "c: bool", "v: f32 1 1"], &["go", "w"], body);
        let repeat = node("Loop: _, go0, v0 -> v").graph("body", body);
        model(graph(&["v0: f32 1 1", "go0: bool"], &["v"], vec![repeat]), vec![])
    })
}

#[test]
fn a_loop_without_end_is_cancelled_or_runs_out_of_time() {
    for model in endless() {
        let s = session(model).loop_limit(u64::MAX);
        let inputs = [t(&[1, 1], &[0.0f32]), Tensor::scalar(true)];
        let handle = CancelHandle::new();
        let cancelled = RunOptions::new().cancel(&handle);
        thread::scope(|scope| {
            let call = scope.spawn(|| error(s.run_with(&inputs, &cancelled)));
            // Meanwhile others may call: what is running is in nobody's way.
            for value in [1.0f32, 2.0] {
                let stop = [t(&[1, 1], &[value]), Tensor::scalar(false)];
                assert_eq!(s.run(&stop).unwrap(), [t(&[1, 1], &[value])]);
            }
            thread::sleep(Duration::from_millis(20));
            handle.cancel();
            let (kind, text) = call.join().unwrap();
            assert_eq!(kind, ErrorKind::Cancelled);
            assert!(text.ends_with("the call was cancelled"), "{text}");
        });
        let late = RunOptions::new().timeout(Duration::from_millis(20));
        let (kind, text) = error(s.run_with(&inputs, &late));
        assert_eq!(kind, ErrorKind::DeadlineExceeded);
        assert!(text.ends_with("the call was not finished by its deadline"), "{text}");
        // The session is as good as before.
        let stop = [t(&[1, 1], &[3.0f32]), Tensor::scalar(false)];
        assert_eq!(s.run(&stop).unwrap(), [t(&[1, 1], &[3.0f32])]);
        assert_eq!(error(s.run_with(&stop, &cancelled)).0, ErrorKind::Cancelled);
    }
}

#[test]
fn a_scan_ends_between_two_slices() {
    let body =
        graph(&["s: f32 1 1", "x: f32 1 1"], &["sum", "out"], nodes("Add: s, x -> sum\nMatMul: s, x -> out"));
    let scan = node("Scan: start, xs -> end, all").int("num_scan_inputs", 1).graph("body", body);
    let s = session(model(graph(&["start: f32 1 1", "xs: f32 n 1 1"], &["end", "all"], vec![scan]), vec![]));
    let inputs = |n: usize| [t(&[1, 1], &[0.0f32]), Tensor::from_vec(&[n, 1, 1], vec![1.0f32; n]).unwrap()];
    assert_eq!(s.run(&inputs(3)).unwrap()[0], t(&[1, 1], &[3.0f32]));
    // So many slices take far longer.
    s.warm_up(&[&[1, 1][..], &[2_000_000, 1, 1]]).unwrap();
    let late = RunOptions::new().timeout(Duration::from_millis(50));
    let (kind, text) = error(s.run_with(&inputs(2_000_000), &late));
    assert_eq!(kind, ErrorKind::DeadlineExceeded);
    assert!(text.ends_with("the call was not finished by its deadline"), "{text}");
}

#[test]
fn nothing_is_compiled_for_a_call_that_is_late_already() {
    let s = session(pair());
    let inputs = [array![1.0f32], array![3.0f32]];
    let late = RunOptions::new().deadline(Instant::now());
    assert_eq!(error(s.run_with(&inputs, &late)).0, ErrorKind::DeadlineExceeded);
    assert_eq!(error(s.warm_up_with(&[[1], [1]], &late)).0, ErrorKind::DeadlineExceeded);
    assert_eq!(s.cached(), 0);
    let (executable, _) =
        session(abc()).executable(&[Tensor::zeros(DType::F32, &[1, 2]).unwrap(), t(&[1], &[3i64])]).unwrap();
    let inputs = [t(&[1, 2], &[1.0f32, 2.0]), t(&[1], &[3i64])];
    assert_eq!(error(executable.run_with(&inputs, &late)).0, ErrorKind::DeadlineExceeded);
    let views: Vec<_> = inputs.iter().map(nestjit::TensorView::from).collect();
    let mut outputs = executable.allocate_outputs().unwrap();
    assert_eq!(error(executable.run_into_with(&views, &mut outputs, &late)).0, ErrorKind::DeadlineExceeded);
    assert_eq!(outputs[1], t(&[1], &[0i64]), "no nest has run");
    // In time, and chosen.
    let options = RunOptions::new().timeout(Duration::from_secs(1000)).outputs(["z"]);
    assert_eq!(executable.run_with(&inputs, &options).unwrap(), [t(&[1], &[-3i64])]);
    let mut z = [vec![0i64]];
    executable.run_into_with(&views, &mut z, &options).unwrap();
    assert_eq!(z, [[-3]]);
    assert_eq!(executable.run(&[("b", &inputs[1]), ("a", &inputs[0])]).unwrap()[1], t(&[1], &[-3i64]));
    assert_eq!(error(executable.run(&[("b", &inputs[1])])).1, "not given: input 'a'");
}

#[test]
fn a_call_for_which_another_compiles_may_be_cancelled() {
    // What is compiled is kept, whoever waits for it.
    let s = session(pair());
    let inputs = [array![1.0f32, 2.0], array![3.0f32, 4.0]];
    thread::scope(|scope| {
        for caller in 0..8 {
            let (s, inputs) = (&s, &inputs);
            scope.spawn(move || {
                let options = RunOptions::new().timeout(Duration::from_micros(100 * caller));
                match s.run_with(inputs, &options) {
                    Ok(outputs) => assert_eq!(outputs[0], t(&[2], &[4.0f32, 6.0])),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded),
                }
            });
        }
    });
    assert_eq!(s.run(&inputs).unwrap()[0], t(&[2], &[4.0f32, 6.0]));
    assert!(s.timings().programs <= 3, "none is compiled twice");
}

#[test]
fn sequences_have_names_too() {
    let nodes = vec![node("SequenceInsert: list, x -> longer"), node("SequenceAt: longer, zero -> first")];
    let graph = graph(&["list: seq-f32", "x: f32 2"], &["longer", "first"], nodes);
    let s = session(model(graph, vec![ints("zero", &[], &[0])]));
    let list = Item::Sequence(vec![t(&[2], &[1.0f32, 2.0])]);
    let x = array![3.0f32, 4.0];
    let call = s.call_items(&[("x", &x as &dyn AsInput), ("list", &list)]).unwrap();
    assert_eq!(call.outputs[0].sequence().unwrap().len(), 2);
    let (kind, text) = error(s.call(&[("x", &x as &dyn AsInput), ("list", &list)]));
    assert_eq!(kind, ErrorKind::Shape);
    assert_eq!(text, "the output 'longer' is no tensor, but a sequence: use call_items");
    let first =
        s.run_with(&[("x", &x as &dyn AsInput), ("list", &list)], &RunOptions::new().outputs(["first"]));
    assert_eq!(first.unwrap(), [t(&[2], &[1.0f32, 2.0])]);
}
