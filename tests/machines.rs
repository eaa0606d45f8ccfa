//! The command for other machines: what is known of them, what is planned for them, what runs here and what does not, and
//! what is predicted for more cores.

use std::fs;
use std::process::{Command, Output};

use nestjit::machine::{Isa, KNOWN, MachineModel};
use serde_json::Value;

fn nestjit(args: &[&str], machine: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    command.args(args).env("NESTJIT_MACHINE", machine).output().unwrap()
}

fn stdout(args: &[&str], machine: &str) -> String {
    let output = nestjit(args, machine);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and the message of a command that fails.
fn failure(args: &[&str], machine: &str) -> (Option<i32>, String) {
    let output = nestjit(args, machine);
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn json(args: &[&str], machine: &str) -> Value {
    serde_json::from_str(&stdout(args, machine)).unwrap()
}

#[test]
fn machines_are_listed_printed_and_read_back() {
    let list = stdout(&["machine", "--list"], "");
    for known in KNOWN {
        assert!(list.contains(known.name) && list.contains(known.summary) && list.contains(known.source));
        assert!(stdout(&["machine", known.name], "").contains(known.summary));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.json");
    let path = file.to_str().unwrap();
    for name in ["", "zen5", "neoverse_v1"] {
        let text = stdout(&["machine", "--json"], name);
        fs::write(&file, &text).unwrap();
        assert_eq!(stdout(&["machine", "--json"], path), text);
        assert_eq!(stdout(&["machine", path, "--json"], "zen3"), text, "the argument wins");
    }
    let host: MachineModel = serde_json::from_str(&stdout(&["machine", "--json"], "")).unwrap();
    assert_eq!(host, MachineModel::host(None).unwrap());
}

#[test]
fn wrong_machines_are_refused() {
    let (code, message) = failure(&["ir", "rnn_cell"], "zen9");
    assert_eq!(code, Some(2));
    assert!(
        message.starts_with("nestjit: NESTJIT_MACHINE: there is no machine 'zen9' (did you mean 'zen"),
        "{message}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.json");
    let path = file.to_str().unwrap();
    for (text, expected) in [
        ("{", "no JSON: "),
        ("{\"like\": \"zen5\", \"cores\": 0}", "0 cores: the number must be in 1..=4096"),
        ("{\"like\": \"zen5\", \"clock\": 4}", "unknown field `clock`"),
        ("{\"cores\": 8}", "missing field `name`"),
        (
            "{\"peak_gflops\": 270.0, \"read_gbytes\": 33.0}",
            "these are rates for `nestjit report --rates`, and no machine",
        ),
        ("{\"like\": \"zen5\", \"isa\": \"avx2\"}", "it has bf16 without avx512"),
    ] {
        fs::write(&file, text).unwrap();
        for (args, said_by) in [(&["machine", path][..], ""), (&["report", "rnn_cell"], "NESTJIT_MACHINE: ")]
        {
            let (code, message) = failure(args, path);
            assert_eq!(code, Some(2), "{message}");
            assert!(message.starts_with(&format!("nestjit: {said_by}{path}: {expected}")), "{message}");
        }
    }
    let (code, message) = failure(&["machine"], "no/such/file.json");
    assert!(code == Some(1) && message.contains("cannot read 'no/such/file.json'"), "{message}");
}

#[test]
fn what_is_planned_for_other_machines_is_printed_and_runs_if_it_can() {
    let plan = |machine: &str| stdout(&["ir", "tvm_conv"], machine);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.json");
    fs::write(&file, r#"{"like": "neoverse_v1", "name": "two", "cores": 2}"#).unwrap();
    let (one, many) = (plan(file.to_str().unwrap()), plan("neoverse_v1"));
    assert!(one.contains(" parallel {") && many.contains(" parallel {"));
    assert_ne!(one, many, "64 cores get more parts");
    assert!(stdout(&["run", "rnn_cell"], "simd128").contains("next_hidden"));
    assert!(stdout(&["check", "rnn_cell"], "neoverse_v1").contains("PASSED"));
    if !Isa::Avx512.host_has_tiles() {
        assert!(plan("granite_rapids").contains("vector"));
        let (code, message) = failure(&["run", "rnn_cell"], "granite_rapids");
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains("for the machine 'granite_rapids' and may use "), "{message}");
        assert!(message.contains("which this CPU does not have"), "{message}");
    }
}

#[test]
fn more_cores_are_predicted() {
    let args = ["report", "squeezenet1_1@64", "--threads", "1", "--rates", "gflops=100,gbps=20"];
    let report = &json(&[&args[..], &["--json"]].concat(), "avx2")["models"][0];
    let scaling = &report["scaling"];
    assert_eq!((&scaling["machine"], &scaling["machine_cores"]), (&"avx2".into(), &8.into()));
    let points = scaling["points"].as_array().unwrap();
    let cores: Vec<u64> = points.iter().map(|p| p["cores"].as_u64().unwrap()).collect();
    assert_eq!(cores, [1, 2, 4, 8, 16, 32, 64, 128]);
    let speedup = |at: usize| points[at]["speedup"].as_f64().unwrap();
    assert!(speedup(0) == 1.0 && speedup(1) > 1.3 && speedup(2) > speedup(1), "{scaling}");
    assert!(cores.contains(&scaling["scales_to"].as_u64().unwrap()));
    let text = stdout(&args, "avx2");
    assert!(text.contains(" scaling      predicted for avx2 of 8 cores: scales to "), "{text}");
    let without = json(&["report", "rnn_cell", "--rates", "gflops=100,gbps=20", "--json"], "");
    assert!(without["models"][0].get("scaling").is_none());
}

#[test]
fn what_is_planned_for_another_machine_is_said() {
    let bench = ["bench", "rnn_cell", "--iterations", "1", "--warmup", "0"];
    for args in [
        &bench[..],
        &["run", "rnn_cell"],
        &["check", "rnn_cell"],
        &["report", "rnn_cell"],
        &["ir", "rnn_cell"],
    ] {
        let output = nestjit(args, "neoverse_v1");
        let remarks = String::from_utf8(output.stderr).unwrap();
        // A check is of one thread and two.
        let threads = if args[0] == "check" { 2 } else { 64 };
        let planned = "nestjit: planned for the machine 'neoverse_v1' of 64 cores and for ";
        let planned = format!("{planned}{threads} threads; code is ");
        assert_eq!(remarks.matches(planned.as_str()).count(), 1, "{args:?}: {remarks}");
        assert!(remarks.contains(&format!("{} code all the same", std::env::consts::ARCH)), "{remarks}");
    }
    let text = stdout(&["report", "rnn_cell"], "neoverse_v1");
    assert!(
        text.lines().next().unwrap().ends_with("   planned for neoverse_v1 of 64 cores, 64 threads"),
        "{text}"
    );
    let json = json(&["report", "rnn_cell", "--json"], "neoverse_v1");
    assert_eq!(json["models"][0]["planned_for"]["machine"], "neoverse_v1");
}
