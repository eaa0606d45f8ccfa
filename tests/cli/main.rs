//! The command: its output, its exit codes, its messages.

mod bench;
mod help;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nestjit::{Compiler, DType, Tensor, zoo};
use serde_json::Value;

const SMALL: &str = "rnn_cell";

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    command.args(args);
    // The environment of the tests must not decide what they see.
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// Standard output of a command that succeeds.
fn stdout(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).expect("one JSON value")
}

/// Exit code and standard error of a command that fails, which prints nothing else.
fn failure(args: &[&str]) -> (i32, String) {
    let output: Output = command(args).output().unwrap();
    assert_eq!(text(&output.stdout), "", "{args:?}");
    (output.status.code().expect("an exit code"), text(&output.stderr))
}

#[track_caller]
fn assert_fails(args: &[&str], code: i32, message: &str) {
    assert_eq!(failure(args), (code, format!("nestjit: {message}\n")), "{args:?}");
}

fn numbers(object: &Value, keys: &[&str]) -> Vec<f64> {
    let number = |key: &&str| object[*key].as_f64().unwrap_or_else(|| panic!("no number {key} in {object}"));
    keys.iter().map(number).collect()
}

#[test]
fn zoo_lists_the_built_in_models() {
    let names = stdout(&["zoo", "--names"]);
    let expected: Vec<&str> = zoo::list().iter().map(|entry| entry.name).collect();
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
    let networks = stdout(&["zoo", "--names", "--size", "network"]);
    assert!(networks.lines().any(|name| name == "resnet50") && !networks.contains("mlp10"), "{networks}");
    let table = stdout(&["zoo"]);
    for entry in zoo::list() {
        let line = table.lines().find(|l| l.split_whitespace().next() == Some(entry.name));
        assert!(line.is_some_and(|l| l.ends_with(entry.summary)), "{}: {line:?}", entry.name);
    }
    assert!(table.contains("input: f32[64,512]") && table.contains("weights are random"), "{table}");
    let listed = json(&["zoo", "--json"]);
    let listed = listed["models"].as_array().unwrap();
    assert_eq!(listed.len(), zoo::list().len());
    let of = |name: &str| listed.iter().find(|model| model["name"] == name).unwrap();
    assert_eq!(of("mlp10")["inputs"][0]["shape"], serde_json::json!([64, 512]));
    assert_eq!((&of("resnet50")["size"], &of("resnet50")["operations"]), (&224.into(), &Value::Null));
}

#[test]
fn check_passes_for_small_models() {
    for model in [SMALL, "lstm_cell"] {
        let out = stdout(&["check", model]);
        let last = out.lines().last().unwrap();
        assert!(last.starts_with("PASSED: ") && !out.contains("FAILED"), "{out}");
        for row in [
            "graph evaluator",
            "fused code, interpreted",
            "fused code",
            "unfused code",
            "fused code, 2 threads",
        ] {
            assert!(out.contains(row), "no {row:?} in\n{out}");
        }
    }
}

#[test]
fn check_as_json_has_every_comparison() {
    let verdict = json(&["check", SMALL, "--json"]);
    assert_eq!((&verdict["model"], &verdict["passed"]), (&SMALL.into(), &true.into()));
    let comparisons = verdict["comparisons"].as_array().unwrap();
    assert!(comparisons.iter().all(|c| c["passed"] == true && c["output"].is_string()), "{verdict}");
    let bits = |c: &&Value| c["required"] == "same bits" && c["difference"].is_null();
    let near = |c: &&Value| c["difference"]["of_limit"].as_f64().is_some_and(|share| share <= 1.0);
    assert!(comparisons.iter().any(|c| bits(&c)), "{verdict}");
    assert!(comparisons.iter().any(|c| near(&c)), "{verdict}");
    assert!(comparisons.iter().all(|c| bits(&c) || near(&c)), "{verdict}");
}

#[test]
fn check_without_fusion_says_so() {
    let out = stdout(&["check", SMALL, "--disable-pass", "OpFusion"]);
    assert!(out.contains("unfused code, 2 threads"), "{out}");
    assert!(!out.contains("\nfused code") && !out.contains(" fused code"), "{out}");
}

#[test]
fn check_fails_if_an_expectation_is_not_met() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    stdout(&["run", SMALL, "--output-dir", out]);
    let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let name = file.file_stem().unwrap().to_str().unwrap();
    let expect = format!("{name}={}", file.display());
    let passed = stdout(&["check", SMALL, "--expect", &expect]);
    assert!(passed.contains("expected") && passed.lines().last().unwrap().starts_with("PASSED"), "{passed}");

    // A float64 reference is compared as it is: the outputs' own rounding is a difference, if a small one.
    let exact: Vec<f64> = {
        let values: ndarray::ArrayD<f32> = ndarray_npy::read_npy(&file).unwrap();
        ndarray_npy::write_npy(dir.path().join("f64.npy"), &values.mapv(|v| f64::from(v) + 1e-9)).unwrap();
        values.iter().map(|v| f64::from(*v)).collect()
    };
    assert!(exact.iter().any(|v| *v != 0.0));
    let reference = format!("{name}={}", dir.path().join("f64.npy").display());
    let both = stdout(&["check", SMALL, "--expect", &expect, "--expect", &reference, "--tolerance", "1e-6"]);
    assert!(both.contains("expected, f64") && both.contains("<= 1.0e-6"), "{both}");
    let output = command(&["check", SMALL, "--expect", &reference, "--tolerance", "1e-12"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));

    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&9.0f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let output = command(&["check", SMALL, "--expect", &expect]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.lines().last().unwrap().starts_with("FAILED: 2 of "), "{out}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn check_takes_limits_without_expectations() {
    let passed = stdout(&["check", SMALL, "--tolerance", "1e-3"]);
    assert!(passed.contains("<= 1.0e-3") && !passed.contains(" FAILED"), "{passed}");
    let passed = stdout(&["check", SMALL, "--tolerance", "0", "--absolute", "1e-3"]);
    assert!(passed.contains("1.0e-3 abs"), "{passed}");
    for limits in [&["--tolerance", "1e-12"][..], &["--tolerance", "0", "--absolute", "1e-12"]] {
        let output = command(&[&["check", SMALL], limits].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{limits:?}: {}", text(&output.stdout));
    }
    let output = command(&["check", SMALL, "--absolute", "-1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn run_reads_and_writes_npy_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let model = zoo::build(SMALL).unwrap();
    let port = model.graph.value(model.graph.inputs[0]);
    let input = ndarray::ArrayD::<f32>::from_elem(port.shape.clone(), 0.5);
    ndarray_npy::write_npy(path("in.npy"), &input).unwrap();
    let given = format!("{}={}", port.name, path("in.npy"));

    let output = command(&["run", SMALL, "--input", &given, "--output-dir", &path("out")]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let note = text(&output.stderr);
    let other = &model.graph.value(model.graph.inputs[1]).name;
    assert_eq!(note, format!("nestjit: no file given for '{other}': seeded random values\n"));
    let result = model.graph.value(model.graph.outputs[0]);
    let file = Path::new(&path("out")).join(format!("{}.npy", result.name));
    let written: ndarray::ArrayD<f32> = ndarray_npy::read_npy(&file).unwrap();
    assert_eq!(written.shape(), result.shape);
    assert!(text(&output.stdout).contains(&format!("{:?}", result.shape)));

    // Seeded: the same again, whatever the threads; and another input gives something else.
    let again = |args: &[&str]| {
        let dir = path("again");
        stdout(&[&["run", SMALL, "--output-dir", &dir], args].concat());
        ndarray_npy::read_npy::<_, ndarray::ArrayD<f32>>(
            Path::new(&path("again")).join(file.file_name().unwrap()),
        )
        .unwrap()
    };
    assert_eq!(again(&["--input", &given, "--threads", "1"]), written);
    assert_ne!(again(&[]), written);
}

#[test]
fn ir_prints_the_program_after_any_pass() {
    let parse = |text: &str| nestjit::ir::parse::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let lowered = parse(&stdout(&["ir", "mlp10", "--after", "Lower"]));
    let fused = parse(&stdout(&["ir", "mlp10", "--after", "OpFusion"]));
    assert!(fused.nests.len() < lowered.nests.len());
    // GEMM, bias and ReLU are in one nest.
    let first = &fused.nests[0];
    let ops = first.ops.join(" ");
    assert!(ops.contains("MatMul") && ops.contains("BiasAdd") && ops.contains("Relu"), "{ops}");
    let one = stdout(&["ir", "mlp10", "--after", "OpFusion", "--nest", &first.name]);
    assert_eq!(one.matches("nest @").count(), 1);
    assert!(one.contains("max(") && one.contains("+="), "{one}");

    let last = stdout(&["ir", SMALL]);
    let all = stdout(&["ir", SMALL, "--all"]);
    assert!(all.contains("// ---- after Lower\n") && all.contains("// ---- after OpFusion\n"), "{all}");
    let times = all.lines().last().unwrap();
    assert!(times.starts_with("// ---- times: setup ") && times.contains(", Tile "), "{times}");
    assert!(all.contains(last.trim_end()), "{all}\n{last}");
    let passes = stdout(&["ir", "--passes"]);
    for pass in nestjit::passes::PIPELINE {
        assert!(passes.contains(pass.name), "{passes}");
    }
}

#[test]
fn ir_takes_files_of_nests() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scale.nest");
    let source =
        "nest @scale(in %x: f32[8], out %y: f32[8]) {\n  for i < 8 {\n    %y[i] = %x[i] * 2.0\n  }\n}\n";
    fs::write(&path, source).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(stdout(&["ir", file, "--after", "Lower"]), source);
    let scheduled = stdout(&["ir", file]);
    assert!(scheduled.contains("nest @scale("), "{scheduled}");

    fs::write(&path, source.replace("%x[i]", "%z[i]")).unwrap();
    let (code, message) = failure(&["ir", file]);
    assert_eq!(code, 1);
    assert!(message.contains("scale.nest': 3:") && message.contains("%z"), "{message}");
    fs::write(&path, source.replace("i < 8", "i < 9")).unwrap();
    let (code, message) = failure(&["ir", file]);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("scale") && message.lines().count() == 1, "{message}");
}

#[test]
fn files_of_nests_are_for_ir_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scale.nest");
    fs::write(&path, "nest @scale(in %x: f32[8], out %y: f32[8]) { for i < 8 { %y[i] = %x[i] * 2.0 } }")
        .unwrap();
    let file = path.to_str().unwrap();
    let message = format!(
        "'{file}' is a file of loop nests by its name, which `nestjit ir` takes and no other command"
    );
    for args in
        [&["run", file][..], &["bench", file], &["check", file], &["report", file], &["export", file, "m"]]
    {
        assert_fails(args, 2, &message);
    }
    let message = "--dim and --input are for models: a file of loop nests has its shapes, and is not run";
    assert_fails(&["ir", file, "--dim", "n=2"], 2, message);
}

#[test]
fn ir_and_check_take_threads() {
    let parts = |threads: &str| stdout(&["ir", "mlp10", "--threads", threads]);
    assert!(!parts("1").contains(" parallel {") && parts("4").contains(" parallel {"));
    let out = stdout(&["check", SMALL, "--threads", "3"]);
    assert!(out.contains("fused code, 3 threads") && out.contains("PASSED: "), "{out}");
}

#[test]
fn wrong_usage_is_exit_code_2_and_one_line() {
    let passes: Vec<&str> = nestjit::passes::PIPELINE.iter().map(|pass| pass.name).collect();
    for args in
        [&["bench", SMALL][..], &["run", SMALL], &["check", SMALL], &["report", SMALL], &["ir", SMALL]]
    {
        let (code, message) = failure(&[args, &["--disable-pass", "OpFusion,Fuse"]].concat());
        assert_eq!((code, message.lines().count()), (2, 1), "{message}");
        assert!(message.starts_with("nestjit: there is no pass 'Fuse'; the passes are "), "{message}");
        assert!(passes.iter().all(|pass| message.contains(pass)), "{message}");
    }
    let (code, message) = failure(&["ir", SMALL, "--after", "Fuse"]);
    assert!(code == 2 && message.starts_with("nestjit: there is no pass 'Fuse'; "), "{message}");
    let (code, message) = failure(&["bench", "resnet"]);
    assert_eq!((code, message.lines().count()), (2, 1));
    assert!(
        message.starts_with(
            "nestjit: there is no built-in model 'resnet' (did you mean 'resnet18'?); there are: 'mlp10', "
        ),
        "{message}"
    );
    for (args, message) in [
        (
            &["bench"][..],
            "the following required arguments were not provided: <MODEL>...; see `nestjit bench --help`",
        ),
        (
            &["bench", SMALL, "--iterations", "0"],
            "invalid value '0' for '--iterations <N>': 0 is not in 1..=4294967295; see `nestjit bench --help`",
        ),
        (
            &["run", SMALL, "--input", "x"],
            "invalid value 'x' for '--input <NAME=FILE.npy>': expected NAME=FILE.npy; see `nestjit run --help`",
        ),
        (&["run", SMALL, "--input", "nope=x.npy"], "there is no input 'nope'; there is 'input', 'hidden'"),
        (
            &["bench", SMALL, "--disable-pass", "OpFusion"],
            "OpFusion is switched off, so there is no fused code: add `--fusion off`",
        ),
    ] {
        assert_fails(args, 2, message);
    }
    for command in ["bench", "run", "check", "report", "ir"] {
        for threads in ["0", "-1", "5000", "99999999999999999999", "two"] {
            let message = format!(
                "invalid value '{threads}' for '--threads <N>': the number of threads must be in 1..=1024; see \
                 `nestjit {command} --help`"
            );
            assert_fails(&[command, SMALL, "--threads", threads], 2, &message);
        }
        let (code, message) = failure(&[command, SMALL, "--frobnicate"]);
        assert!(code == 2 && message.ends_with(&format!("; see `nestjit {command} --help`\n")), "{message}");
    }
    let (code, message) = failure(&["frobnicate"]);
    assert!(code == 2 && message.ends_with("; see `nestjit --help`\n"), "{message}");
    assert_eq!(failure(&[]).0, 2);
    let help = stdout(&["--help"]);
    assert!(help.contains("bench") && help.contains("Exit codes: 0 for success, 1 if "), "{help}");
    assert!(stdout(&["--version"]).starts_with("nestjit "));
}

#[test]
fn failures_are_exit_code_1_and_name_the_place() {
    assert_fails(&["bench", "no.onnx"], 1, "cannot read 'no.onnx': No such file or directory (os error 2)");
    assert_fails(
        &["ir", "missing.nest"],
        1,
        "cannot read 'missing.nest': No such file or directory (os error 2)",
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.npy");
    let model = zoo::build(SMALL).unwrap();
    let port = model.graph.value(model.graph.inputs[0]);
    let given = format!("{}={}", port.name, file.display());
    let shown = file.display();
    let (name, shape) = (&port.name, &port.shape);
    assert_fails(
        &["run", SMALL, "--input", &given],
        1,
        &format!("cannot read '{shown}': No such file or directory (os error 2)"),
    );
    ndarray_npy::write_npy(&file, &ndarray::Array1::<f32>::zeros(3)).unwrap();
    assert_fails(
        &["run", SMALL, "--input", &given],
        1,
        &format!("'{shown}': shape [3], but input '{name}' has shape {shape:?}"),
    );
    ndarray_npy::write_npy(&file, &ndarray::ArrayD::<f64>::zeros(shape.clone())).unwrap();
    let (code, message) = failure(&["run", SMALL, "--input", &given]);
    assert_eq!(code, 1);
    assert!(message.contains("x.npy' holds elements of type") && message.contains("f32"), "{message}");
    fs::write(&file, Tensor::zeros(DType::U8, &[100]).unwrap().bytes().unwrap()).unwrap();
    let (code, message) = failure(&["run", SMALL, "--input", &given]);
    assert_eq!((code, message.lines().count()), (1, 1));
    assert!(message.contains("x.npy' is not a readable .npy file"), "{message}");
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.nest");
    let made = Command::new("mkfifo").arg(&pipe).status();
    let mut others =
        vec![("/dev/zero".to_owned(), "a device"), (format!("{}", dir.path().display()), "a directory")];
    if made.is_ok_and(|status| status.success()) {
        others.push((pipe.display().to_string(), "a pipe"));
    }
    let port = &zoo::build(SMALL).unwrap();
    let name = &port.graph.value(port.graph.inputs[0]).name;
    for (path, what) in others {
        let message = format!("cannot read '{path}': it is {what}, not a file");
        let given = format!("{name}={path}");
        assert_fails(&["run", SMALL, "--input", &given], 1, &message);
        assert_fails(&["report", SMALL, "--rates", &path], 1, &message);
        if path.ends_with(".nest") {
            assert_fails(&["ir", &path], 1, &message);
        }
    }
}

#[test]
fn bad_environment_variables_are_named() {
    for (variable, value, code) in [
        ("NESTJIT_ISA", "mmx", 2),
        ("NESTJIT_THREADS", "0", 2),
        ("NESTJIT_THREADS", "-1", 2),
        ("NESTJIT_DISABLE_PASS", "Tile,Nope", 2),
        ("NESTJIT_MACHINE", "nope", 2),
        ("NESTJIT_PRECISION", "f8", 2),
        ("NESTJIT_MEMORY", "1G", 2),
        ("NESTJIT_MEMORY", "1", 1),
        ("NESTJIT_VERIFY", "2", 2),
    ] {
        let output = command(&["report", SMALL]).env(variable, value).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!((output.status.code(), message.lines().count()), (Some(code), 1), "{variable}: {message}");
        assert!(message.contains(variable), "{variable}: {message}");
    }
    let off = command(&["report", SMALL]).env("NESTJIT_DISABLE_PASS", "OpFusion").output().unwrap();
    assert!(text(&off.stdout).contains("   without OpFusion\n"), "{}", text(&off.stdout));
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let mut child =
        command(&["ir", "mlp10", "--all"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn fusion_makes_fewer_kernels_of_every_model() {
    let networks = ["resnet18@32", "mobilenet_v2@32", "efficientnet_b0@32"];
    let small = zoo::list().iter().filter(|entry| entry.size == zoo::Size::Small).map(|entry| entry.name);
    for name in small.chain(networks) {
        let model = zoo::build(name).unwrap();
        let [fused, unfused] = [Compiler::new(), Compiler::new().disable_pass("OpFusion")]
            .map(|compiler| compiler.compile(&model).unwrap().kernels());
        let (most, least) = match name {
            "mlp10" => (11, 31),
            "weenet" | "weenet_nhwc" => (1, 2),
            "lstm_cell" => (2, 3),
            _ => (unfused - 1, 2),
        };
        assert!(fused <= most && unfused >= least, "{name}: {unfused} -> {fused} kernels");
    }
}

#[test]
fn everything_that_is_wrong_with_a_model_is_one_line_that_names_the_file() {
    use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};
    use prost::Message;
    let node = |name: &str, op: &str, x: &str, y: &str| NodeProto {
        name: Some(name.into()),
        op_type: Some(op.into()),
        input: vec![x.into()],
        output: vec![y.into()],
        ..NodeProto::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(GraphProto {
            node: vec![node("first", "Frobnicate", "", "a"), node("second", "Garble", "", "y")],
            output: vec![ValueInfoProto { name: Some("y".into()), ..ValueInfoProto::default() }],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.onnx");
    let shown = file.to_str().unwrap();
    fs::write(&file, model.encode_to_vec()).unwrap();
    assert_fails(
        &["run", shown],
        1,
        &format!(
            "'{shown}': 2 problems: node 'first' (Frobnicate, opset 17): the operator is not supported; \
             node 'second' (Garble, opset 17): the operator is not supported"
        ),
    );
    fs::write(&file, b"GIF89a").unwrap();
    let (code, message) = failure(&["run", shown]);
    assert_eq!(code, 1);
    assert!(message.contains(&format!("'{shown}': this is not an ONNX model: ")), "{message}");
}
