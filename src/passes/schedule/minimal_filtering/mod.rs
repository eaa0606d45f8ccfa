//! Minimal filtering: which convolutions with a 3x3 window and stride 1 there are, and for which of them it pays.
//!
//! Winograd rewrites them; those who choose layouts or merge nests ask what it would do.

pub mod algorithm;
pub mod convolution;
pub mod cost;

use nestjit_ir::{Nest, Program, Stmt};

use self::convolution::{ChannelOperand, candidate, operands};
use crate::machine::MachineModel;

/// A convolution that would be rewritten if vectors could run along its channels.
pub struct Prospect {
    /// The position of the statement in its nest.
    pub statement: usize,
    /// What has to be adjacent.
    pub operands: [ChannelOperand; 2],
    /// The estimated share of the time of the direct convolution.
    pub share: f64,
}

/// The convolutions of a nest for which rewriting would pay, for whoever chooses layouts.
pub fn prospects(program: &Program, nest: &Nest, target: &MachineModel) -> Vec<Prospect> {
    let found = nest.body.iter().enumerate().filter_map(|(statement, stmt)| {
        let Stmt::For(l) = stmt else { return None };
        let (conv, None) = candidate(program, l)? else { return None };
        let plan = cost::plan(&conv, target);
        let share = plan.cycles / plan.direct;
        plan.pays().then(|| Prospect { statement, operands: operands(&conv), share })
    });
    found.collect()
}

/// How many of the convolutions in a nest will be rewritten if layouts allow it.
pub fn expected(program: &Program, body: &[Stmt], target: &MachineModel) -> usize {
    let pays = |s: &&Stmt| {
        let Stmt::For(l) = s else { return false };
        let found = candidate(program, l).filter(|(_, obstacle)| obstacle.is_none());
        found.is_some_and(|(conv, _)| cost::plan(&conv, target).pays())
    };
    body.iter().filter(pays).count()
}
