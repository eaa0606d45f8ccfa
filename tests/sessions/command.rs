//! The command on models whose dimensions are open, and on those that are not one program.

use std::fs;
use std::process::Command;

use nestjit::onnx::proto::{GraphProto, TensorProto};
use nestjit::{Compiler, Session, Tensor};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

use super::build::{With, floats, graph, ints, item, model, node, nodes, proto};

/// The folder of a test. Others run at the same time, with models of the same names.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn model(&self, name: &str, graph: GraphProto, initializer: Vec<TensorProto>) -> String {
        let path = self.path(name);
        fs::write(&path, proto(graph, initializer, vec![]).encode_to_vec()).unwrap();
        path
    }
}

/// Exit code, standard output and standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    let output = command.args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn stdout(args: &[&str]) -> String {
    let (code, out, err) = run(args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

fn symbolic(folder: &Folder) -> String {
    let g = graph(&["x: f32 batch time 4"], &["y"], nodes("MatMul: x, w -> h\nRelu: h -> y"));
    folder.model("symbolic.onnx", g, vec![floats("w", &[4, 3], &[0.5; 12])])
}

fn parts(folder: &Folder) -> String {
    let mut list =
        nodes("Relu: x -> r\nTranspose: where -> places\nGatherND: r, places -> found\nExp: found -> y");
    list.insert(1, node("NonZero: r -> where"));
    folder.model("parts.onnx", graph(&["x: f32 n 8"], &["y"], list), vec![])
}

#[test]
fn dimensions_are_given_or_one() {
    let folder = Folder::new();
    let model = symbolic(&folder);
    let out = stdout(&["run", &model, "--dim", "batch=2", "--dim", "time=5"]);
    assert!(out.contains("[2, 5, 3]"), "{out}");
    let (_, out, err) = run(&["run", &model, "--dim", "batch=2"]);
    assert!(out.contains("[2, 1, 3]"), "{out}");
    assert!(
        err.contains("the model leaves these dimensions open, 1 is taken: 'time' (--dim time=N)"),
        "{err}"
    );
    for command in ["bench", "check", "report", "ir"] {
        let mut args = vec![command, &model, "--dim", "batch=2", "--dim", "time=3"];
        if command == "bench" {
            args.extend(["--iterations", "1", "--warmup", "1"]);
        }
        stdout(&args);
    }
    let (code, _, err) = run(&["run", &model, "--dim", "depth=2"]);
    assert_eq!(
        (code, err.as_str()),
        (2, "nestjit: there is no open dimension 'depth'; there is 'batch', 'time'\n")
    );
    assert_eq!(run(&["run", &model, "--dim", "batch"]).0, 2);
}

#[test]
fn files_bind_dimensions() {
    let folder = Folder::new();
    let model = symbolic(&folder);
    let results = folder.path("results");
    stdout(&["run", &model, "--dim", "batch=3", "--dim", "time=2", "--output-dir", &results]);
    // What came out is no input of this model, but one of another with the same symbols.
    let other = folder.model(
        "other.onnx",
        graph(&["a: f32 p q 3", "b: f32 q"], &["y"], vec![node("Neg: a -> y")]),
        vec![],
    );
    let (_, out, err) = run(&["run", &other, "--input", &format!("a={results}/y.npy")]);
    assert!(out.contains("[3, 2, 3]") && !err.contains("leaves"), "{out}{err}");
}

#[test]
fn models_that_are_not_one_program() {
    let folder = Folder::new();
    let model = parts(&folder);
    let report = stdout(&["report", &model, "--dim", "n=3"]);
    assert!(report.contains(" ---- program 2\n") && report.contains("where (NonZero, opset 18)"), "{report}");
    assert!(report.contains("the shape of the result depends on data"), "{report}");
    let check = stdout(&["check", &model, "--dim", "n=3"]);
    assert!(check.contains("PASSED: 24 comparisons"), "{check}");
    let bench = stdout(&["bench", &model, "--dim", "n=3", "--iterations", "2", "--warmup", "1", "--json"]);
    let json: Value = serde_json::from_str(&bench).unwrap();
    // Exponentials, and the maximum of each element and 0.
    assert!(json["flops"].as_f64().unwrap() > 0.0 && json["macs"] == 0.0, "{json}");
    for run in json["runs"].as_array().unwrap() {
        assert_eq!(run["programs"], 2, "{run}");
        assert!(["second_ms", "gflops"].iter().all(|k| run[*k].as_f64().unwrap() > 0.0), "{run}");
        assert!(run["arena_bytes"].is_u64(), "{run}");
        let cold = &run["cold_ms"];
        let sum: f64 = ["load", "passes", "codegen", "pack", "first_run"]
            .iter()
            .map(|k| cold[*k].as_f64().unwrap())
            .sum();
        assert!((sum - cold["total"].as_f64().unwrap()).abs() < 1e-6 && run["warm_ms"]["n"] == 2, "{run}");
    }
    let text = stdout(&["bench", &model, "--dim", "n=3", "--iterations", "2", "--warmup", "1"]);
    for part in ["fusion on: 2 programs, ", "fusion off (without OpFusion): 2 programs, ", "several programs"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let ir = stdout(&["ir", &model, "--dim", "n=3", "--after", "Lower"]);
    assert!(
        ir.split_once("// ==== program 2\n").is_some_and(|(_, second)| second.contains("\nnest @")),
        "{ir}"
    );
    assert!(stdout(&["run", &model, "--dim", "n=3"]).contains("y"));
    let (code, _, err) = run(&["export", &model, "out.onnx", "--dim", "n=3"]);
    assert!(code == 1 && err.contains("is not one program"), "{err}");
}

/// A loop whose body is compiled for five lengths.
fn growing() -> (GraphProto, Vec<TensorProto>) {
    // What is carried grows with every iteration: the body is compiled for five lengths. That it is five only data tells.
    let body = vec![node("Concat: v, x -> w").int("axis", 0), node("Identity: c -> go")];
    let body = graph(&["i: i64", "c: bool", "v: f32 k"], &["go", "w"], body);
    let list = vec![
        node("Mul: x, zero -> zeros"),
        node("ReduceSum: zeros -> sum").int("keepdims", 0),
        node("Cast: sum -> none").int("to", 7),
        node("Add: none, five -> times"),
        node("Loop: times, _, x -> y").graph("body", body),
    ];
    let weights = vec![ints("five", &[], &[5]), floats("zero", &[], &[0.0])];
    (graph(&["x: f32 3"], &["y"], list), weights)
}

#[test]
fn bodies_that_the_cache_forgets_are_traced_one_by_one() {
    let (graph, weights) = growing();
    let s = Session::new(model(graph, weights), Compiler::new().threads(1)).cache_limit(1);
    let inputs = [item(&[3], &[1.0f32, 2.0, 3.0])];
    let (_, trace) = s.trace(&inputs).unwrap();
    let bodies = || trace.parts.iter().filter(|part| part.depth == 1);
    assert_eq!(bodies().map(|part| part.runs).collect::<Vec<_>>(), [1; 5]);
    let lengths = bodies().map(|part| part.inputs.iter().map(Tensor::len).max().unwrap());
    assert!(lengths.collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
}

#[test]
fn a_cache_that_is_too_small_is_remarked_upon() {
    let (graph, weights) = growing();
    let folder = Folder::new();
    let model = folder.model("growing.onnx", graph, weights);
    let bench = |limit: &[&str]| {
        let args = ["bench", &model, "--iterations", "1", "--warmup", "1", "--fusion", "on"];
        let (code, _, err) = run(&[&args[..], limit].concat());
        assert_eq!(code, 0, "{err}");
        err
    };
    assert!(!bench(&[]).contains("compiled again"));
    let remark = bench(&["--cache-limit", "2"]);
    assert!(
        remark.contains("programs were compiled again, since") && remark.contains("Session::cache_limit"),
        "{remark}"
    );
}

#[test]
fn reports_of_models_that_are_not_one_program() {
    let folder = Folder::new();
    let model = parts(&folder);
    let (html, dot, trace) = (folder.path("page.html"), folder.path("graph.dot"), folder.path("trace.json"));
    let shown = ["--measure", "--runs", "2", "--compare", "--html", &html, "--dot", &dot, "--trace", &trace];
    let args = [&["report", &model, "--dim", "n=3", "--json"][..], &shown].concat();
    let json: Value = serde_json::from_str(&stdout(&args)).unwrap();
    let report = &json["models"][0];
    assert_eq!(report["parts"].as_array().unwrap().len(), 3);
    let groups = report["groups"].as_array().unwrap();
    assert_eq!(report["nests"], groups.len());
    let programs: Vec<&Value> = groups.iter().map(|g| &g["program"]).collect();
    assert!(
        programs.iter().is_sorted_by_key(|p| p.as_u64()) && programs.contains(&&Value::from(2)),
        "{report}"
    );
    assert!(groups.iter().all(|g| g["ms"].as_f64().unwrap() > 0.0), "{report}");
    assert_eq!(report["compare"].as_array().unwrap().len(), 3);
    // A page, a graph and a trace for each program.
    for number in [1, 2] {
        let read = |name: String| fs::read_to_string(folder.path(&name)).unwrap();
        assert!(read(format!("page-{number}.html")).contains("<svg"));
        assert!(read(format!("graph-{number}.dot")).contains("digraph"));
        serde_json::from_str::<Value>(&read(format!("trace-{number}.json"))).unwrap();
    }
    // Beside others it has a row.
    let rows = stdout(&["report", &model, &model, "--dim", "n=3"]);
    assert_eq!(rows.lines().count(), 3, "{rows}");
}

#[test]
fn shapes_that_an_input_decides_need_its_file() {
    let folder = Folder::new();
    let g = graph(&["x: f32 6", "s: i64 2"], &["y"], vec![node("Reshape: x, s -> y")]);
    let (code, _, err) = run(&["run", &folder.model("reshape.onnx", g, vec![])]);
    assert_eq!(code, 2);
    assert!(err.contains("depend on the values of the input 's', which must be given"), "{err}");
    let g = graph(&["x: f32 6"], &["y"], vec![node("Reshape: x, s -> y")]);
    stdout(&["run", &folder.model("constant.onnx", g, vec![ints("s", &[2], &[2, 3])])]);
}

/// A model with dimensions that have no name.
fn anonymous(folder: &Folder) -> String {
    let g = graph(&["x: f32 ? ? 4"], &["x", "a/b"], nodes("Relu: x -> a/b"));
    folder.model("anonymous.model", g, vec![])
}

#[test]
fn dimensions_without_a_name_are_given_by_their_place() {
    let folder = Folder::new();
    let model = anonymous(&folder);
    let (code, out, err) = run(&["run", &model, "--dim", "x[1]=576"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("[1, 576, 4]"), "{out}");
    assert!(err.contains("1 is taken: number 0 of input 'x' (--dim 'x[0]=N')"), "{err}");
    assert!(
        stdout(&["run", &model, "--dim", "x[1]=5", "--dim", "x[0]=2", "--dim", "x[2]=4"])
            .contains("[2, 5, 4]")
    );
    for (dim, message) in [
        ("x[2]=3", "--dim x[2]=3: it is 4 in the model"),
        ("x[3]=3", "there is no open dimension 'x[3]' (did you mean 'x[0]'?); there is 'x[0]', 'x[1]'"),
        ("n=3", "there is no open dimension 'n'; there is 'x[0]', 'x[1]'"),
    ] {
        let (code, _, err) = run(&["run", &model, "--dim", dim]);
        assert_eq!((code, err), (2, format!("nestjit: {message}\n")));
    }
    // Named ones have a place too.
    let named = symbolic(&folder);
    assert!(stdout(&["run", &named, "--dim", "x[0]=2", "--dim", "time=5"]).contains("[2, 5, 3]"));
    let (code, _, err) = run(&["run", &named, "--dim", "x[0]=2", "--dim", "batch=3"]);
    assert_eq!((code, err.as_str()), (2, "nestjit: --dim batch=3: 'batch' is 2 already\n"));
}

#[test]
fn every_command_takes_inputs() {
    let folder = Folder::new();
    let model = anonymous(&folder);
    let results = folder.path("results");
    let out =
        stdout(&["run", &model, "--dim", "x[0]=3", "--dim", "x[1]=2", "--output-dir", &results, "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    let outputs = json["outputs"].as_array().unwrap();
    let of =
        |i: usize| (outputs[i]["name"].as_str().unwrap(), outputs[i]["file"].as_str().unwrap().to_owned());
    assert_eq!(of(0), ("x", format!("{results}/x.npy")));
    assert_eq!(of(1), ("a/b", format!("{results}/a_b.npy")), "a file's name that differs is told");
    assert_eq!((&outputs[1]["shape"], &outputs[1]["type"]), (&serde_json::json!([3, 2, 4]), &"f32".into()));
    assert_eq!(json["random_inputs"], serde_json::json!(["x"]));
    let input = format!("x={results}/x.npy");
    let exported = format!("{results}/exported.onnx");
    assert!(stdout(&["ir", &model, "--input", &input]).contains("[3,2,4]"));
    assert!(stdout(&["report", &model, "--input", &input, "--json"]).contains("\"models\""));
    stdout(&["bench", &model, "--input", &input, "--iterations", "1", "--warmup", "0"]);
    stdout(&["export", &model, "--input", &input, &exported]);
    assert!(stdout(&["run", &exported]).contains("[3, 2, 4]"));
    // Outputs keep their names, whatever their files are called.
    let expected = [format!("a/b={results}/a_b.npy"), input.clone()];
    stdout(&["check", &model, "--input", &input, "--expect", &expected[0], "--expect", &expected[1]]);
    for command in
        [&["ir", "mlp10"][..], &["report", "mlp10"], &["bench", "mlp10"], &["export", "mlp10", "no.onnx"]]
    {
        let (code, _, err) = run(&[command, &["--input", "inputs=x.npy"]].concat());
        let message = "nestjit: there is no input 'inputs' (did you mean 'input'?); there is 'input'\n";
        assert_eq!((code, err.as_str()), (2, message), "{command:?}");
    }
    let two = run(&["report", "mlp10", "mlp10", "--input", &input]);
    assert_eq!((two.0, two.2.as_str()), (2, "nestjit: --input is for one model, but several are given\n"));
}

#[test]
fn newer_operator_sets_are_told() {
    let g = graph(&["x: f32 4"], &["y"], nodes("Relu: x -> y"));
    let mut m = proto(g, vec![], vec![]);
    m.opset_import.iter_mut().for_each(|set| set.version = Some(99));
    let folder = Folder::new();
    let path = folder.path("newer.onnx");
    fs::write(&path, m.encode_to_vec()).unwrap();
    let (code, _, err) = run(&["run", &path]);
    assert!(code == 0 && err.contains("the model is for operator set 99; "), "{err}");
}

#[test]
fn dimensions_and_files_that_contradict_each_other_are_errors() {
    let folder = Folder::new();
    let (model, results) = (symbolic(&folder), folder.path("results"));
    stdout(&["run", &model, "--dim", "batch=3", "--dim", "time=2", "--output-dir", &results]);
    let graph = graph(&["a: f32 p q 3"], &["y"], vec![node("Neg: a -> y")]);
    let other = folder.model("other.onnx", graph, vec![]);
    let input = format!("a={results}/y.npy");
    stdout(&["run", &other, "--input", &input, "--dim", "p=3"]);
    for command in ["run", "check", "bench", "report", "ir"] {
        let (code, _, err) = run(&[command, &other, "--input", &input, "--dim", "p=7"]);
        let expected = "nestjit: --dim p=7: the file for the input 'a' has 3\n";
        assert_eq!((code, err.as_str()), (2, expected), "{command}");
    }
}

#[test]
fn check_says_where_rounding_decides_and_holds_expectations_against_the_rest() {
    let folder = Folder::new();
    // Whether the denominator is 0, rounding decides.
    let nodes_of = "Mul: x, x -> q\nSqrt: q -> s\nSub: x, s -> d\nDiv: x, d -> y";
    let write = |name: &str, tensor: &Tensor| {
        let ndarray = tensor.to_array::<f32>().unwrap();
        ndarray_npy::write_npy(folder.path(name), &ndarray).unwrap();
        folder.path(name)
    };
    let undecided = folder.model("u.onnx", graph(&["x: f32 4"], &["y"], nodes(nodes_of)), vec![]);
    let input = format!("x={}", write("u.npy", &Tensor::new(&[4], &[0.3f32, 0.7, 1.1, 1.3]).unwrap()));
    let out = stdout(&["check", &undecided, "--input", &input]);
    assert!(out.contains("4 of 4 undecided") && out.contains("of them of undecided elements only"), "{out}");
    let wrong = write("wrong.npy", &Tensor::new(&[4], &[123456f32; 4]).unwrap());
    let expect = format!("y={wrong}");
    let (code, out, _) = run(&["check", &undecided, "--input", &input, "--expect", &expect]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("4 of 4 undecided (--tolerance or --absolute compare) FAILED"), "{out}");
    for limit in ["--tolerance", "--absolute"] {
        let (code, out, _) =
            run(&["check", &undecided, "--input", &input, "--expect", &expect, limit, "1e-3"]);
        let rows = out.lines().filter(|line| line.contains(" expected "));
        assert!(
            code == 1 && rows.clone().count() == 2 && !rows.clone().any(|row| row.contains("undecided")),
            "{out}"
        );
    }

    // An integer that is decided is not another one.
    let best =
        graph(&["x: f32 5 8"], &["best"], nodes("MatMul: x, w -> h\nSoftmax: h -> p\nArgMax: p -> best"));
    let weights: Vec<f32> = (0..48).map(|i| ((i * 37 % 11) as f32 - 5.0) / 4.0).collect();
    let best = folder.model("best.onnx", best, vec![floats("w", &[8, 6], &weights)]);
    let x: Vec<f32> = (0..40).map(|i| ((i * 29 % 13) as f32 - 6.0) / 2.0).collect();
    let input = format!("x={}", write("x.npy", &Tensor::new(&[5, 8], &x).unwrap()));
    let results = folder.path("results");
    stdout(&["run", &best, "--input", &input, "--output-dir", &results]);
    let right = format!("best={results}/best.npy");
    stdout(&["check", &best, "--input", &input, "--expect", &right]);
    let values: ndarray::ArrayD<i64> = ndarray_npy::read_npy(format!("{results}/best.npy")).unwrap();
    ndarray_npy::write_npy(folder.path("next.npy"), &values.mapv(|v| v + 1)).unwrap();
    let next = format!("best={}", folder.path("next.npy"));
    let (code, out, _) = run(&["check", &best, "--input", &input, "--expect", &next]);
    assert_eq!(code, 1, "{out}");
    assert!(out.lines().last().unwrap().starts_with("FAILED: 2 of "), "{out}");
}

#[test]
fn an_operator_that_becomes_several_operations_counts_once() {
    let folder = Folder::new();
    let quantised = "Relu: x -> r\nQuantizeLinear: r, s, z -> q\nDequantizeLinear: q, s, z -> d\nNeg: d -> y";
    let z =
        TensorProto { data_type: Some(2), int32_data: vec![3], float_data: vec![], ..floats("z", &[], &[]) };
    let model = folder.model(
        "q.onnx",
        graph(&["x: f32 32 32"], &["y"], nodes(quantised)),
        vec![floats("s", &[], &[0.5]), z],
    );
    let json: Value = serde_json::from_str(&stdout(&["report", &model, "--json"])).unwrap();
    let report = &json["models"][0];
    assert_eq!(report["ops"], 4, "{report}");
    // What each of the four reads and writes on its own: bytes between the two in the middle.
    assert_eq!(report["traffic_unfused_bytes"], 1024 * (8 + 5 + 5 + 8), "{report}");
    assert_eq!(report["traffic_fused_bytes"], 1024 * 8, "{report}");
}

#[test]
fn info_tells_what_a_model_is() {
    let folder = Folder::new();
    let model = symbolic(&folder);
    let out = stdout(&["info", &model]);
    for line in [
        "operator sets: ai.onnx 18 (28 is the newest that is known), local 1",
        "weights: 12 numbers, 48 B",
        "  x: f32[batch,time,4]",
        "open dimensions, 1 unless files or options say more: --dim 'batch=N' --dim 'time=N'",
        "2 nodes",
        "all operators are supported",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    // Everything that is missing at once, in subgraphs too.
    let body = graph(&["i: i64", "c: bool"], &["co", "so"], nodes("Identity: c -> co\nNonsense: i -> so"));
    let mut list = nodes("Frobnicate: x -> a\nFrobnicate: a -> b\nRelu: b -> y");
    list.push(node("Loop: m, _ -> s").graph("body", body));
    let strange = folder.model("strange.onnx", graph(&["x: f32 n", "m: i64"], &["y", "s"], list), vec![]);
    let json: Value = serde_json::from_str(&stdout(&["info", &strange, "--json"])).unwrap();
    let missing = |name: &str| {
        let operators = json["operators"].as_array().unwrap();
        let used = operators.iter().find(|used| used["name"] == name).unwrap();
        (used["count"].as_u64().unwrap(), used["missing"].as_str().unwrap_or("").to_owned())
    };
    let unknown = "the operator is not supported".to_owned();
    assert_eq!(missing("Frobnicate"), (2, unknown.clone()));
    assert_eq!(missing("Nonsense"), (1, unknown));
    assert_eq!(missing("Relu"), (1, String::new()));
    assert_eq!((json["nodes"].as_u64(), &json["open_dimensions"][0]), (Some(6), &Value::from("n")));
    let out = stdout(&["info", &strange]);
    assert!(out.contains("2 operators of 3 nodes are not supported"), "{out}");
    let built_in = stdout(&["info", "mlp10"]);
    assert!(built_in.contains("MatMul") && built_in.contains("inputs\n"), "{built_in}");
}
