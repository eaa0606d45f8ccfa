//! Files that change while a model of them exists, and what is no file at all.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nestjit::onnx::proto::tensor_proto::{DataLocation, DataType::Float};
use nestjit::onnx::proto::{ModelProto, StringStringEntryProto, TensorProto};
use nestjit::{Compiler, Error, ErrorKind, Model, Tensor};
use prost::Message;

use super::common::onnx::*;

/// The elements of a weight: enough for it to stay in its file.
const N: usize = 64 * 64;

fn bytes_of(value: f32) -> Vec<u8> {
    (0..N).flat_map(|i| (value + i as f32).to_ne_bytes()).collect()
}

/// `y = x * w + b`, whose weights begin with this value, in the model's file or in two others of these names.
fn weights(value: f32, files: Option<[&str; 2]>) -> ModelProto {
    let tensor = |i: usize, name: &str, dims: &[i64]| match files {
        None => TensorProto { raw_data: Some(bytes_of(value).into()), ..empty(name, Float, dims) },
        Some(files) => TensorProto {
            data_location: Some(DataLocation::External.into()),
            external_data: vec![StringStringEntryProto {
                key: Some("location".into()),
                value: Some(files[i].into()),
            }],
            ..empty(name, Float, dims)
        },
    };
    let nodes = vec![node("MatMul", &["x", "w"], &["h"]), node("Add", &["h", "b"], &["y"])];
    model(&["64", "64"], nodes, vec![tensor(0, "w", &[64, 64]), tensor(1, "b", &[64, 64])])
}

fn run(model: &Model) -> Result<Vec<f32>, Error> {
    let x = Tensor::new(&[64, 64], &[0.5f32; N])?;
    Ok(Compiler::new().threads(2).compile(model)?.run(&[x])?[0].values::<f32>()?.to_vec())
}

#[track_caller]
fn assert_changed(result: Result<Vec<f32>, Error>, path: &Path) {
    let error = result.unwrap_err();
    let expected = format!("'{}' has changed since it was opened", path.display());
    assert!(error.kind() == ErrorKind::Io && error.to_string().ends_with(&expected), "{error}");
}

#[test]
fn a_model_whose_file_changes_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let open = || {
        fs::write(&path, weights(1.0, None).encode_to_vec()).unwrap();
        Model::from_onnx(&path).unwrap()
    };
    let expected = run(&Model::from_onnx_bytes(&weights(1.0, None).encode_to_vec()).unwrap()).unwrap();
    assert_eq!(run(&open()).unwrap(), expected);
    // Shortened, emptied, and rewritten with as many bytes.
    let model = open();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    assert_changed(run(&model), &path);
    let model = open();
    fs::write(&path, []).unwrap();
    assert_changed(run(&model), &path);
    let model = open();
    fs::write(&path, weights(2.0, None).encode_to_vec()).unwrap();
    assert_changed(run(&model), &path);
    assert!(model.to_onnx().unwrap_err().to_string().contains("has changed"));
    // Another file of its name does not matter, nor what happens once it was compiled.
    let model = open();
    let other = folder.path().join("other");
    fs::write(&other, weights(2.0, None).encode_to_vec()).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(run(&model).unwrap(), expected);
    let executable = Compiler::new().compile(&open()).unwrap();
    fs::write(&path, []).unwrap();
    let x = Tensor::new(&[64, 64], &[0.5f32; N]).unwrap();
    assert_eq!(executable.run(&[x]).unwrap()[0].values::<f32>().unwrap(), expected);
}

#[test]
fn external_data_that_changes_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let [w, b] = ["w.bin", "b.bin"].map(|name| folder.path().join(name));
    let path = folder.path().join("m.onnx");
    let open = || {
        fs::write(&path, weights(1.0, Some(["w.bin", "b.bin"])).encode_to_vec()).unwrap();
        fs::write(&w, bytes_of(1.0)).unwrap();
        fs::write(&b, bytes_of(1.0)).unwrap();
        Model::from_onnx(&path).unwrap()
    };
    let expected = run(&Model::from_onnx_bytes(&weights(1.0, None).encode_to_vec()).unwrap()).unwrap();
    assert_eq!(run(&open()).unwrap(), expected);
    for file in [&w, &b] {
        let model = open();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(5000).unwrap();
        assert_changed(run(&model), file);
        let model = open();
        fs::write(file, bytes_of(2.0)).unwrap();
        assert_changed(run(&model), file);
    }
}

/// More files than may be open at once.
#[test]
fn each_weight_may_have_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut nodes, mut tensors) = (Vec::new(), Vec::new());
    for i in 0..100 {
        let (name, file) = (format!("w{i}"), format!("{i}.bin"));
        fs::write(folder.path().join(&file), bytes_of(i as f32)).unwrap();
        let (from, to) = (if i == 0 { "x".into() } else { format!("h{i}") }, format!("h{}", i + 1));
        nodes.push(node("Add", &[&from, &name], &[if i == 99 { "y" } else { &to }]));
        let location = StringStringEntryProto { key: Some("location".into()), value: Some(file) };
        tensors.push(TensorProto {
            data_location: Some(DataLocation::External.into()),
            external_data: vec![location],
            ..empty(&name, Float, &[64, 64])
        });
    }
    let path = folder.path().join("m.onnx");
    fs::write(&path, model(&["64", "64"], nodes, tensors).encode_to_vec()).unwrap();
    let model = Model::from_onnx(&path).unwrap();
    let y = run(&model).unwrap();
    let expected = (0..N).map(|i| 0.5 + (0..100).map(|k| (k + i) as f32).sum::<f32>());
    assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() <= 1e-4 * e), "{y:?}");
    // The last is not open.
    fs::write(folder.path().join("99.bin"), bytes_of(0.0)).unwrap();
    assert_changed(run(&model), &folder.path().join("99.bin"));
}

#[test]
fn what_is_no_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, what: &str| {
        let error = Model::from_onnx(path).unwrap_err();
        let message = format!("cannot read '{}': it is {what}, not a file", path.display());
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Io, message));
    };
    refused(folder.path(), "a directory");
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            refused(&pipe, "a pipe");
        }
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        refused(&socket, "a socket");
        refused(Path::new("/dev/zero"), "a device");
    }
    let missing = Model::from_onnx(folder.path().join("none.onnx")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

/// Weights are read by whoever needs them first, and others may be doing the same.
#[test]
fn a_model_is_compiled_by_several_threads_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    fs::write(&path, weights(1.0, None).encode_to_vec()).unwrap();
    let model = Arc::new(Model::from_onnx(&path).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let model = Arc::clone(&model);
            std::thread::spawn(move || run(&model).unwrap())
        })
        .collect();
    let mut results = threads.into_iter().map(|t| t.join().unwrap());
    let first = results.next().unwrap();
    assert!(results.all(|other| other == first));
}
