//! What goes wrong only when a model runs.

use nestjit::onnx::{OnnxModel, Specialization};
use nestjit::{Compiler, ErrorKind, Session, Tensor};

use super::build::{With, graph, ints, model, node, nodes, t};

fn session(model: OnnxModel) -> Session {
    Session::new(model, Compiler::new().threads(1))
}

fn message(session: &Session, inputs: &[Tensor]) -> (ErrorKind, String) {
    let error = session.run(inputs).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn operands_that_make_no_sense_name_their_node() {
    let range = session(model(
        graph(&["a: f32 3"], &["y"], {
            let mut list = nodes(
                "Cast: a -> b\nSplit: b -> s, l, d\nSqueeze: s -> s0\nSqueeze: l -> l0\nSqueeze: d -> d0",
            );
            list[0] = list[0].clone().int("to", 7);
            list[1] = list[1].clone().int("num_outputs", 3);
            list.push(node("Range: s0, l0, d0 -> y"));
            list
        }),
        vec![],
    ));
    assert_eq!(range.run(&[t(&[3], &[1.0f32, 6.0, 2.0])]).unwrap()[0], t(&[3], &[1i64, 3, 5]));
    let zero = message(&range, &[t(&[3], &[1.0f32, 6.0, 0.0])]);
    assert_eq!(zero, (ErrorKind::Invalid, "node 'y' (Range, opset 18): delta is 0".to_owned()));

    let expand = session(model(
        graph(&["x: f32 2", "s: i64 1"], &["y"], nodes("Add: s, s -> t\nExpand: x, t -> y")),
        vec![],
    ));
    let wide = message(&expand, &[t(&[2], &[1.0f32, 2.0]), t(&[1], &[3i64])]);
    assert_eq!(wide.0, ErrorKind::Shape);
    assert!(wide.1.starts_with("node 'y' (Expand"), "{}", wide.1);
}

#[test]
fn indices_outside_are_errors_of_the_run() {
    let s = session(model(graph(&["x: f32 n", "i: i64 k"], &["y"], nodes("Gather: x, i -> y")), vec![]));
    let x = t(&[3], &[1.0f32, 2.0, 3.0]);
    assert_eq!(s.run(&[x.clone(), t(&[2], &[-3i64, 2])]).unwrap()[0], t(&[2], &[1.0f32, 3.0]));
    for bad in [3i64, -4, i64::MAX, i64::MIN] {
        assert_eq!(message(&s, &[x.clone(), t(&[1], &[bad])]).0, ErrorKind::Index, "{bad}");
    }
}

#[test]
fn integer_division_never_traps() {
    let s = session(model(
        graph(&["a: i64 n", "b: i64 n"], &["q", "r"], nodes("Div: a, b -> q\nMod: a, b -> r")),
        vec![],
    ));
    let reference = Session::reference(model(
        graph(&["a: i64 n", "b: i64 n"], &["q", "r"], nodes("Div: a, b -> q\nMod: a, b -> r")),
        vec![],
    ));
    let inputs = [t(&[5], &[7i64, -7, 1, 0, i64::MIN]), t(&[5], &[2i64, 2, 0, 0, -1])];
    assert_eq!(s.run(&inputs).unwrap(), reference.run(&inputs).unwrap());
}

#[test]
fn what_is_not_supported_is_known_before_anything_runs() {
    let s = session(model(
        graph(&["x: f32 n"], &["y"], nodes("NonZero: x -> at\nFrobnicate: at -> a\nGarble: a -> y")),
        vec![],
    ));
    let (kind, text) = message(&s, &[t(&[1], &[1.0f32])]);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(
        text.starts_with("2 problems:") && text.contains("Frobnicate") && text.contains("Garble"),
        "{text}"
    );
}

#[test]
fn what_the_host_runs_has_no_more_outputs_than_it_makes() {
    for (operator, outputs, most) in [("NonZero", 2, 1), ("Unique", 5, 4), ("SequenceConstruct", 2, 1)] {
        let names: Vec<String> = (0..outputs).map(|i| format!("y{i}")).collect();
        let text = format!("{operator}: x -> {}", names.join(", "));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let s = session(model(graph(&["x: f32 n"], &names, nodes(&text)), vec![]));
        let (kind, text) = message(&s, &[t(&[1], &[1.0f32])]);
        assert_eq!(kind, ErrorKind::Unsupported);
        let expected = format!("it has {outputs} outputs, but the operator has {most}");
        assert!(text.contains(operator) && text.contains(&expected), "{text}");
    }
}

#[test]
fn bodies_are_checked() {
    let two = graph(&[], &["a", "b"], nodes("Neg: x -> a\nExp: x -> b"));
    let one = graph(&[], &["d"], nodes("MatMul: x, x -> d"));
    let branches = node("If: c -> y").graph("then_branch", two).graph("else_branch", one);
    let s = session(model(graph(&["x: f32 1 1", "c: bool"], &["y"], vec![branches]), vec![]));
    let (kind, text) = message(&s, &[t(&[1, 1], &[1.0f32]), Tensor::scalar(true)]);
    assert_eq!(kind, ErrorKind::Invalid);
    assert_eq!(text, "node 'y' (If, opset 18): the branches have different numbers of outputs");

    let body = graph(&["i: i64", "c: bool"], &["go"], nodes("Identity: c -> go"));
    let repeat = node("Loop: n, _, x -> y").graph("body", body);
    let s = session(model(graph(&["x: f32 1", "n: i64"], &["y"], vec![repeat]), vec![]));
    let (_, text) = message(&s, &[t(&[1], &[1.0f32]), Tensor::scalar(1i64)]);
    assert_eq!(text, "node 'y' (Loop, opset 18): the body has 1 outputs, not 2");
}

#[test]
fn one_graph_is_not_enough_for_everything() {
    let m = model(
        graph(
            &["x: f32 2"],
            &["y"],
            nodes("Neg: x -> z\nSequenceConstruct: z -> s\nSequenceAt: s, zero -> y"),
        ),
        vec![ints("zero", &[], &[0])],
    );
    let error = m.graph(&Specialization::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("only a session can run this model"), "{error}");
    let s = session(m);
    let x = t(&[2], &[1.0f32, 2.0]);
    assert_eq!(s.run(&[x.clone()]).unwrap()[0], t(&[2], &[-1.0f32, -2.0]));
    let error = s.executable(&[x]).unwrap_err();
    assert!(error.to_string().contains("not one program"), "{error}");
}

#[test]
fn a_body_that_reads_its_own_loops_result_is_a_cycle() {
    let body =
        graph(&["i: i64", "c: bool", "s: f32 2"], &["co", "so"], nodes("Identity: c -> co\nAdd: s, v -> so"));
    let loops = node("Loop: m, _, x -> v").graph("body", body);
    let session = session(model(graph(&["x: f32 2", "m: i64"], &["v"], vec![loops]), vec![]));
    let (kind, message) = message(&session, &[t(&[2], &[1.0f32, 2.0]), t(&[], &[3i64])]);
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("a graph in it reads 'v', which depends on this node: a cycle"), "{message}");
}
