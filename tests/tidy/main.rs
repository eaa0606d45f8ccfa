//! Rules about the sources that the compiler does not check; ARCHITECTURE.md states them as invariants.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use nestjit::options::ENVIRONMENT;
use source::{Source, collect};

/// No file is longer than this.
const MAX_LINES: usize = 500;

/// Made by a program, not for reading.
const GENERATED: &str = "src/onnx/proto.rs";

/// Where `unsafe` is: where generated code is made, called (for measurements too), and given memory, and where the system is
/// asked for registers.
const UNSAFE: [&str; 5] =
    ["src/codegen/", "src/runtime/", "src/memory.rs", "src/machine/amx.rs", "benches/microkernels.rs"];

/// The modules of the library from the bottom up. A module imports only from lower layers and from itself;
/// those of one layer do not know each other.
const LAYERS: [&[&str]; 12] = [
    &["error", "lanes", "laps", "threads"],
    &["budget"],
    &["memory", "files"],
    &["tensor", "machine", "remark"],
    &["graph", "host", "options"],
    &["unit"],
    &["interpret"],
    &["passes", "lower", "onnx", "zoo", "codegen"],
    &["runtime"],
    &["compiler"],
    &["session"],
    &["report"],
];

/// What is above all layers, or a program of its own.
const ABOVE: [&str; 5] = ["lib", "main", "cli", "mod", "generate"];

/// The modules of the ONNX importer from the bottom up.
const ONNX: [&[&str]; 13] = [
    &["proto", "file", "halt", "limit", "problems"],
    &["external", "nibble", "order", "export"],
    &["tensor"],
    &["skim"],
    &["model"],
    &["data", "scope"],
    &["attributes", "names"],
    &["body", "sink"],
    &["node"],
    &["scan"],
    &["ops"],
    &["import"],
    &["overview", "stage"],
];

/// What passes share, from the bottom up. Other modules of `passes`, but for the manager, are passes or look at what these
/// leave; they do not know each other.
const UNDER_PASSES: [&[&str]; 2] = [&["cost", "each_nest", "testing"], &["schedule"]];

/// What passes share of questions about nests and of rewrites, from the bottom up.
const SCHEDULE: [&[&str]; 4] = [
    &["chain", "indices"],
    &["border", "jam", "simplify", "window"],
    &["pad"],
    &["tiles", "minimal_filtering"],
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders.iter().filter(|f| root().join(f).is_dir()) {
        collect(&root(), &root().join(folder), &mut found);
    }
    assert!(!found.is_empty(), "no sources below {folders:?}");
    found
}

fn assert_none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

fn lines_with(sources: &[Source], wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let lines = source.code().filter(|(_, line)| wrong(source, line));
        violations.extend(lines.map(|(n, line)| format!("{}:{n}: {}", source.path, line.trim())));
    }
    violations
}

#[test]
fn every_module_says_what_it_is_for() {
    let sources = sources(&["src", "ir/src", "tests", "examples", "benches"]);
    let silent = sources.iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path.clone()).collect();
    assert_none("files that do not begin with `//!`", silent);
}

#[test]
fn files_are_short() {
    let long = sources(&["src", "ir/src"])
        .iter()
        .map(|s| (s, s.text.lines().count()))
        .filter(|(s, lines)| *lines > MAX_LINES && s.path != GENERATED)
        .map(|(s, lines)| format!("{}: {lines} lines", s.path))
        .collect();
    assert_none("files to split by purpose", long);
}

#[test]
fn nothing_is_left_undone() {
    // Assembled, so that this file does not contain them.
    let marks = ["todo", "dbg", "unimplemented"].map(|name| format!("{name}!("));
    let found = lines_with(&sources(&["src", "ir/src", "tests", "examples", "benches"]), |_, line| {
        marks.iter().any(|mark| line.contains(mark))
    });
    assert_none("macros that mark unfinished work", found);
}

#[test]
fn only_options_reads_the_environment() {
    let sources = sources(&["src", "ir/src"]);
    let readers = lines_with(&sources, |source, line| {
        source.path != "src/options.rs" && (line.contains("env::var") || line.contains("\"NESTJIT_"))
    });
    assert_none("environment variables outside src/options.rs", readers);
}

#[test]
fn the_readme_lists_every_environment_variable() {
    let variables = |text: &str| -> BTreeSet<String> {
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        text.match_indices("NESTJIT_")
            .map(|(at, _)| text[at..].chars().take_while(|c| is_name(*c)).collect::<String>())
            .filter(|name| name != "NESTJIT_")
            .collect()
    };
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let known = ENVIRONMENT.iter().map(|v| v.name.to_owned()).collect();
    assert_eq!(variables(&readme), known, "README.md and src/options.rs differ");
    for variable in ENVIRONMENT {
        let row =
            format!("| `{}` | `{}` | {} |", variable.name, variable.values.replace('|', "\\|"), variable.doc);
        assert!(readme.contains(&row), "README.md lacks the line\n{row}");
    }
}

#[test]
fn only_codegen_knows_cranelift() {
    let found = lines_with(&sources(&["src", "ir/src"]), |source, line| {
        !source.path.starts_with("src/codegen/")
            && (line.contains("cranelift_") || line.contains("target_lexicon"))
    });
    assert_none("Cranelift outside src/codegen/", found);
}

#[test]
fn the_ir_stands_alone() {
    let manifest = fs::read_to_string(root().join("ir/Cargo.toml")).unwrap();
    let mut section = "";
    let mut violations = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let foreign = ["nestjit", "ndarray", "cranelift", "prost", "onnx"];
        if section.ends_with("dependencies]") && foreign.iter().any(|f| name.starts_with(f)) {
            violations.push(line.to_owned());
        }
    }
    assert_none("dependencies of the IR", violations);
}

#[test]
fn unsafe_stays_where_it_belongs() {
    let sources = sources(&["src", "ir/src", "examples", "benches"]);
    let found = lines_with(&sources, |source, line| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe") && !UNSAFE.iter().any(|f| source.path.starts_with(f))
    });
    assert_none("`unsafe` outside code generation and runtime", found);
}

#[test]
fn unsafe_is_explained() {
    let mut violations = Vec::new();
    for source in sources(&["src", "ir/src", "benches"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, line) in source.code() {
            if !line.contains("unsafe {") && !line.contains("unsafe impl") {
                continue;
            }
            // The comment stands above the statement, which may span a few lines.
            let above = &lines[n.saturating_sub(7)..n];
            if !above.iter().any(|l| l.contains("SAFETY:")) {
                violations.push(format!("{}:{n}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("`unsafe` without a SAFETY comment", violations);
}

/// Those imports of the files in `folder` that are not from lower layers of the modules of `parent`.
fn upward_imports(folder: &str, parent: &[&str], layers: &[&[&str]]) -> Vec<String> {
    let layer_of = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut violations = Vec::new();
    for source in sources(&[folder]) {
        let Some(module) = source.module_in(folder).filter(|module| !ABOVE.contains(module)) else {
            continue;
        };
        let Some(own) = layer_of(module) else {
            violations.push(format!("{}: module `{module}` is in no layer", source.path));
            continue;
        };
        for (n, used) in source.used_modules(parent) {
            if used != module && layer_of(&used).is_some_and(|layer| layer >= own) {
                violations.push(format!("{}:{n}: `{module}` uses `{used}`", source.path));
            }
        }
    }
    violations
}

#[test]
fn imports_run_downwards() {
    let mut violations = upward_imports("src", &[], &LAYERS);
    violations.extend(upward_imports("src/onnx", &["onnx"], &ONNX));
    violations.extend(upward_imports("src/passes/schedule", &["passes", "schedule"], &SCHEDULE));
    assert_none("imports that run upwards or sideways", violations);
}

#[test]
fn passes_know_nothing_of_each_other() {
    let folder = "src/passes";
    let modules: BTreeSet<String> =
        sources(&[folder]).iter().filter_map(|s| s.module_in(folder).map(str::to_owned)).collect();
    let is_pass = |m: &&str| *m != "manager" && !UNDER_PASSES.concat().contains(m) && !ABOVE.contains(m);
    let passes: Vec<&str> = modules.iter().map(String::as_str).filter(is_pass).collect();
    assert!(passes.len() > 15, "the passes are {passes:?}");
    let layers = [UNDER_PASSES.as_slice(), &[&passes, &["manager"]]].concat();
    assert_none("imports between passes", upward_imports(folder, &["passes"], &layers));
}
