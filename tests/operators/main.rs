//! Every ONNX operator with every element type: what can be imported compiles and computes what the evaluator
//! computes in a sample of the configurations, and `docs/OPERATORS.md` says what that is. `NESTJIT_BLESS=1` rewrites it.

#[path = "../common/compare.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod compare;
#[path = "../common/configurations.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod configurations;
mod defaults;
mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use configurations::Configuration;
use example::Example;
use nestjit::DType;
use nestjit::graph::{Precision, evaluate};
use nestjit::onnx::{MAX_OPSET, OnnxModel, OpEntry, Specialization, operators};

const HEADER: &str = "\
# ONNX operators

The operators that nestjit imports, in which versions of their operator set, and for which element types. This file is
generated from the table of operators and from the examples in `tests/operators/examples.txt`: every operator is
imported, compiled and run with every type. `NESTJIT_BLESS=1 cargo test --test operators` rewrites it.

The types are those of the operands (counted from 0) or attributes named in the third column; others have the type that
the operator prescribes. An operator that has several lines takes several such types. Operators from functions that a
model contains are imported as what they consist of. Operators on sequences and optional values are run by the host, for
every type, between the programs of a `Session`.

";

fn examples() -> Vec<Example> {
    parse(include_str!("examples.txt"))
}

/// The examples in a text, one a line.
fn parse(text: &str) -> Vec<Example> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(n, line)| Example::parse(line).unwrap_or_else(|e| panic!("line {}: {e}", n + 1))).collect()
}

/// Whether the type is accepted; an error if it is, but the model does not compile or computes something else.
fn accepts(example: &Example, entry: &OpEntry, dtype: DType) -> Result<bool, String> {
    let version = example.version.unwrap_or(entry.until.unwrap_or(MAX_OPSET));
    let (model, inputs) = example.model(entry.domain, version, dtype);
    let Ok(graph) = OnnxModel::from_proto(model).and_then(|m| m.graph(&Specialization::default())) else {
        return Ok(false);
    };
    let expected = evaluate(&graph, &inputs, Precision::F32).map_err(|e| format!("evaluator: {e}"))?;
    let (name, usual) = (format!("{} {version} {dtype}", example.operator), Configuration::usual());
    let unfused = Configuration { fused: false, ..usual };
    let threads = configurations::two_numbers_of_threads(&name);
    let model = graph.into();
    for configuration in [usual, unfused].into_iter().chain(configurations::some(&name, 1)) {
        let (actual, _) = configurations::run(configuration, &threads, &model, &inputs)?;
        for (actual, expected) in actual.iter().zip(&expected) {
            if let Some(difference) = compare::difference(actual, expected, expected.dtype(), 1e-4) {
                return Err(format!("{configuration:?}: {difference}"));
            }
        }
    }
    Ok(true)
}

/// The names of the accepted types, or why there is none.
fn types(example: &Example, entry: &OpEntry, failures: &mut Vec<String>) -> String {
    let mut names = Vec::new();
    let tried = if example.tried().is_empty() { &DType::ALL[..1] } else { &DType::ALL };
    for dtype in tried {
        match accepts(example, entry, *dtype) {
            Ok(true) => names.push(dtype.name()),
            Ok(false) => {}
            Err(e) => failures.push(format!("{} {dtype}: {e}", example.operator)),
        }
    }
    if names.is_empty() {
        failures.push(format!("{}: the example is imported with no type", example.operator));
    }
    names.join(", ")
}

#[test]
fn the_table_is_what_the_code_does() {
    let examples = examples();
    let mut of: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
    for example in &examples {
        of.entry(&example.operator).or_default().push(example);
    }
    let mut entries: Vec<&OpEntry> = operators().collect();
    entries.sort_by_key(|entry| (entry.domain, entry.name));
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut failures: Vec<String> =
        of.keys().filter(|name| !names.contains(**name)).map(|name| format!("no operator {name}")).collect();
    let mut text = HEADER.to_owned();
    text += "| operator | versions | operands | types |\n|---|---|---|---|\n";
    for entry in entries {
        let until = entry.until.map_or_else(|| format!("{MAX_OPSET}"), |version| version.to_string());
        if entry.session {
            let _ = writeln!(
                text,
                "| {} | {} to {until} |  | sequences, in a session |",
                entry.name, entry.since
            );
            continue;
        }
        let Some(examples) = of.get(entry.name) else {
            failures.push(format!("{} has no line in tests/operators/examples.txt", entry.name));
            continue;
        };
        let prefix = if entry.domain.is_empty() { String::new() } else { format!("{}.", entry.domain) };
        let mut lines: Vec<(String, String)> = Vec::new();
        for example in examples {
            let types = types(example, entry, &mut failures);
            let line = (example.tried().join(", "), types);
            if example.version.is_none() && !lines.contains(&line) {
                lines.push(line);
            }
        }
        for (i, (operands, types)) in lines.iter().enumerate() {
            let (name, versions) = match i {
                0 => (format!("{prefix}{}", entry.name), format!("{} to {until}", entry.since)),
                _ => Default::default(),
            };
            let types = if operands.is_empty() { "" } else { types };
            let _ = writeln!(text, "| {name} | {versions} | {operands} | {types} |");
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATORS.md");
    if std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/OPERATORS.md is not up to date: NESTJIT_BLESS=1 rewrites it");
}
