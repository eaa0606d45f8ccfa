//! Exported models are imported again: the same results, bit by bit where no operation had to be spelled out.
//!
//! Whether other runtimes understand the files is checked by `tests/onnx_roundtrip/check.py`, which needs Python.

mod common;

use common::cases::{Case, op_cases};
use common::compare::difference;
use nestjit::graph::{Precision, ValueId, evaluate};
use nestjit::{Compiler, DType, ErrorKind, GraphBuilder, Model, Tensor, zoo};

/// Operations that ONNX does not have for every type.
fn is_unsupported(error: &nestjit::Error) -> bool {
    error.kind() == ErrorKind::Unsupported && error.message().starts_with("ONNX has no ")
}

/// What is wrong with the case as an ONNX file; `false` if it cannot be one.
fn round_trip(case: &Case) -> Result<bool, String> {
    let bytes = match Model::from(case.graph.clone()).to_onnx() {
        Ok(bytes) => bytes,
        Err(e) if is_unsupported(&e) && e.node().is_some() => return Ok(false),
        Err(e) => return Err(format!("export: {e}")),
    };
    let imported = Model::from_onnx_bytes(&bytes).map_err(|e| format!("import: {e}"))?.graph;
    let names = |graph: &nestjit::graph::Graph, ids: &[ValueId]| -> Vec<String> {
        ids.iter().map(|id| graph.value(*id).name.clone()).collect()
    };
    assert_eq!(names(&imported, &imported.inputs), names(&case.graph, &case.graph.inputs), "{}", case.name);
    assert_eq!(names(&imported, &imported.outputs), names(&case.graph, &case.graph.outputs), "{}", case.name);
    let evaluated = |graph| evaluate(graph, &case.inputs, Precision::F64).map_err(|e| e.to_string());
    let (expected, actual) = (evaluated(&case.graph)?, evaluated(&imported)?);
    for (i, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        let dtype = case.graph.value(case.graph.outputs[i]).dtype;
        // Attributes are f32, and some operations are several.
        if let Some(difference) = difference(actual, expected, dtype, 1e-6) {
            return Err(format!("output {i}: {difference}"));
        }
    }
    Ok(true)
}

#[test]
fn every_operation_survives() {
    let (mut failures, mut refused) = (Vec::new(), Vec::new());
    let cases = op_cases();
    for case in &cases {
        match round_trip(case) {
            Ok(true) => {}
            Ok(false) => refused.push(case.name.clone()),
            Err(e) => failures.push(format!("{}: {e}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert!(refused.len() * 20 < cases.len(), "too much is refused: {refused:?}");
}

/// The models of the zoo compute the same bits after they were written and read.
#[test]
fn the_zoo_survives_bit_by_bit() {
    let small = zoo::list().iter().filter(|entry| entry.size == zoo::Size::Small).map(|entry| entry.name);
    let networks = [
        "resnet18@32",
        "mobilenet_v2@32",
        "efficientnet_b0@32",
        "squeezenet1_1@32",
        "densenet121@32",
        "bert_minilm@8",
    ];
    for name in small.chain(networks) {
        let model = zoo::build(name).unwrap();
        let imported = Model::from_onnx_bytes(&model.to_onnx().unwrap()).unwrap();
        let random = |id: &ValueId| {
            let value = model.graph.value(*id);
            Tensor::random(value.dtype, &value.shape, u64::from(id.0)).unwrap()
        };
        let inputs: Vec<Tensor> = model.graph.inputs.iter().map(random).collect();
        // ONNX has the channels first: transposes change in which order sums are added up, and which
        // convolutions are computed by minimal filtering.
        let reordered = name.ends_with("_nhwc");
        let compiler = Compiler::new().disable_passes(reordered.then_some("Winograd"));
        let [expected, actual] =
            [&model, &imported].map(|model| compiler.compile(model).unwrap().run(&inputs).unwrap());
        if reordered {
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_eq!(difference(actual, expected, DType::F32, 1e-5), None, "{name}");
            }
        } else {
            assert!(expected == actual, "{name}");
        }
    }
}

/// What the rules of ONNX forbid is avoided: outputs that are inputs or constants or listed twice, and names
/// that are empty.
#[test]
fn outputs_have_names_of_their_own() {
    let mut g = GraphBuilder::new("");
    let x = g.input("x", DType::F32, &[2]);
    let one = g.constant("one", Tensor::new(&[2], &[1.0f32, 2.0]).unwrap());
    let y = g.add(x, one);
    g.output("y", y);
    let mut graph = g.build().unwrap();
    graph.outputs.extend([x, one, y]);
    let bytes = Model::from(graph).to_onnx().unwrap();
    let imported = Model::from_onnx_bytes(&bytes).unwrap().graph;
    let names: Vec<&str> = imported.outputs.iter().map(|id| imported.value(*id).name.as_str()).collect();
    assert_eq!(names, ["y", "x_1", "one_1", "y_1"]);
    let x = Tensor::new(&[2], &[5.0f32, 7.0]).unwrap();
    let outputs = evaluate(&imported, &[x], Precision::F32).unwrap();
    let values: Vec<&[f32]> = outputs.iter().map(|t| t.values().unwrap()).collect();
    assert_eq!(values, [[6.0, 9.0], [5.0, 7.0], [1.0, 2.0], [6.0, 9.0]]);
}

#[test]
fn what_onnx_does_not_have_is_an_error_that_names_the_node() {
    let mut g = GraphBuilder::new("shift");
    let x = g.input("x", DType::I64, &[2]);
    let y = g.named("left").shl(x, x);
    g.output("y", y);
    let error = Model::from(g.build().unwrap()).to_onnx().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.node(), Some("left"));
    assert_eq!(error.message(), "ONNX has no ShiftLeft of i64, only of unsigned integers");
}

/// Writes every case that can be exported as a folder of an ONNX file, its inputs and its results, for
/// `tests/onnx_roundtrip/check.py`.
#[test]
#[ignore = "writes files, into the folder ONNX_CASES"]
fn write_cases() {
    let Some(folder) = std::env::var_os("ONNX_CASES") else { panic!("ONNX_CASES is not set") };
    for (number, case) in op_cases().iter().enumerate() {
        let Ok(bytes) = Model::from(case.graph.clone()).to_onnx() else { continue };
        let folder = std::path::Path::new(&folder).join(format!("{number:04}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("model.onnx"), bytes).unwrap();
        std::fs::write(folder.join("name"), &case.name).unwrap();
        let outputs = evaluate(&case.graph, &case.inputs, Precision::F32).unwrap();
        for (what, tensors) in [("input", &case.inputs), ("output", &outputs)] {
            for (i, tensor) in tensors.iter().enumerate() {
                write_npy(&folder.join(format!("{what}{i}.npy")), tensor);
            }
        }
    }
}

fn write_npy(path: &std::path::Path, tensor: &Tensor) {
    macro_rules! write {
        ($type:ty) => {
            ndarray_npy::write_npy(path, &tensor.to_array::<$type>().unwrap()).unwrap()
        };
    }
    match tensor.dtype() {
        DType::F32 => write!(f32),
        DType::F64 => write!(f64),
        DType::F16 | DType::BF16 => panic!("no exported model takes or yields {}", tensor.dtype()),
        DType::I64 => write!(i64),
        DType::I32 => write!(i32),
        DType::I8 => write!(i8),
        DType::U8 => write!(u8),
        DType::I16 => write!(i16),
        DType::U16 => write!(u16),
        DType::U32 => write!(u32),
        DType::U64 => write!(u64),
        DType::Bool => write!(bool),
    }
}
