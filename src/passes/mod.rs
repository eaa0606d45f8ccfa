//! The pass pipeline: [`PIPELINE`] is the one list of everything that happens between a graph and code.
//!
//! A pass rewrites a [`Graph`] or a [`Unit`] and says why in remarks; passes know nothing of each other.

use crate::error::Result;
use crate::graph::Graph;
use crate::target::Target;
use crate::unit::{Remark, Unit};

/// What a pass may look at besides what it rewrites.
#[derive(Clone, Debug)]
pub struct PassContext<'a> {
    /// The machine that code is generated for.
    pub target: &'a Target,
    /// The number of threads that a run uses.
    pub threads: usize,
}

/// A step of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name by which it is switched off.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The function.
    pub run: Run,
}

/// The function of a pass; it returns whether it changed anything and adds remarks.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Rewrites the graph, before lowering.
    Graph(fn(&mut Graph, &PassContext<'_>, &mut Vec<Remark>) -> Result<bool>),
    /// Rewrites the nests.
    Nest(fn(&mut Unit, &PassContext<'_>, &mut Vec<Remark>) -> Result<bool>),
}

/// Every pass, in order.
pub const PIPELINE: &[Pass] = &[];
