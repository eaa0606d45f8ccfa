//! Every ONNX operator with every element type: what can be imported compiles and computes what the evaluator
//! computes in a sample of the configurations, and `docs/OPERATORS.md` says what that is. `NESTJIT_BLESS=1` rewrites it.

mod code;
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

use code::Code;
use configurations::Configuration;
use example::{Example, Size};
use nestjit::DType;
use nestjit::graph::{Precision, evaluate};
use nestjit::onnx::{OnnxModel, OpEntry, Specialization, operators};

const HEADER: &str = "\
# ONNX operators

The operators that nestjit imports, in which versions of their operator set, and for which element types. This file is
generated from the table of operators and from the examples in `tests/operators/examples.txt`: every operator is
imported, compiled and run with every type. `NESTJIT_BLESS=1 cargo test --test operators` rewrites it.

The types are those of the operands (counted from 0) or attributes named in the third column; others have the type that
the operator prescribes. An operator that has several lines takes several such types. Operators from functions that a
model contains are imported as what they consist of. Operators on sequences and optional values are run by the host, for
every type, between the programs of a `Session`.

An empty cell is a type that the operator does not take here. In the others is what a larger form of the example became, alone
in its model, on one thread, for 128-bit vectors (the tier `simd128`, for which every machine can generate code; for wider
vectors loops of these lengths, and computed indices, may be judged otherwise: with AVX-512, a few image operators are):

- `v`: vector code. At most 5 % of the innermost statements of its loop nests run outside of vector loops. Elementary functions
  on `f64` are called for each lane of them.
- a number: scalar code, for the reason of this number below the table. Where forms of an operator differ, that of the worst.
- `c`: a function of the runtime, not a loop nest.
- `-`: not judged. Fewer than 256 innermost statements run, or the result was computed when the model was compiled, since it
  depends on constants and shapes only.

";

fn examples() -> Vec<Example> {
    parse(include_str!("examples.txt"), Size::Small)
}

/// The examples in a text, one a line, in a size.
fn parse(text: &str, size: Size) -> Vec<Example> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(n, line)| Example::parse(line, size).unwrap_or_else(|e| panic!("line {}: {e}", n + 1)))
        .collect()
}

/// The name of an operator with its domain.
fn full_name(entry: &OpEntry) -> String {
    match entry.domain {
        "" => entry.name.to_owned(),
        domain => format!("{domain}.{}", entry.name),
    }
}

/// The version in which an example is tried.
fn version(example: &Example, entry: &OpEntry) -> i64 {
    example.version.unwrap_or(entry.until.unwrap_or(entry.newest()))
}

/// Whether the type is accepted; an error if it is, but the model does not compile or computes something else.
fn accepts(example: &Example, entry: &OpEntry, dtype: DType) -> Result<bool, String> {
    let version = version(example, entry);
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

/// A line of the table: operands, and what became of each accepted type.
struct Line {
    operands: Vec<String>,
    codes: BTreeMap<usize, Code>,
}

impl Line {
    /// That of an example and of its large form.
    fn of(example: &Example, large: &Example, entry: &OpEntry, failures: &mut Vec<String>) -> Line {
        let mut codes = BTreeMap::new();
        let tried = if example.tried().is_empty() { &DType::ALL[..1] } else { &DType::ALL };
        for (at, dtype) in tried.iter().enumerate() {
            let judge = || Code::of(large, entry, version(example, entry), *dtype);
            match accepts(example, entry, *dtype).and_then(|yes| yes.then(judge).transpose()) {
                Ok(Some(code)) => drop(codes.insert(at, code)),
                Ok(None) => {}
                Err(e) => failures.push(format!("{} {dtype}: {e}", example.operator)),
            }
        }
        if codes.is_empty() {
            failures.push(format!("{}: the example is imported with no type", example.operator));
        }
        Line { operands: example.tried(), codes }
    }

    /// Adds another line of the operator to those before: to one with the same operands and types, if there is one.
    fn add_to(self, lines: &mut Vec<Line>) {
        let same = |l: &&mut Line| l.operands == self.operands && l.codes.keys().eq(self.codes.keys());
        match lines.iter_mut().find(same) {
            Some(line) => {
                for (at, code) in self.codes {
                    let worst = line.codes.remove(&at).map_or(code.clone(), |other| other.max(code));
                    line.codes.insert(at, worst);
                }
            }
            None => lines.push(self),
        }
    }

    /// The cells from the operands on.
    fn text(&self, reasons: &[&str]) -> String {
        let mark = |code: &Code| match code {
            Code::Little => "-".to_owned(),
            Code::Vector => "v".to_owned(),
            Code::Call => "c".to_owned(),
            Code::Scalar(why) => {
                reasons.iter().position(|r| r == why).map_or_else(String::new, |at| (at + 1).to_string())
            }
        };
        if self.operands.is_empty() {
            // The types are prescribed.
            let marks: Vec<String> = self.codes.values().map(mark).collect();
            return format!("none: {} |{}", marks.join(" "), "  |".repeat(DType::ALL.len()));
        }
        let cells = (0..DType::ALL.len()).map(|at| self.codes.get(&at).map_or_else(String::new, mark));
        format!("{} | {} |", self.operands.join(", "), cells.collect::<Vec<_>>().join(" | "))
    }
}

#[test]
fn the_table_is_what_the_code_does() {
    let (examples, large) = (examples(), parse(include_str!("examples.txt"), Size::Large));
    let mut of: BTreeMap<&str, Vec<(&Example, &Example)>> = BTreeMap::new();
    for (example, large) in examples.iter().zip(&large) {
        of.entry(&example.name).or_default().push((example, large));
    }
    let mut entries: Vec<&OpEntry> = operators().collect();
    entries.sort_by_key(|entry| (entry.domain, entry.name));
    let names: BTreeSet<String> = entries.iter().flat_map(|e| [e.name.to_owned(), full_name(e)]).collect();
    let mut failures: Vec<String> =
        of.keys().filter(|name| !names.contains(**name)).map(|name| format!("no operator {name}")).collect();
    let mut lines_of: Vec<(&OpEntry, Vec<Line>)> = Vec::new();
    for entry in entries {
        let mut lines = Vec::new();
        match of.get(full_name(entry).as_str()).or_else(|| of.get(entry.name)) {
            _ if entry.session => {}
            Some(examples) => {
                for (example, large) in examples {
                    let line = Line::of(example, large, entry, &mut failures);
                    if example.version.is_none() {
                        line.add_to(&mut lines);
                    }
                }
            }
            None => failures.push(format!("{} has no line in tests/operators/examples.txt", entry.name)),
        }
        lines_of.push((entry, lines));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let codes = lines_of.iter().flat_map(|(_, lines)| lines).flat_map(|line| line.codes.values());
    let reasons =
        codes.filter_map(|code| if let Code::Scalar(why) = code { Some(why.as_str()) } else { None });
    let reasons: Vec<&str> = reasons.collect::<BTreeSet<_>>().into_iter().collect();

    let mut text = HEADER.to_owned();
    let _ =
        writeln!(text, "| operator | versions | operands | {} |", DType::ALL.map(DType::name).join(" | "));
    let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(DType::ALL.len()));
    for (entry, lines) in &lines_of {
        let until = entry.until.map_or_else(|| entry.newest().to_string(), |version| version.to_string());
        let (name, versions) = (full_name(entry), format!("{} to {until}", entry.since));
        if entry.session {
            let cells = "  |".repeat(DType::ALL.len());
            let _ = writeln!(text, "| {name} | {versions} | sequences, in a session |{cells}");
        }
        for (i, line) in lines.iter().enumerate() {
            let (name, versions) = if i == 0 { (name.as_str(), versions.as_str()) } else { ("", "") };
            let _ = writeln!(text, "| {name} | {versions} | {}", line.text(&reasons));
        }
    }
    text += "\nScalar code, and why (SCHEDULING.md says what vector lanes cannot do):\n\n";
    for (i, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "{}. {reason}", i + 1);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATORS.md");
    if std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/OPERATORS.md is not up to date: NESTJIT_BLESS=1 rewrites it");
}
