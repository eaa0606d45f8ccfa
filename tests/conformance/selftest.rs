//! The runner's own tests, on a suite that is made up: these run with `cargo test`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nestjit::onnx::proto::TensorProto;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::{DType, GraphBuilder, Model};
use prost::Message;

use super::class::Class;
use super::expect::{self, Expectations};
use super::pool::{self, Limits, Place};
use super::suite;
use super::verdict::{Outcome, Report, Verdict};
use super::worker::{Misbehaviour, Request};

const TESTS: [(&str, fn()); 5] = [
    ("cases_come_out_as_they_should", cases_come_out_as_they_should),
    ("workers_that_die_are_results", workers_that_die_are_results),
    ("expectations_are_read_and_written", expectations_are_read_and_written),
    ("surprises_are_reported", surprises_are_reported),
    ("the_list_in_the_repository_is_in_order", the_list_in_the_repository_is_in_order),
];

/// Runs the tests whose names contain one of the arguments that are no options, or all.
pub fn run(arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let tests =
        TESTS.iter().filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(*f)));
    if arguments.iter().any(|a| a == "--list") {
        tests.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in tests {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A file with a tensor of floats.
fn tensor(path: &Path, values: &[f32]) {
    let tensor = TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Float.into()),
        float_data: values.to_vec(),
        ..TensorProto::default()
    };
    fs::write(path, tensor.encode_to_vec()).unwrap();
}

/// A case `relu(x) + 1` with these outputs for the inputs -1 and 2.
fn case(suite: &Path, name: &str, model: &[u8], outputs: &[f32]) {
    let set = suite.join(name).join("test_data_set_0");
    fs::create_dir_all(&set).unwrap();
    fs::write(suite.join(name).join("model.onnx"), model).unwrap();
    tensor(&set.join("input_0.pb"), &[-1.0, 2.0]);
    tensor(&set.join("output_0.pb"), outputs);
}

fn small_model() -> Vec<u8> {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DType::F32, &[2]);
    let relu = g.relu(x);
    let one = g.scalar(DType::F32, 1.0);
    let y = g.add(relu, one);
    g.output("y", y);
    Model::from(g.build().unwrap()).to_onnx().unwrap()
}

/// The same model with an operator that does not exist.
fn unsupported_model() -> Vec<u8> {
    let mut model = nestjit::onnx::proto::ModelProto::decode(small_model().as_slice()).unwrap();
    model.graph.as_mut().unwrap().node[0].op_type = Some("Rely".into());
    model.encode_to_vec()
}

/// A suite, and what must come of its cases.
fn made_up(suite: &Path) -> Vec<(&'static str, Outcome)> {
    let model = small_model();
    case(suite, "node/a_good", &model, &[1.0, 3.0]);
    case(suite, "node/b_loose", &model, &[1.0, 3.001]);
    case(suite, "node/c_value", &model, &[1.0, 3.1]);
    case(suite, "node/d_shape", &model, &[1.0, 3.0, 3.0]);
    case(suite, "node/e_not_a_number", &model, &[1.0, f32::NAN]);
    case(suite, "node/f_unsupported", &unsupported_model(), &[1.0, 3.0]);
    case(suite, "node/g_garbage", b"garbage", &[1.0, 3.0]);
    fs::create_dir_all(suite.join("light")).unwrap();
    fs::write(suite.join("light/h_ramp.onnx"), &model).unwrap();
    tensor(&suite.join("light/h_ramp_output_0.pb"), &[1.0, 1.5]);
    vec![
        ("node/a_good", Outcome::Pass),
        ("node/b_loose", Outcome::Loose),
        ("node/c_value", Outcome::Mismatch),
        ("node/d_shape", Outcome::Mismatch),
        ("node/e_not_a_number", Outcome::Mismatch),
        ("node/f_unsupported", Outcome::Unsupported),
        ("node/g_garbage", Outcome::Invalid),
        ("light/h_ramp", Outcome::Pass),
    ]
}

fn cases_come_out_as_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let expected = made_up(folder.path());
    let cases = suite::find(folder.path()).unwrap();
    let names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert!(cases.iter().all(|c| c.class == Class::Core));
    let reports = pool::run(&cases, &Limits { workers: 2, ..Limits::default() }).unwrap();
    for (report, (name, outcome)) in reports.iter().zip(&expected) {
        let [fused, unfused] = [&report.fused, &report.unfused];
        assert_eq!((fused.outcome, unfused.outcome), (*outcome, *outcome), "{name}: {report:?}");
        assert_eq!(fused.reason.is_empty(), *outcome == Outcome::Pass, "{name}: {report:?}");
    }
    assert_eq!(reports[0].unfused.same_bits, Some(true));
    assert!(reports[2].fused.reason.contains("[1]: 3e0 instead of 3.0999"), "{:?}", reports[2]);
    assert!(reports[5].fused.reason.contains("Rely"), "{:?}", reports[5]);
    // Errors name files; the list does not say where the suite was.
    let folder_of_suite = folder.path().display().to_string();
    assert!(reports[6].fused.reason.contains(&folder_of_suite), "{:?}", reports[6]);
    let list = Expectations::default().blessed(&expect::results(&cases, reports)).text();
    assert!(list.contains("model.onnx") && !list.contains(&folder_of_suite), "{list}");
    // The program as a whole: nothing of this is in the list, so it fails, and says what and why.
    let program = std::env::current_exe().unwrap();
    let run = |filter: &str| {
        let mut command = Command::new(&program);
        command.arg("--suite").arg(folder.path()).args(["--filter", filter]).output().unwrap()
    };
    let (good, bad) = (run("a_good"), run("c_value"));
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(good.status.success() && text(&good).contains("1 of 8 cases"), "{}", text(&good));
    assert!(text(&bad).contains("UNEXPECTED mismatch instead of pass: node/c_value"), "{}", text(&bad));
    assert_eq!(bad.status.code(), Some(1));
}

fn workers_that_die_are_results() {
    // Only what hangs is cut off: on a busy machine, others may need their time.
    let mut patient = Place::new(&Limits::default());
    let mut ask = |how| {
        let request = Request::Misbehave(how);
        let mut impatient = Place::new(&Limits { timeout: Duration::from_millis(500), ..Limits::default() });
        let place = if how == Misbehaviour::Hang { &mut impatient } else { &mut patient };
        place.ask(&request, 1).unwrap().remove(0)
    };
    let panic = ask(Misbehaviour::Panic);
    assert!(panic.reason.contains("as asked for"), "{panic:?}");
    for (how, outcome) in [
        (Misbehaviour::Panic, Outcome::Crash),
        (Misbehaviour::Abort, Outcome::Crash),
        (Misbehaviour::Overflow, Outcome::Crash),
        (Misbehaviour::Memory, Outcome::Crash),
        (Misbehaviour::Hang, Outcome::Timeout),
        // And on it goes.
        (Misbehaviour::Panic, Outcome::Crash),
    ] {
        let verdict = ask(how);
        assert_eq!(verdict.outcome, outcome, "{how:?}: {verdict:?}");
        assert!(!verdict.reason.is_empty(), "{how:?}");
    }
}

fn expectations_are_read_and_written() {
    let text = "# why\n\ntotal 3\nnode/a  loose  output 0[1]: 2 instead of 3\nnode/bb unsupported\n";
    let list = Expectations::parse(text).unwrap();
    assert_eq!(Expectations::parse(&list.text()).unwrap(), list);
    for (text, message) in [
        ("node/a", "line 1: no outcome"),
        ("#\nnode/a good", "line 2: there is no outcome 'good'"),
        ("node/a pass", "line 1: what passes is not listed"),
        ("total many", "line 1: no number"),
        ("node/a loose\nnode/a loose", "line 2: the case is listed twice"),
    ] {
        assert_eq!(Expectations::parse(text).unwrap_err(), message);
    }
}

fn surprises_are_reported() {
    let case = |name: &str| suite::Case { name: name.into(), model: PathBuf::new(), class: Class::Core };
    let cases = ["node/a", "node/b", "node/c", "node/d"].map(case);
    let report =
        |fused, unfused| Report { fused: Verdict::new(fused, ""), unfused: Verdict::new(unfused, "") };
    let reports = vec![
        report(Outcome::Pass, Outcome::Pass),
        report(Outcome::Pass, Outcome::Pass),
        report(Outcome::Pass, Outcome::Crash),
        report(Outcome::Loose, Outcome::Pass),
    ];
    let results = expect::results(&cases, reports);
    let list = Expectations::parse("total 5\nnode/b loose x\nnode/c crash\nnode/z loose").unwrap();
    let surprises = list.surprises(&results, true);
    assert_eq!(surprises.len(), 4, "{surprises:?}");
    assert_eq!(surprises[0], "pass instead of loose: node/b");
    assert!(surprises[1].starts_with("mismatch instead of pass: node/d: fused: loose"), "{surprises:?}");
    assert_eq!(surprises[2..], ["the suite has no case node/z", "the suite has 4 cases instead of 5"]);
    assert_eq!(list.surprises(&results, false).len(), 2);
    assert_eq!(list.blessed(&results).surprises(&results, true), [] as [String; 0]);
}

fn the_list_in_the_repository_is_in_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected.txt");
    let list = Expectations::read(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), list.text(), "not as --bless writes it");
}
