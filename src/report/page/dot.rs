//! The fused graph in Graphviz's language: a box per nest with its operations, an edge per pair of nests with what
//! passes.

use std::fmt::{self, Write};

use super::escape::dot as quoted;
use super::graph::Drawing;
use super::short;
use crate::report::format::{bytes, name};
use crate::report::fusion::{FusionReport, Group};
use crate::runtime::executable::Executable;

/// The longest name, in characters.
const MAX_NAME: usize = 60;
/// Operations that are listed in a box.
const MAX_OPS: usize = 12;

/// The nests of a model as a directed graph.
pub fn dot(report: &FusionReport, executable: &Executable) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write(&mut text, report, &Drawing::after(report, executable));
    text
}

fn write(text: &mut String, report: &FusionReport, drawing: &Drawing) -> fmt::Result {
    writeln!(text, "digraph {} {{", quoted(&short(&report.model, MAX_NAME)))?;
    writeln!(text, "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"Helvetica\"];")?;
    writeln!(text, "  edge [fontname=\"Helvetica\", fontsize=10];")?;
    for (at, node) in drawing.nodes.iter().enumerate() {
        match node.group.and_then(|g| report.groups.get(g)) {
            Some(group) => {
                let colour = if group.ops.len() > 1 { "lightblue" } else { "white" };
                writeln!(text, "  n{at} [label={}, fillcolor={colour}];", quoted_lines(&lines(group)))?;
            }
            None => {
                writeln!(text, "  n{at} [label={}, shape=ellipse];", quoted(&short(&node.name, MAX_NAME)))?
            }
        }
    }
    for edge in &drawing.edges {
        let label = quoted(&bytes(edge.bytes));
        writeln!(text, "  n{} -> n{} [label={label}];", edge.from, edge.to)?;
    }
    writeln!(text, "}}")
}

fn lines(group: &Group) -> Vec<String> {
    let mut lines = vec![name(&group.pattern)];
    let listed = group.ops.iter().take(MAX_OPS);
    lines.extend(listed.map(|op| format!("{} {}", op.op, short(&op.name, MAX_NAME))));
    if group.ops.len() > MAX_OPS {
        lines.push(format!("... and {} more", group.ops.len() - MAX_OPS));
    }
    let balance = group.balance.map_or_else(String::new, |b| format!(", {}", b.name()));
    lines.push(format!("{:.1} FLOP/byte{balance}", group.intensity));
    lines
}

/// One string of several lines: `\n` is the language's own line break, all other backslashes are escaped.
fn quoted_lines(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| quoted(line)).collect();
    let inner: Vec<&str> = lines.iter().map(|line| &line[1..line.len() - 1]).collect();
    format!("\"{}\"", inner.join("\\n"))
}
