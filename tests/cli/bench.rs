//! `nestjit bench`: what its JSON and its text have.

use std::fs;

use nestjit::{DType, GraphBuilder, Model, Tensor};
use serde_json::Value;

use super::{SMALL, assert_fails, json, numbers, stdout};

#[test]
fn bench_prints_one_json_object() {
    let bench = json(&["bench", SMALL, "--iterations", "7", "--warmup", "2", "--threads", "1", "--json"]);
    assert_eq!((&bench["model"], &bench["threads"]), (&SMALL.into(), &1.into()));
    assert!(["simd128", "avx2", "avx512"].iter().any(|isa| bench["isa"] == *isa), "{bench}");
    let runs = bench["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|r| r["fusion"].as_bool().unwrap()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(runs[0]["disabled_passes"], serde_json::json!([]));
    assert_eq!(runs[1]["disabled_passes"], serde_json::json!(["OpFusion"]));
    for run in runs {
        assert_eq!(run["programs"], 1, "{run}");
        let cold = numbers(&run["cold_ms"], &["load", "passes", "codegen", "pack", "first_run", "total"]);
        let sum: f64 = cold[..5].iter().sum();
        assert!(cold.iter().all(|ms| *ms >= 0.0), "{run}");
        // Consecutive laps: only the rounding of the numbers is left.
        assert!((cold[5] - sum).abs() <= 1e-9 * cold[5], "{sum} of {run}");
        let passes = run["passes_ms"].as_array().unwrap();
        let each: f64 = passes.iter().map(|p| p["ms"].as_f64().unwrap()).sum();
        assert!((cold[1] - each).abs() <= 1e-9 * cold[1].max(1.0), "{each} of {run}");
        assert!(passes.iter().any(|p| p["pass"] == "Tile"), "{run}");
        let warm = numbers(&run["warm_ms"], &["min", "median", "p90", "p99", "max"]);
        assert!(warm.is_sorted() && warm[0] > 0.0, "{run}");
        let [mean, std] = numbers(&run["warm_ms"], &["mean", "std"])[..] else { unreachable!() };
        assert!(warm[0] <= mean && mean <= warm[4] && std >= 0.0, "{run}");
        assert_eq!(run["warm_ms"]["n"], 7);
        let samples: Vec<f64> =
            run["samples_ms"].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect();
        assert_eq!((samples.len(), samples.iter().copied().reduce(f64::min)), (7, Some(warm[0])), "{run}");
        assert_eq!(run["streams"], Value::Null);
    }
    let [fused, unfused] = [&runs[0], &runs[1]].map(|r| r["kernels"].as_u64().unwrap());
    assert!(fused < unfused, "{fused} and {unfused} kernels");
    let [fused, unfused] = [&runs[0], &runs[1]].map(|r| r["temp_bytes"].as_u64().unwrap());
    assert!(fused <= unfused, "{fused} and {unfused} bytes");
}

#[test]
fn bench_and_report_count_multiply_accumulates_of_integers() {
    let mut g = GraphBuilder::new("integers");
    let x = g.input("x", DType::I32, &[4, 8]);
    let w = g.constant("w", Tensor::random(DType::I32, &[8, 16], 1).unwrap());
    let y = g.matmul(x, w);
    g.output("y", y);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("integers.onnx");
    fs::write(&file, Model::from(g.build().unwrap()).to_onnx().unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let few = ["--iterations", "1", "--warmup", "0"];
    let object = json(&[&["bench", file, "--json"], &few[..]].concat());
    assert_eq!(numbers(&object, &["flops", "macs", "integer_macs"]), [0.0, 512.0, 512.0]);
    let text = stdout(&[&["bench", file], &few[..]].concat());
    assert!(text.contains("   0.00 MFLOP and 512 MAC of integers per run\n"), "{text}");
    assert!(text.contains("\nof integers, which are no floating-point operations: fused "), "{text}");
    assert!(stdout(&["report", file]).contains(" 512 MAC  0 FLOP "));
    // Of floats, nothing is said apart.
    let object = json(&[&["bench", SMALL, "--json"], &few[..]].concat());
    let [flops, macs, integer] = numbers(&object, &["flops", "macs", "integer_macs"])[..] else {
        unreachable!()
    };
    assert!(macs > 0.0 && flops >= 2.0 * macs && integer == 0.0, "{object}");
}

#[test]
fn bench_measures_one_side_if_asked() {
    for (which, fusion) in [("on", true), ("off", false)] {
        let bench =
            json(&["bench", SMALL, "--iterations", "1", "--warmup", "0", "--fusion", which, "--json"]);
        let runs = bench["runs"].as_array().unwrap();
        assert_eq!((runs.len(), &runs[0]["fusion"]), (1, &Value::Bool(fusion)));
        assert_eq!((&bench["speedup"], &bench["payback_runs"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn bench_as_text_has_cold_and_warm_apart() {
    let out = stdout(&["bench", SMALL, "--iterations", "5", "--warmup", "3", "--disable-pass", "Tile"]);
    for part in [
        "model rnn_cell   threads ",
        "\nfusion on (without Tile): ",
        "\nfusion off (without Tile, OpFusion): ",
        "  iteration 1 (cold) ",
        " = load ",
        " + first run ",
        "  iteration 2  ",
        "  iterations 5..9  ",
        "\nExecution time summary of warm runs (ms):\n",
        "\nfused against unfused: ",
        "\nfusion ",
    ] {
        assert!(out.contains(part), "no {part:?} in\n{out}");
    }
    let header = out.lines().find(|l| l.contains("median  ")).unwrap();
    let columns: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(columns[..5], ["mean", "median", "max", "min", "std"], "{header}");
}

#[test]
fn bench_measures_several_models_one_after_the_other() {
    let few = ["--iterations", "2", "--warmup", "0", "--threads", "1"];
    let lines = stdout(&[&["bench", SMALL, "lstm_cell", "--json"], &few[..]].concat());
    let models: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(models.iter().map(|object| &object["model"]).collect::<Vec<_>>(), [SMALL, "lstm_cell"]);
    for object in &models {
        assert_eq!(object["version"], env!("CARGO_PKG_VERSION"));
        assert!(object["cpu"].as_str().is_some_and(|cpu| !cpu.is_empty()), "{object}");
    }
    let text = stdout(&[&["bench", SMALL, "lstm_cell"], &few[..]].concat());
    assert!(text.starts_with("model rnn_cell ") && text.contains("\n\nmodel lstm_cell "), "{text}");
    assert_fails(&["bench", SMALL, "lstm_cell", "--input", "x=x.npy"], 2, "--input is for one model");
}

#[test]
fn bench_measures_for_a_time_and_with_several_callers() {
    let bench = json(&["bench", SMALL, "--seconds", "0.05", "--streams", "3", "--threads", "1", "--json"]);
    for run in bench["runs"].as_array().unwrap() {
        let n = run["warm_ms"]["n"].as_u64().unwrap();
        let streams = &run["streams"];
        assert!(n >= 1 && streams["callers"] == 3 && streams["run_ms"]["n"] == 3 * n, "{run}");
        assert!(streams["runs_per_second"].as_f64().unwrap() > 0.0, "{run}");
    }
    let message = "invalid value '0' for '--seconds <S>': must be a number of seconds, more than 0 and at most 86400; see \
                   `nestjit bench --help`";
    assert_fails(&["bench", SMALL, "--seconds", "0"], 2, message);
}

#[test]
fn bench_draws_a_page_with_others_beside() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (page, peers) = (at("page.html"), at("peers.json"));
    let found = serde_json::json!({ "results": [{
        "model": SMALL, "threads": 1, "runtimes": {
            "nestjit": { "median_ms": 1.0, "cold_ms": 2.0 },
            "another": { "median_ms": 3.5, "cold_ms": 40.0 },
            "failed": { "error": "it does not read the model" },
        },
    }] });
    fs::write(&peers, found.to_string()).unwrap();
    let few = ["--iterations", "3", "--warmup", "0", "--threads", "1", "--html", &page];
    stdout(&[&["bench", SMALL, "--peers", &peers], &few[..]].concat());
    let drawn = fs::read_to_string(&page).unwrap();
    assert_eq!(drawn.matches("<circle").count(), 6, "{drawn}");
    for part in ["rnn_cell", "unfused", "first run", "another", "3.500 (cold 40.00)"] {
        assert!(drawn.contains(part), "no {part} in {drawn}");
    }
    assert!(!drawn.contains("failed"), "{drawn}");
    let message = "--peers: the file has nothing of the model 'lstm_cell' with 1 threads";
    assert_fails(&[&["bench", "lstm_cell", "--peers", &peers], &few[..]].concat(), 2, message);
    assert_fails(&["bench", SMALL, "lstm_cell", "--html", &page], 2, "--html is for one model");
}
