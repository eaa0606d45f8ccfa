//! What a call consists of, in order: for reports.

use std::sync::Arc;
use std::time::Duration;

use super::plan::Entry;
use crate::graph::Graph;
use crate::onnx::Reason;
use crate::runtime::Executable;
use crate::tensor::Tensor;

/// The parts of a model that a call ran, or would run.
#[derive(Clone, Debug, Default)]
pub struct CallTrace {
    /// In the order in which they are run first.
    pub parts: Vec<ModelPart>,
}

/// A part of a model.
#[derive(Clone, Debug, Default)]
pub struct ModelPart {
    /// Whether it is the whole model, as one program.
    pub whole: bool,
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
    pub(super) place: Option<PartPlace>,
}

impl CallTrace {
    /// The only part of a model that is one program.
    pub fn whole(&self) -> Option<&ModelPart> {
        self.parts.first().filter(|part| part.whole)
    }

    /// The programs that were compiled.
    pub fn programs(&self) -> impl Iterator<Item = &Executable> {
        self.parts.iter().filter_map(|part| part.program.as_ref())
    }

    /// The part at a place, which is made by `part` if it is new.
    pub(super) fn part(&mut self, place: PartPlace, part: impl FnOnce() -> ModelPart) -> &mut ModelPart {
        let position = self.parts.iter().position(|part| part.place.as_ref() == Some(&place));
        let position = position.unwrap_or_else(|| {
            self.parts.push(ModelPart { place: Some(place), ..part() });
            self.parts.len() - 1
        });
        &mut self.parts[position]
    }
}

/// Where a part is: the program of an entry, or one of its steps. The entry is kept, since others may lie where one lay that
/// the cache forgot.
#[derive(Clone, Debug)]
pub(super) struct PartPlace {
    pub entry: Arc<Entry>,
    pub step: Option<usize>,
}

impl PartialEq for PartPlace {
    fn eq(&self, other: &PartPlace) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry) && self.step == other.step
    }
}

impl ModelPart {
    /// Counts a run, if it was run; how many there were.
    pub(super) fn ran(&mut self, time: Option<Duration>) -> u64 {
        self.runs += u64::from(time.is_some());
        self.time += time.unwrap_or_default();
        self.runs
    }
}
