//! What is run between the programs of stages: a description of it.

use std::sync::Arc;

use super::super::body::{Body, Slot};
use super::super::scan::Scan;
use crate::host::HostOp;

/// Why a node is not part of a compiled program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The node's name.
    pub node: String,
    /// Its operator, and the version of its operator set.
    pub op: String,
    /// A sentence.
    pub why: String,
}

/// Something that is run between compiled programs.
#[derive(Debug)]
pub struct Step {
    /// The node, and why it is a step.
    pub reason: Reason,
    /// The operands; those left out are `None`.
    pub inputs: Vec<Option<Slot>>,
    /// The results; those that nobody wants are `None`.
    pub outputs: Vec<Option<Slot>>,
    /// What it does.
    pub kind: StepKind,
}

/// What a [`Step`] does.
#[derive(Debug)]
#[non_exhaustive]
pub enum StepKind {
    /// An operation of the host.
    Host(HostOp),
    /// A body, once: a function, or the branch that is known to be taken.
    Call(Branch),
    /// One of two bodies; the operand is the condition.
    If {
        /// If it holds.
        then: Branch,
        /// If it does not.
        other: Branch,
    },
    /// A body, until its first result is false or the first operand's number of iterations is reached.
    Loop(Branch),
    /// A body for each slice of some operands.
    Scan(Branch, Scan),
    /// A body for each element of the operands that are sequences; the first is one.
    Map(Branch),
}

/// A body that a node contains.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The body.
    pub body: Arc<Body>,
    /// Values of the body around that are arguments of this one, after its inputs.
    pub captures: Vec<Slot>,
}

impl Step {
    /// Values from around that bodies in it read.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &Slot> {
        let [a, b] = match &self.kind {
            StepKind::Host(_) => [None, None],
            StepKind::If { then, other } => [Some(then), Some(other)],
            StepKind::Call(body) | StepKind::Loop(body) | StepKind::Scan(body, _) | StepKind::Map(body) => {
                [Some(body), None]
            }
        };
        a.into_iter().chain(b).flat_map(|branch| &branch.captures)
    }
}
