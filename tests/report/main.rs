//! `nestjit report`: its figures, its formats, and what it does with names that are made to break them.

mod page;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use nestjit::graph::builder::Conv2d;
use nestjit::graph::{Format, Graph, Weights};
use nestjit::passes::PIPELINE;
use nestjit::report::refusal::CODES;
use nestjit::{DType, GraphBuilder, Model};
use serde_json::Value;

/// A machine that is the same for every test, however busy the real one is.
const MACHINE: &str = "gflops=100,gbps=20";

fn command(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nestjit"));
    command.arg("report").args(args);
    for variable in nestjit::options::ENVIRONMENT {
        command.env_remove(variable.name);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// Standard output of a report that succeeds.
fn stdout(args: &[&str]) -> String {
    let output = command(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The models of a report as JSON.
fn models(args: &[&str]) -> Vec<Value> {
    let output: Value = serde_json::from_str(&stdout(&[args, &["--json"]].concat())).expect("one JSON value");
    let object = output.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["models"]);
    object["models"].as_array().unwrap().clone()
}

#[track_caller]
fn assert_fails(args: &[&str], code: i32, message: &str) {
    let output = command(args);
    assert_eq!(text(&output.stdout), "", "{args:?}");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(code), format!("nestjit: {message}\n")));
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no integer: {value}"))
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Writes a model as an ONNX file.
fn save(graph: Graph, path: &Path) -> String {
    Model::from(graph).write_onnx(path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Convolution, BatchNorm and activation, and a dense layer behind a flattening; the names are made of `suffix`.
fn classifier(suffix: &str) -> Graph {
    let mut g = GraphBuilder::new(format!("model{suffix}"));
    let mut w = Weights::new(7);
    let mut weight = |g: &mut GraphBuilder, name: &str, shape: &[usize]| {
        let tensor = w.uniform(shape, 0.1, 0.5).unwrap();
        g.constant(&format!("{name}{suffix}"), tensor)
    };
    let x = g.input(&format!("input{suffix}"), DType::F32, &[1, 4, 8, 8]);
    let kernel = weight(&mut g, "kernel", &[8, 4, 3, 3]);
    let conv = g.named(&format!("conv{suffix}")).conv2d(x, kernel, None, Conv2d::default());
    let parameters = ["s", "b", "m", "v"].map(|n| weight(&mut g, n, &[8]));
    let norm = g.named(&format!("norm{suffix}"));
    let norm = norm.batch_norm(conv, parameters, 1e-5, Format::ChannelsFirst);
    let act = g.named(&format!("act{suffix}")).relu(norm);
    let flat = g.named(&format!("flat{suffix}")).flatten(act, 1);
    let dense = weight(&mut g, "dense", &[288, 10]);
    let y = g.named(&format!("dense{suffix}")).matmul(flat, dense);
    g.output(&format!("output{suffix}"), y);
    g.build().unwrap()
}

#[test]
fn json_has_exactly_the_documented_fields() {
    let reports = models(&["mlp10", "--rates", MACHINE]);
    let report = &reports[0];
    let fields = [
        "model",
        "ops",
        "nests",
        "coverage_nests",
        "coverage_ops",
        "efficiency",
        "traffic_unfused_bytes",
        "traffic_fused_bytes",
        "weight_bytes",
        "traffic_reduction",
        "patterns",
        "groups",
        "refusals",
        "machine",
    ];
    assert_eq!(keys(report), BTreeSet::from(fields));
    assert_eq!(keys(&report["refusals"][0]), BTreeSet::from(["producer", "consumer", "code", "bytes"]));
    let pattern = ["pattern", "count", "average_ops", "intensity", "bytes_saved"];
    assert_eq!(keys(&report["patterns"][0]), BTreeSet::from(pattern));
    let group = [
        "nest",
        "pattern",
        "remapper",
        "ops",
        "calls",
        "macs",
        "flops",
        "read_bytes",
        "written_bytes",
        "weight_bytes",
        "bytes_saved",
        "intensity",
        "class",
    ];
    assert_eq!(keys(&report["groups"][0]), BTreeSet::from(group));
    let documented = include_str!("../../docs/REPORT.md");
    let machine = ["threads", "peak_gflops", "read_gbytes", "figures"];
    assert_eq!(keys(&report["machine"]), BTreeSet::from(machine));
    for field in fields.iter().chain(&pattern).chain(&group).chain(&machine) {
        assert!(documented.contains(&format!("`{field}`")), "docs/REPORT.md does not mention `{field}`");
    }
}

#[test]
fn the_figures_agree_with_each_other() {
    for model in ["mlp10", "lstm_cell", "conv_bn_side_relu"] {
        let report = &models(&[model])[0];
        let (groups, ops) = (report["groups"].as_array().unwrap(), int(&report["ops"]));
        assert_eq!(groups.len() as i64, int(&report["nests"]), "{model}");
        assert!((float(&report["efficiency"]) - ops as f64 / groups.len() as f64).abs() < 1e-9, "{model}");
        let fused = groups.iter().filter(|g| g["ops"].as_array().unwrap().len() > 1).count();
        assert!((float(&report["coverage_nests"]) - fused as f64 / groups.len() as f64).abs() < 1e-9);
        let names: BTreeSet<&str> = groups
            .iter()
            .flat_map(|g| g["ops"].as_array().unwrap())
            .map(|o| o["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len() as i64, ops, "{model}: every operation is in a group");
        let sum = |field: &str| groups.iter().map(|g| int(&g[field])).sum::<i64>();
        let (fused, unfused) = (int(&report["traffic_fused_bytes"]), int(&report["traffic_unfused_bytes"]));
        assert_eq!(sum("read_bytes") + sum("written_bytes"), fused, "{model}");
        assert_eq!(fused + sum("bytes_saved"), unfused, "{model}");
        assert_eq!(sum("weight_bytes"), int(&report["weight_bytes"]), "{model}");
        let reduction = 1.0 - fused as f64 / unfused as f64;
        assert!((float(&report["traffic_reduction"]) - reduction).abs() < 1e-9 && reduction > 0.0, "{model}");
        let patterns = report["patterns"].as_array().unwrap();
        assert_eq!(patterns.iter().map(|p| int(&p["count"])).sum::<i64>(), groups.len() as i64);
        for refusal in report["refusals"].as_array().unwrap() {
            let code = refusal["code"].as_str().unwrap();
            assert!(CODES.iter().any(|c| c.0 == code) && int(&refusal["bytes"]) > 0, "{model}: {refusal}");
        }
    }
}

#[test]
fn traffic_is_what_one_counts_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let file = save(classifier(""), &dir.path().join("m.onnx"));
    let report = &models(&[&file])[0];
    // BatchNorm is folded into the convolution, and still an operation of the model.
    let first = &report["groups"][0];
    assert_eq!(first["pattern"], "Conv_BatchNorm_Relu_+2more", "{first}");
    let remapper = "Fuse Conv2D with BatchNorm, Relu, Reshape and 1 more: batch_norm=norm activation=act reshape=flat conv2d=conv";
    assert_eq!(first["remapper"], remapper);
    assert_eq!((int(&report["ops"]), int(&report["nests"])), (5, 1));
    // Floats: the input has 256, a feature map 288. The flattening is no copy.
    assert_eq!(int(&report["traffic_unfused_bytes"]), 4 * (256 + 288 + 2 * (288 + 288) + 288 + 10));
    assert_eq!(int(&report["traffic_fused_bytes"]), 4 * (256 + 10));
    assert_eq!(float(&first["macs"]), f64::from(288 * 4 * 9 + 288 * 10));
    assert_eq!(int(&first["read_bytes"]), 4 * 256);
    assert_eq!(report["refusals"].as_array().unwrap().len(), 0);
    // Unfused, the feature map passes through memory between every two operations that are nests.
    let unfused = &models(&[&file, "--disable-pass", "OpFusion"])[0];
    let first = &unfused["groups"][0];
    assert_eq!((int(&first["read_bytes"]), int(&first["written_bytes"])), (4 * 256, 4 * 288));
}

#[test]
fn text_has_every_section() {
    let out = stdout(&["mlp10", "--rates", MACHINE]);
    for part in [
        "model mlp10   isa ",
        "\n operations   ",
        "\n coverage     ",
        "\n single ops   ",
        "\n traffic      ",
        "\n intensity    ",
        "_BOUND",
        "\nFusion patterns\n",
        "MatMul_BiasAdd_Relu",
        "\nGraph\n",
        "┌─ MatMul_BiasAdd_Relu ─",
        "\nNot fused\n",
        "\nReasons\n",
    ] {
        assert!(out.contains(part), "no {part:?} in\n{out}");
    }
    // The boxes are straight.
    let edges = out.lines().filter(|l| l.ends_with(['┐', '│', '┘'])).map(|l| l.chars().count());
    assert_eq!(edges.collect::<BTreeSet<_>>().len(), 1, "{out}");
    let short = stdout(&["mlp10", "--max-nodes", "2"]);
    assert!(short.contains(" more\n") && short.len() < out.len(), "{short}");
    let short = &models(&["mlp10", "--max-nodes", "2"])[0];
    assert_eq!(short["groups"].as_array().unwrap().len(), 2);
}

/// The whole text for a small model, but for the vector tier.
#[test]
fn text_is_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let file = save(classifier(""), &dir.path().join("m.onnx"));
    let out = stdout(&[&file, "--threads", "1", "--compare", "--rates", MACHINE]);
    let mut text = String::new();
    // What is predicted is this machine's: from its heading to the next empty line.
    let mut predicted = false;
    for line in out.lines() {
        predicted = !line.is_empty() && (predicted || line.starts_with(" scaling "));
        if predicted {
            continue;
        }
        text += line.find("   isa ").map_or(line, |at| &line[..at]);
        text.push('\n');
    }
    if std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1") {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/classifier.txt");
        std::fs::write(golden, text).unwrap();
        return;
    }
    assert_eq!(text, include_str!("classifier.txt"), "NESTJIT_BLESS=1 rewrites tests/report/classifier.txt");
}

#[test]
fn without_fusion_nothing_is_fused() {
    let report = &models(&["mlp10", "--disable-pass", "OpFusion"])[0];
    assert_eq!((float(&report["coverage_nests"]), float(&report["coverage_ops"])), (0.0, 0.0));
    let refusals = report["refusals"].as_array().unwrap();
    assert!(refusals.len() > 20 && refusals.iter().all(|r| r["code"] == "fusion-off"), "{refusals:?}");
}

#[test]
fn several_models_are_one_row_each() {
    let out = stdout(&["mlp10", "rnn_cell", "lstm_cell"]);
    let first: Vec<&str> = out.lines().filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(first, ["model", "mlp10", "rnn_cell", "lstm_cell"], "{out}");
    let names: Vec<Value> = models(&["mlp10", "rnn_cell"]).into_iter().map(|m| m["model"].clone()).collect();
    assert_eq!(names, ["mlp10", "rnn_cell"]);
}

#[test]
fn compare_shows_how_much_more_is_fused() {
    let out = stdout(&["mlp10", "--compare"]);
    for part in ["\nHow much is fused\n", " unfused ", " epilogue-only ", " full "] {
        assert!(out.contains(part), "no {part:?} in\n{out}");
    }
    let report = &models(&["mlp10", "--compare"])[0];
    let variants = report["compare"].as_array().unwrap();
    let names: Vec<&str> = variants.iter().map(|v| v["fusion"].as_str().unwrap()).collect();
    assert_eq!(names, ["unfused", "epilogue-only", "full"]);
    let of = |field: &str| variants.iter().map(|v| float(&v[field])).collect::<Vec<f64>>();
    assert!(of("nests").is_sorted_by(|a, b| a > b), "{report}");
    assert!(of("traffic_bytes").is_sorted_by(|a, b| a > b), "{report}");
    assert_eq!(of("nests")[2], float(&report["nests"]));
    assert_eq!(of("coverage_nests")[0], 0.0);
}

#[test]
fn measure_adds_times_and_trace_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.json");
    let args = ["mlp10", "--measure", "--runs", "3", "--threads", "2", "--trace", file.to_str().unwrap()];
    let report = &models(&args)[0];
    let groups = report["groups"].as_array().unwrap();
    let sum: f64 = groups.iter().map(|g| float(&g["ms"])).sum();
    assert!((sum - float(&report["measured"]["nests_ms"])).abs() < 1e-6 && sum > 0.0);
    assert_eq!(report["measured"]["runs"], 3);
    let shares: f64 = groups.iter().map(|g| float(&g["time_share"])).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    assert!(groups.iter().all(|g| float(&g["roofline_share"]) > 0.0));

    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |category: &str| events.iter().filter(|e| e["cat"] == category).collect::<Vec<_>>();
    assert_eq!(of("nest").len(), 3 * groups.len());
    assert!(of("part").len() >= of("nest").len());
    assert!(of("nest").iter().all(|e| e["ph"] == "X" && e["tid"] == 0 && float(&e["dur"]) > 0.0));
    assert!(events.iter().any(|e| e["name"] == "thread_name"));
    // On a machine that could do much more, and on one that could not do what was done.
    let shares = |machine| stdout(&["mlp10", "--measure", "--runs", "1", "--rates", machine]);
    assert!(shares("gflops=1e9,gbps=1e9").contains(" % of roofline"));
    let beyond = shares("gflops=1e-6,gbps=1e9");
    assert!(
        beyond.contains("faster than the machine's figures") && !beyond.contains(" of roofline"),
        "{beyond}"
    );
    let cached = shares("gflops=1e9,gbps=1e-6");
    assert!(cached.contains("in cache, 0 % of peak") && !cached.contains(" of roofline"), "{cached}");
    let args = ["mlp10", "--measure", "--runs", "1", "--rates", "gflops=1e9,gbps=1e-6"];
    let groups = models(&args)[0]["groups"].clone();
    assert!(groups.as_array().unwrap().iter().all(|g| g["roofline_note"] == "in-cache"), "{groups}");
}

#[test]
fn reports_for_a_given_machine_are_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.json");
    for args in [&["lstm_cell"][..], &["lstm_cell", "--json"]] {
        let report = || stdout(&[args, &["--rates", MACHINE]].concat());
        let first = report();
        assert_eq!(first, report());
        // What a report printed is a file for the next one, as is a file of the two figures.
        if args.len() > 1 {
            let path = file.to_str().unwrap();
            std::fs::write(&file, &first).unwrap();
            assert_eq!(stdout(&[args, &["--rates", path]].concat()), first);
            std::fs::write(&file, r#"{"peak_gflops": 100, "read_gbytes": 20.0}"#).unwrap();
            assert_eq!(stdout(&[args, &["--rates", path]].concat()), first);
            std::fs::write(&file, r#"{"peak_gflops": 100}"#).unwrap();
            let message = format!("'{path}': no positive number 'read_gbytes'");
            assert_fails(&["lstm_cell", "--rates", path], 2, &message);
        }
    }
}

#[test]
fn a_gather_reads_what_indices_pick() {
    let dir = tempfile::tempdir().unwrap();
    let mut g = GraphBuilder::new("embedding");
    let table = g.constant("table", Weights::new(3).uniform(&[30_000, 384], -1.0, 1.0).unwrap());
    let ids = g.input("ids", DType::I64, &[1, 32]);
    let rows = g.gather(table, ids, 0);
    g.output("rows", rows);
    let file = save(g.build().unwrap(), &dir.path().join("m.onnx"));
    let report = &models(&[&file, "--rates", MACHINE])[0];
    assert_eq!(int(&report["weight_bytes"]), 32 * 384 * 4, "{report}");
    assert_eq!(int(&report["traffic_fused_bytes"]), 32 * 8 + 32 * 384 * 4);
}

#[test]
fn what_was_planned_for_is_named_if_it_was_asked_for() {
    let text = stdout(&["rnn_cell", "--threads", "64", "--rates", MACHINE]);
    let first = text.lines().next().unwrap();
    assert!(first.contains("   planned for ") && first.ends_with(" cores, 64 threads"), "{first}");
    let planned = &models(&["rnn_cell", "--threads", "1", "--rates", MACHINE])[0]["planned_for"];
    assert_eq!(
        (keys(planned), int(&planned["threads"])),
        (BTreeSet::from(["machine", "cores", "threads"]), 1)
    );
    assert!(models(&["rnn_cell", "--rates", MACHINE])[0].get("planned_for").is_none());
    // The other kind of file about a machine.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zen5.json");
    let described = Command::new(env!("CARGO_BIN_EXE_nestjit")).args(["machine", "zen5", "--json"]).output();
    std::fs::write(&file, described.unwrap().stdout).unwrap();
    let path = file.to_str().unwrap();
    let message = format!(
        "'{path}': this describes a machine to plan for, as NESTJIT_MACHINE names it, and has no measured rates"
    );
    assert_fails(&["rnn_cell", "--rates", path], 2, &message);
}

#[test]
fn wrong_usage_is_explained() {
    for option in ["--trace", "--html", "--dot"] {
        let message = format!("{option} writes the report of one model, but several are given");
        assert_fails(&["mlp10", "rnn_cell", option, "file"], 2, &message);
    }
    let off = "OpFusion is switched off, so there is nothing to compare: drop `--compare`";
    assert_fails(&["mlp10", "--compare", "--disable-pass", "OpFusion"], 2, off);
    let output = command(&["mlp10", "--trace", "/nonexistent/t.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("nestjit: cannot write '/nonexistent/t.json'"), "{output:?}");
    assert_eq!(command(&[]).status.code(), Some(2));
}

/// Names that would end a script, run one, leave a label, or move the cursor of a terminal.
const HOSTILE: [&str; 5] = [
    "\"'`\\",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\n\r\u{1b}[31m\u{2028}",
    "&amp;]]>--><!--",
];

#[test]
fn hostile_names_are_harmless_in_text_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let names = HOSTILE.iter().map(|n| (*n).to_owned()).chain(["x".repeat(20_000)]);
    for (i, name) in names.enumerate() {
        let file = save(classifier(&name), &dir.path().join(format!("{i}.onnx")));
        let out = stdout(&[&file]);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!out.contains(control), "{name:?}");
        let report = &models(&[&file])[0];
        assert_eq!(report["groups"][0]["ops"][0]["name"], format!("conv{name}"));
    }
}

#[test]
fn reason_codes_are_documented() {
    let documented = include_str!("../../docs/REPORT.md");
    for (code, meaning) in CODES {
        assert!(documented.contains(&format!("| `{code}` | {meaning} |")), "docs/REPORT.md lacks {code}");
    }
    let codes: Vec<&str> = CODES.iter().map(|c| c.0).collect();
    assert!(codes.is_sorted_by(|a, b| a < b), "the codes are sorted");
    // Every code that OpFusion gives is in the list.
    let source = include_str!("../../src/remark/fusion.rs");
    let given = source.split_once("impl Apart {").unwrap().1.split_once("pub fn breaks_tile").unwrap().0;
    let given: Vec<&str> = given.split('"').skip(1).step_by(2).collect();
    assert!(given.len() > 15, "{given:?}");
    for code in given {
        assert!(codes.contains(&code), "the code {code:?} is not in CODES");
    }
    // And what speaks is a pass.
    let source = include_str!("../../src/remark.rs");
    let passes = source.split_once("pub fn pass(&self) -> &'static str {\n        match").unwrap().1;
    let passes: Vec<&str> = passes.split_once("pub fn").unwrap().0.split('"').skip(1).step_by(2).collect();
    assert!(passes.len() > 10, "{passes:?}");
    for name in passes {
        assert!(PIPELINE.iter().any(|pass| pass.name == name), "{name} is no pass");
    }
}
