//! What a call ran, in order: for reports.

use std::sync::Arc;
use std::time::Duration;

use crate::graph::Graph;
use crate::onnx::Reason;
use crate::runtime::Executable;
use crate::tensor::Tensor;

/// The parts of a model that a call ran.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order in which they were run first.
    pub parts: Vec<Part>,
}

/// A part of a model.
#[derive(Clone, Debug)]
pub struct Part {
    /// How many bodies (of loops, branches, functions) it is in.
    pub depth: usize,
    /// The program, if it is one that was compiled.
    pub program: Option<Executable>,
    /// The graph that the program was compiled from, if this call compiled it.
    pub graph: Option<Arc<Graph>>,
    /// What the program was given when it ran first.
    pub inputs: Vec<Tensor>,
    /// What it was given when it ran last, if it ran more than once.
    pub last_inputs: Option<Vec<Tensor>>,
    /// The node that it is, and why it is not part of a program; or the nodes that needed values and begin a new one.
    pub reasons: Vec<Reason>,
    /// How often it was run.
    pub runs: u64,
    /// The time of all runs, compiling not included.
    pub time: Duration,
    /// What tells it apart from others.
    pub(super) key: usize,
}

impl Trace {
    /// Adds a run of the part with this key, which is made by `part` if it is new.
    pub(super) fn add(&mut self, key: usize, time: Duration, part: impl FnOnce() -> Part) -> &mut Part {
        let position = self.parts.iter().position(|part| part.key == key);
        let position = position.unwrap_or_else(|| {
            self.parts.push(part());
            self.parts.len() - 1
        });
        let part = &mut self.parts[position];
        part.runs += 1;
        part.time += time;
        part
    }
}
