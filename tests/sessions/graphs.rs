//! Sessions of models that are graphs: those of the builders and the zoo.

use nestjit::onnx::Dim;
use nestjit::{
    Compiler, DType, ErrorKind, GraphBuilder, Item, Model, RunOptions, Session, SessionModel, Tensor, zoo,
};

use super::build::t;

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.values::<f32>().unwrap().to_vec()
}

/// `sum = a + b`, `b` itself, and `twice = sum + sum`.
fn sums() -> Model {
    let mut g = GraphBuilder::new("sums");
    let a = g.input("a", DType::F32, &[3]);
    let b = g.input("b", DType::F32, &[3]);
    let sum = g.add(a, b);
    let twice = g.add(sum, sum);
    g.output("sum", sum);
    g.output("twice", twice);
    let mut graph = g.build().unwrap();
    graph.outputs.insert(1, graph.inputs[1]);
    Model::from(graph)
}

fn inputs() -> [Tensor; 2] {
    [t(&[3], &[1.0f32, 2.0, 3.0]), t(&[3], &[10.0f32, 20.0, 30.0])]
}

#[test]
fn a_graph_is_called_like_any_model() {
    let s = Session::new(sums(), Compiler::new().threads(1));
    assert_eq!(s.name(), "sums");
    assert_eq!(s.inputs()[1].name, "b");
    assert_eq!(s.inputs()[1].dims, Some(vec![Dim::Fixed(3)]));
    let outputs: Vec<&str> = s.outputs().collect();
    assert_eq!(outputs[0], "sum");
    let [a, b] = inputs();
    let call = s.call(&[("b", &b), ("a", &a)]).unwrap();
    assert_eq!((call.programs, s.cached()), (1, 1));
    let values: Vec<Vec<f32>> = call.outputs.iter().map(f32s).collect();
    assert_eq!(values, [[11.0, 22.0, 33.0], [10.0, 20.0, 30.0], [22.0, 44.0, 66.0]]);
    let mut buffers = vec![vec![0.0f32; 3]; 3];
    s.run_into(&[&a, &b], &mut buffers).unwrap();
    assert_eq!(buffers[2], [22.0, 44.0, 66.0]);
    assert_eq!(s.call(&[&a, &b]).unwrap().programs, 0);
    let executable = s.executable(&inputs()).unwrap().0;
    assert_eq!(executable.outputs().len(), 3);
    assert_eq!(s.warm_up(&[[3], [3]]).unwrap(), 0);
}

#[test]
fn chosen_outputs_of_a_graph_are_all_that_is_computed() {
    let s = Session::new(sums(), Compiler::new().threads(1));
    let outputs = s.run_with(&inputs(), &RunOptions::new().outputs(["b"])).unwrap();
    assert_eq!(f32s(&outputs[0]), [10.0, 20.0, 30.0]);
    let name = s.outputs().next().unwrap().to_owned();
    let outputs = s.run_with(&inputs(), &RunOptions::new().outputs([name.as_str()])).unwrap();
    assert_eq!((outputs.len(), f32s(&outputs[0])), (1, vec![11.0, 22.0, 33.0]));
    let error = s.run_with(&inputs(), &RunOptions::new().outputs(["c"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn wrong_inputs_of_a_graph_are_named() {
    let s = Session::new(sums(), Compiler::new().threads(1));
    let [a, _] = inputs();
    let error = s.run(&[&a, &t(&[4], &[0.0f32; 4])]).unwrap_err();
    let message = "the input 'b' is f32[3], but f32[4] was given";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Shape, message));
    assert_eq!(s.warm_up(&[[3], [4]]).unwrap_err().message(), message);
    let error = s.run(&[&a, &t(&[3], &[0i64; 3])]).unwrap_err();
    assert_eq!(error.message(), "input 'b' is f32, but i64 was given");
    assert_eq!(s.run(&[&a]).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(s.cached(), 0, "nothing is compiled for what the graph does not take");
}

#[test]
fn sessions_share_a_model_and_agree_with_the_reference() {
    let model = SessionModel::from(zoo::build("lstm_cell").unwrap());
    let inputs: Vec<Item> = (0..)
        .zip(model.inputs())
        .map(|(seed, spec)| {
            let dims = spec.dims.as_ref().unwrap().iter();
            let shape: Vec<usize> =
                dims.map(|dim| if let Dim::Fixed(n) = dim { *n } else { unreachable!() }).collect();
            Tensor::random(spec.dtype, &shape, seed).unwrap().into()
        })
        .collect();
    let outputs = |s: &Session| s.call(&inputs).unwrap().outputs;
    let expected = outputs(&Session::reference(model.clone()));
    let fused = Session::new(model.clone(), Compiler::new().threads(1));
    let unfused = Session::new(model, Compiler::new().threads(2).disable_pass("OpFusion"));
    for s in [fused, unfused] {
        for (value, expected) in outputs(&s).iter().zip(&expected) {
            for (a, b) in f32s(value).iter().zip(f32s(expected)) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}

#[test]
fn the_parts_of_a_graph_are_one_program_that_is_not_run() {
    let s = Session::new(sums(), Compiler::new().threads(1));
    let inputs = inputs().map(Item::from);
    let parts = s.parts(&inputs).unwrap();
    let part = parts.whole().unwrap();
    assert_eq!((parts.parts.len(), parts.programs().count(), part.runs), (1, 1, 0));
    assert!(part.graph.is_some() && part.reasons.is_empty());
    let (call, trace) = s.trace(&inputs).unwrap();
    assert_eq!((call.programs, trace.whole().unwrap().runs), (0, 1));
    assert_eq!(s.graph(&inputs).unwrap().unwrap().graph.nodes.len(), sums().graph.nodes.len());
}
