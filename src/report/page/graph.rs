//! What is drawn: the operations of the model, and the nests that they became.

use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::{BufId, Role, access};

use super::short;
use crate::graph::ValueSource;
use crate::report::format::{bytes, signed_bytes};
use crate::report::fusion::{FusionReport, members};
use crate::runtime::executable::Executable;

/// The longest title and the longest other text in a box, in characters.
const MAX_TITLE: usize = 40;
const MAX_TEXT: usize = 30;

/// A graph whose nodes are boxes of a few lines of text.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing {
    pub nodes: Vec<Node>,
    /// From where to where, and what passes.
    pub edges: Vec<Edge>,
}

/// A box.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    /// The group that it belongs to; `None` for inputs and outputs of the model.
    pub group: Option<usize>,
    /// The lines, the first of them prominent.
    pub lines: Vec<String>,
    /// The full name, for tooltips and screen readers.
    pub name: String,
}

/// Something that is handed over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Edge {
    pub from: usize,
    pub to: usize,
    pub bytes: usize,
}

impl Drawing {
    /// The operations of the model.
    pub fn before(report: &FusionReport, executable: &Executable) -> Drawing {
        let ops = executable.model_ops();
        let members = members(ops, executable.program());
        let mut drawing = Drawing::default();
        let mut node_of: BTreeMap<usize, usize> = BTreeMap::new();
        for (id, value) in ops.values.iter().enumerate() {
            if value.source == ValueSource::Input && ops.ops.iter().any(|op| op.inputs.contains(&id)) {
                node_of.insert(id, drawing.end("input", &value.name));
            }
        }
        for (op, nests) in ops.ops.iter().zip(&members) {
            let lines = vec![op.kind.to_owned(), short(&op.name, MAX_TEXT)];
            let name = format!("{} {}", op.kind, op.name);
            let at = drawing.nodes.len();
            let group = nests.last().copied().filter(|g| *g < report.groups.len());
            drawing.nodes.push(Node { group, lines, name });
            for v in &op.inputs {
                if let Some(&from) = node_of.get(v) {
                    drawing.edges.push(Edge { from, to: at, bytes: ops.values[*v].bytes() });
                }
            }
            node_of.extend(op.outputs.iter().map(|v| (*v, at)));
        }
        for (id, value) in ops.values.iter().enumerate().filter(|(_, v)| v.output) {
            if let Some(&from) = node_of.get(&id) {
                let to = drawing.end("output", &value.name);
                drawing.edges.push(Edge { from, to, bytes: value.bytes() });
            }
        }
        drawing
    }

    /// The nests.
    pub fn after(report: &FusionReport, executable: &Executable) -> Drawing {
        let program = executable.program();
        let touched: Vec<(BTreeSet<BufId>, BTreeSet<BufId>)> =
            program.nests.iter().map(|n| (access::reads(&n.body), access::writes(&n.body))).collect();
        let mut drawing = Drawing::default();
        let mut writers: BTreeMap<BufId, Vec<usize>> = BTreeMap::new();
        for id in program.buf_ids().filter(|id| program.buf(*id).role == Role::In) {
            if touched.iter().any(|t| t.0.contains(&id)) {
                writers.insert(id, vec![drawing.end("input", &program.buf(id).name)]);
            }
        }
        for (at, (group, (reads, writes))) in report.groups.iter().zip(&touched).enumerate() {
            let node = drawing.nodes.len();
            let plural = if group.ops.len() == 1 { "op" } else { "ops" };
            let mut figures = vec![format!("{} {plural}", group.ops.len())];
            if let Some(time) = &group.time {
                figures.push(format!("{} ms", crate::report::format::ms(time.ms)));
            } else if group.bytes_saved > 0 {
                figures.push(format!("{} saved", signed_bytes(group.bytes_saved)));
            }
            let lines =
                vec![short(&group.pattern, MAX_TITLE), short(&group.nest, MAX_TEXT), figures.join(", ")];
            let name = format!("{}: {}", group.nest, group.pattern);
            drawing.nodes.push(Node { group: Some(at), lines, name });
            let mut passed: BTreeMap<usize, usize> = BTreeMap::new();
            for id in reads {
                for from in writers.get(id).into_iter().flatten().filter(|from| **from != node) {
                    *passed.entry(*from).or_default() += program.buf(*id).logical_bytes();
                }
            }
            drawing.edges.extend(passed.into_iter().map(|(from, bytes)| Edge { from, to: node, bytes }));
            for id in writes {
                writers.entry(*id).or_default().push(node);
            }
        }
        for id in program.buf_ids().filter(|id| program.buf(*id).role == Role::Out) {
            let buffer = program.buf(id);
            let to = drawing.end("output", &buffer.name);
            for from in writers.get(&id).into_iter().flatten() {
                drawing.edges.push(Edge { from: *from, to, bytes: buffer.logical_bytes() });
            }
        }
        drawing
    }

    /// Adds an input or an output of the model.
    fn end(&mut self, what: &str, name: &str) -> usize {
        let lines = vec![what.to_owned(), short(name, MAX_TEXT)];
        self.nodes.push(Node { group: None, lines, name: format!("{what} {name}") });
        self.nodes.len() - 1
    }
}

impl Edge {
    /// What the edge says when one points at it.
    pub fn title(&self, drawing: &Drawing) -> String {
        let name = |at: usize| short(&drawing.nodes[at].name, 2 * MAX_TEXT);
        format!("{} \u{2192} {}: {}", name(self.from), name(self.to), bytes(self.bytes))
    }
}
