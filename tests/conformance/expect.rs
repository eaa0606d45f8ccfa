//! The list of cases that do not pass, and how results are held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::suite::Case;
use super::verdict::{Outcome, Report, Verdict};

const HEADER: &str = "\
# The cases of the ONNX conformance suite that do not pass our gate (relative 1e-5, absolute 1e-6), fused and unfused:
# what comes of each, and why. `loose` ones keep the official tolerance (1e-3, 1e-7). Every other case passes.
# Rewritten by `cargo test --test conformance -- --suite DIR --bless`, which keeps reasons while outcomes stay.
";

/// The longest reason that is written down.
const REASON: usize = 160;

/// A case and what came of it.
pub struct Result<'a> {
    pub case: &'a Case,
    pub report: Report,
    /// The worse of the report's two.
    pub verdict: Verdict,
}

/// Cases with their reports, in which files are named as they lie in the folder of the case: the list is the same
/// wherever the suite is.
pub fn results(cases: &[Case], reports: Vec<Report>) -> Vec<Result<'_>> {
    let result = |(case, mut report): (_, Report)| {
        for verdict in [&mut report.fused, &mut report.unfused] {
            verdict.reason = without_folder(&verdict.reason, case);
        }
        Result { case, verdict: report.verdict(), report }
    };
    cases.iter().zip(reports).map(result).collect()
}

/// A message without the folder of the case in front of names of files.
fn without_folder(message: &str, case: &Case) -> String {
    match case.model.parent().map(|folder| folder.display().to_string()) {
        Some(folder) if !folder.is_empty() => {
            message.replace(&format!("{}/", folder.trim_end_matches('/')), "")
        }
        _ => message.to_owned(),
    }
}

/// What is expected of a suite.
#[derive(Default, PartialEq, Debug)]
pub struct Expectations {
    /// How many cases it has.
    total: usize,
    /// Outcomes and reasons by the names of cases.
    failing: BTreeMap<String, (Outcome, String)>,
}

/// The line that says how many cases there are starts with this.
const TOTAL: &str = "total";

impl Expectations {
    /// Those in a file; of an empty suite if there is no file.
    pub fn read(path: &Path) -> std::result::Result<Expectations, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Expectations::parse(&text).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Expectations::default()),
            Err(e) => Err(format!("cannot read '{}': {e}", path.display())),
        }
    }

    /// Those in a text: a line with the number of cases, then one for each that does not pass: name, outcome, reason.
    pub fn parse(text: &str) -> std::result::Result<Expectations, String> {
        let mut expectations = Expectations::default();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let failure = |what: &str| format!("line {}: {what}", n + 1);
            let (name, rest) = line.split_once(' ').ok_or_else(|| failure("no outcome"))?;
            let rest = rest.trim_start();
            if name == TOTAL {
                expectations.total = rest.parse().map_err(|_| failure("no number"))?;
                continue;
            }
            let (outcome, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let outcome: Outcome = outcome.parse().map_err(|e: String| failure(&e))?;
            if outcome == Outcome::Pass {
                return Err(failure("what passes is not listed"));
            }
            if expectations.failing.insert(name.to_owned(), (outcome, reason.trim().to_owned())).is_some() {
                return Err(failure("the case is listed twice"));
            }
        }
        Ok(expectations)
    }

    /// The list that results call for. Reasons stay as they are while the outcome is the same.
    pub fn blessed(&self, results: &[Result<'_>]) -> Expectations {
        let failing = results.iter().filter(|r| r.verdict.outcome != Outcome::Pass);
        let entry = |r: &Result<'_>| {
            let outcome = r.verdict.outcome;
            let reason = match self.failing.get(&r.case.name) {
                Some((old, reason)) if *old == outcome && outcome != Outcome::Unsupported => reason.clone(),
                _ => r.verdict.reason.chars().take(REASON).collect(),
            };
            (r.case.name.clone(), (outcome, reason))
        };
        Expectations { total: results.len(), failing: failing.map(entry).collect() }
    }

    /// Writes the list as [`Expectations::parse`] reads it.
    pub fn write(&self, path: &Path) -> std::result::Result<(), String> {
        std::fs::write(path, self.text()).map_err(|e| format!("cannot write '{}': {e}", path.display()))
    }

    /// The list as text.
    pub fn text(&self) -> String {
        let width = self.failing.keys().map(String::len).max().unwrap_or_default();
        let line = |(name, (outcome, reason)): (&String, &(Outcome, String))| {
            format!("{name:width$}  {:11}  {reason}", outcome.name()).trim_end().to_owned() + "\n"
        };
        format!("{HEADER}\n{TOTAL} {}\n\n", self.total) + &self.failing.iter().map(line).collect::<String>()
    }

    /// What is not as listed, a line each. If the results are `complete`, all cases must be there.
    pub fn surprises(&self, results: &[Result<'_>], complete: bool) -> Vec<String> {
        let mut surprises = Vec::new();
        for Result { case, verdict, .. } in results {
            let expected = self.failing.get(&case.name).map_or(Outcome::Pass, |(outcome, _)| *outcome);
            if verdict.outcome != expected {
                let reason = if verdict.reason.is_empty() { "" } else { ": " };
                surprises.push(format!(
                    "{} instead of {expected}: {}{reason}{}",
                    verdict.outcome, case.name, verdict.reason
                ));
            }
        }
        if complete {
            let names: BTreeSet<&str> = results.iter().map(|r| r.case.name.as_str()).collect();
            let gone = self.failing.keys().filter(|name| !names.contains(name.as_str()));
            surprises.extend(gone.map(|name| format!("the suite has no case {name}")));
            if results.len() != self.total {
                surprises.push(format!("the suite has {} cases instead of {}", results.len(), self.total));
            }
        }
        surprises
    }
}
