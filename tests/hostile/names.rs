//! Names in models are anything; they must neither disturb a terminal nor lead out of a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nestjit::ir::parse::parse;
use nestjit::onnx::proto::ModelProto;
use nestjit::onnx::proto::tensor_proto::DataType::Float;
use nestjit::{Compiler, DType, Tensor};
use prost::Message;

use super::common::onnx::*;

const NAMES: [&str; 9] = [
    "../../escape",
    "/absolute/path",
    "quote\"and'apostrophe",
    "line\nbreak\ttab\u{1b}[31mred",
    "..",
    "sub/folder",
    "back\\slash",
    "\u{202e}rtl \u{fffd} \u{1f600}",
    "%x: f32[2] }",
];

/// Every name is a node's, a value's and an output's.
fn model_with(names: &[&str]) -> ModelProto {
    let nodes = names
        .iter()
        .map(|name| {
            let mut n = node("Exp", &["in\nput"], &[name]);
            n.name = Some((*name).into());
            n
        })
        .collect();
    let mut graph = graph_of(vec![declared("in\nput", Float, &["2"])], nodes, names);
    graph.name = Some("graph\n\"name\"".into());
    model_of(graph)
}

fn nestjit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_printable(what: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let bad = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(bad, None, "{what}: {text:?}");
    text
}

#[test]
fn outputs_are_written_below_the_folder() {
    let top = tempfile::tempdir().unwrap();
    let work = top.path().join("a/b/c");
    fs::create_dir_all(&work).unwrap();
    let long = "very_long".repeat(1000);
    let names: Vec<&str> = NAMES.iter().copied().chain([long.as_str()]).collect();
    fs::write(work.join("m.onnx"), model_with(&names).encode_to_vec()).unwrap();
    let output = nestjit(&work, &["run", "m.onnx", "--output-dir", "out"]);
    let text = assert_printable("run", &output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_printable("run", &output.stderr);
    let written = files(&work.join("out"));
    assert_eq!(written.len(), names.len(), "{written:?}");
    for file in &written {
        assert!(file.ends_with(".npy") && !file.starts_with('.') && file.len() < 200, "{file}");
        let kept = if cfg!(windows) { "._-" } else { "._-:" };
        let safe = |c: char| c.is_ascii_alphanumeric() || kept.contains(c);
        assert!(file.chars().all(safe), "{file}");
    }
    assert_eq!(files(&work), ["m.onnx", "out"]);
    assert_eq!(
        (files(top.path()), files(&top.path().join("a"))),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
}

#[test]
fn every_command_prints_names_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.onnx"), model_with(&NAMES).encode_to_vec()).unwrap();
    for arguments in [
        &["check", "m.onnx"][..],
        &["report", "m.onnx"],
        &["report", "m.onnx", "--json"],
        &["ir", "m.onnx"],
        &["ir", "m.onnx", "--after", "Lower"],
        &["bench", "m.onnx", "--iterations", "1", "--json"],
        &["export", "m.onnx", "again.onnx"],
        &["run", "again.onnx"],
    ] {
        let output = nestjit(folder.path(), arguments);
        let text = assert_printable(&format!("{arguments:?}"), &output.stdout);
        assert_printable(&format!("{arguments:?}"), &output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        if arguments.contains(&"--json") {
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{arguments:?}: {text}");
        }
    }
    // Errors are one line, whatever names are in it.
    let mut wrong = model_with(&NAMES);
    for n in &mut wrong.graph.as_mut().unwrap().node {
        n.op_type = Some("No\nSuch\u{1b}Op".into());
    }
    fs::write(folder.path().join("wrong.onnx"), wrong.encode_to_vec()).unwrap();
    let output = nestjit(folder.path(), &["run", "wrong.onnx"]);
    let text = assert_printable("an error", &output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(text.matches("the operator is not supported").count(), NAMES.len(), "{text}");
}

#[test]
fn programs_with_any_names_are_read_back() {
    let executable = Compiler::new().compile(&import(model_with(&NAMES)).unwrap().into()).unwrap();
    let text = executable.program().to_string();
    let again = parse(&text).unwrap();
    assert_eq!(again.to_string(), text);
    let x = Tensor::random(DType::F32, &[2], 1).unwrap();
    assert_eq!(executable.run(&[x]).unwrap().len(), NAMES.len());
}

/// A sample of damaged files through the command: an exit code, never a signal, and never more than messages.
#[test]
fn damaged_files_end_with_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (name, model)) in super::seeds::all().into_iter().enumerate() {
        let bytes = model.encode_to_vec();
        for seed in 0..4 {
            let mut random = super::mutate::Random(1000 * number as u64 + seed);
            let damaged = if seed == 0 {
                bytes[..bytes.len() / 2].to_vec()
            } else {
                super::mutate::bytes(&bytes, &mut random)
            };
            fs::write(folder.path().join("m.onnx"), damaged).unwrap();
            let output = nestjit(folder.path(), &["run", "m.onnx"]);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => {}
                Some(1) => {
                    assert!(error.starts_with("nestjit: ") && !error.contains("panicked"), "{name}: {error}")
                }
                code => panic!("{name}, seed {seed}: {code:?}: {error}"),
            }
        }
    }
}
