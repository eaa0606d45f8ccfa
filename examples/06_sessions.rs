//! Lesson 6: a model whose batch is open, called as a server does: for whatever shapes come, from many threads, into
//! memory of its own, with deadlines.
//!
//! A session compiles a model for the shapes of a call when they come for the first time, and keeps the programs. Of
//! calls that need the same program at the same time one compiles it, and the others wait.

use std::thread;
use std::time::Duration;

use nestjit::ndarray::{Array1, Array2, array, s};
use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::tensor_shape_proto::{Dimension, dimension::Value};
use nestjit::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use nestjit::{
    AsInput, CancelHandle, Compiler, ErrorKind, OutputBuffer, Result, RunOptions, Session, Tensor,
};

/// Runs the lesson.
pub fn main() -> Result<()> {
    let session = Session::new(model()?, Compiler::new().threads(1));

    // Compile before the first call comes: for a batch of one.
    println!("warmed up: {} program", session.warm_up(&[("x", [1, 4])])?);

    // Inputs are tensors, arrays or views of `ndarray`, in order or with their names.
    let x = array![[1.0f32, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 9.0, 0.0, 0.0]];
    let call = session.call(&[("x", x.slice(s![..1, ..]))])?;
    println!("batch of 1: {:?}, {} programs compiled", call.outputs, call.programs);

    // Sixteen callers want a batch of three at once. One of them compiles, the others wait for it.
    thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| session.call(&[&x]))).collect();
        let calls = callers.into_iter().map(|caller| caller.join().expect("no panic"));
        let compiled: Vec<usize> = calls.map(|call| call.map(|call| call.programs)).collect::<Result<_>>()?;
        assert_eq!(compiled.iter().sum::<usize>(), 1);
        println!("16 callers with a batch of 3: 1 program compiled");
        Ok::<_, nestjit::Error>(())
    })?;

    // Results go where the caller wants them: arrays, slices, tensors. Here they are of different types.
    let (mut scores, mut best) = (Array2::<f32>::zeros((3, 4)), Array1::<i64>::zeros(3));
    session.run_into(&[&x], &mut [&mut scores as &mut dyn OutputBuffer, &mut best])?;
    println!("best: {best}, with scores\n{scores:.2}");

    // What is not asked for is not computed, and a call ends when its time is over or somebody cancels it.
    let handle = CancelHandle::new();
    let options = RunOptions::new().outputs(["best"]).timeout(Duration::from_secs(60)).cancel(&handle);
    println!("only the best: {:?}", session.run_with(&[&x], &options)?[0].values::<i64>()?);
    handle.cancel();
    let error = session.run_with(&[&x], &options).expect_err("it is cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    println!("then: {error}");

    // Wrong calls say what there is.
    let inputs: [(&str, &dyn AsInput); 1] = [("image", &x)];
    println!("wrong: {}", session.run(&inputs).expect_err("there is no such input"));

    // A cache that is too small for the shapes that come says so.
    let small = Session::new(model()?, Compiler::new().threads(1)).cache_limit(2);
    for batch in [1, 2, 3, 1, 2, 3] {
        small.run(&[Tensor::zeros(nestjit::DType::F32, &[batch, 4])?])?;
    }
    println!("{}", small.timings().remark().expect("three shapes do not fit"));
    assert_eq!(session.timings().remark(), None);
    Ok(())
}

/// `scores = Softmax(x * w)` and `best = ArgMax(scores)`, for any number of rows.
fn model() -> Result<OnnxModel> {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let value = |name: &str, dtype: DataType, dims: &[Option<i64>]| {
        let dim = |extent: &Option<i64>| Dimension {
            value: Some(extent.map_or(Value::DimParam("batch".into()), Value::DimValue)),
            denotation: None,
        };
        let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
        let tensor = type_proto::Tensor { elem_type: Some(dtype.into()), shape };
        let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
        ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..ValueInfoProto::default() }
    };
    // `keepdims` is 1 unless it is said otherwise, so the best are columns to be squeezed.
    let axis = TensorProto {
        name: Some("axis".into()),
        dims: vec![1],
        data_type: Some(DataType::Int64.into()),
        int64_data: vec![1],
        ..TensorProto::default()
    };
    let weights = TensorProto {
        name: Some("w".into()),
        dims: vec![4, 4],
        data_type: Some(DataType::Float.into()),
        float_data: (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.1 }).collect(),
        ..TensorProto::default()
    };
    let arg_max = NodeProto {
        attribute: vec![nestjit::onnx::proto::AttributeProto {
            name: Some("axis".into()),
            r#type: Some(nestjit::onnx::proto::attribute_proto::AttributeType::Int.into()),
            i: Some(1),
            ..Default::default()
        }],
        ..node("ArgMax", &["scores"], "column")
    };
    let graph = GraphProto {
        name: Some("classifier".into()),
        input: vec![value("x", DataType::Float, &[None, Some(4)])],
        output: vec![
            value("scores", DataType::Float, &[None, Some(4)]),
            value("best", DataType::Int64, &[None]),
        ],
        node: vec![
            node("MatMul", &["x", "w"], "products"),
            node("Softmax", &["products"], "scores"),
            arg_max,
            node("Squeeze", &["column", "axis"], "best"),
        ],
        initializer: vec![weights, axis],
        ..GraphProto::default()
    };
    OnnxModel::from_proto(ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(18) }],
        graph: Some(graph),
        ..ModelProto::default()
    })
}
