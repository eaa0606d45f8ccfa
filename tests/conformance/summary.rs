//! The results in numbers: a table by category and class.

use std::fmt::Write as _;

use super::class::Class;
use super::expect::Result;
use super::verdict::{Mode, Outcome, Verdict};

/// The table, and how many results differ in bits between the modes.
pub fn table(results: &[Result<'_>]) -> String {
    let mut text = String::new();
    let header = Outcome::ALL.map(|o| format!("{:>12}", o.name())).concat();
    let _ = writeln!(text, "{:42}{:>7}{header}   (fused, unfused where it differs)", "", "cases");
    let mut categories: Vec<&str> = results.iter().map(|r| r.case.category()).collect();
    categories.dedup();
    for category in categories {
        let of: Vec<&Result<'_>> = results.iter().filter(|r| r.case.category() == category).collect();
        line(&mut text, category, &of);
        if category != "node" {
            continue;
        }
        for class in Class::ALL {
            let of: Vec<&Result<'_>> = of.iter().copied().filter(|r| r.case.class == class).collect();
            if !of.is_empty() {
                line(&mut text, &format!("  {class}"), &of);
            }
        }
    }
    line(&mut text, "all", &results.iter().collect::<Vec<_>>());
    let compared = results.iter().filter_map(|r| r.report.unfused.same_bits);
    let (same, other): (Vec<bool>, Vec<bool>) = compared.partition(|same| *same);
    let (same, all) = (same.len(), same.len() + other.len());
    let _ = writeln!(text, "fused and unfused code gave the same bits in {same} of {all} cases");
    text
}

fn line(text: &mut String, label: &str, results: &[&Result<'_>]) {
    let count = |mode: Mode, outcome: Outcome| {
        let verdict = |r: &&&Result<'_>| -> Verdict {
            match mode {
                Mode::Fused => r.report.fused.clone(),
                Mode::Unfused => r.report.unfused.clone(),
            }
        };
        results.iter().filter(|r| verdict(r).outcome == outcome).count()
    };
    let _ = write!(text, "{label:42}{:>7}", results.len());
    for outcome in Outcome::ALL {
        let [fused, unfused] = Mode::ALL.map(|mode| count(mode, outcome));
        let cell = if fused == unfused { fused.to_string() } else { format!("{fused},{unfused}") };
        let _ = write!(text, "{cell:>12}");
    }
    text.push('\n');
}
