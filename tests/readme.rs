//! What README.md shows is true: its commands work, and what it says they print is what they print. Its Rust code
//! is a documentation test of the library.

use std::fs;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The contents of the code blocks of a language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let starts: Vec<usize> = README.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    starts.into_iter().map(|at| README[at..].split("```").next().unwrap_or_default())
}

fn nestjit(dir: &Path, command: &str) -> String {
    let words = command.split_whitespace().skip(1);
    let output = Command::new(env!("CARGO_BIN_EXE_nestjit")).args(words).current_dir(dir).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn commands_work() {
    let dir = tempfile::tempdir().unwrap();
    let nest = "nest @scale(in %x: f32[8], out %y: f32[8]) { for i < 8 { %y[i] = %x[i] * 2.0 } }";
    fs::write(dir.path().join("file.nest"), nest).unwrap();
    let input = ndarray::Array2::<f32>::ones((64, 512));
    ndarray_npy::write_npy(dir.path().join("x.npy"), &input).unwrap();
    // Known outputs, of the inputs that a model has if none are given: standard error says that they are random.
    let known = Command::new(env!("CARGO_BIN_EXE_nestjit"))
        .args(["run", "rnn_cell", "--output-dir", "."])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(known.status.success());
    let lines = blocks("console").flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    let commands: Vec<&str> = lines.filter(|l| l.starts_with("nestjit ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for line in commands {
        let command = line.split(" #").next().unwrap_or(line);
        assert!(!nestjit(dir.path(), command).is_empty(), "{command} prints nothing");
    }
    assert!(dir.path().join("out/output.npy").exists());
}

#[test]
fn the_nest_is_what_the_command_prints() {
    let printed = nestjit(Path::new("."), "nestjit ir mlp10 --after ContractTemps --nest dense/matmul");
    assert!(README.contains("`nestjit ir mlp10 --after ContractTemps --nest dense/matmul`"));
    assert!(blocks("text").any(|block| block == printed), "README.md should show\n{printed}");
}
