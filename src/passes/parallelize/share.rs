//! How the statements of a nest would be shared by any number of threads: for predictions. What is planned for a run is in
//! the program itself.

use nestjit_ir::visit::walk_stmts_mut;
use nestjit_ir::{LoopKind, Nest, Stmt};

use super::cut::Costs;
use super::independent_extents;
use crate::machine::MachineModel;
use crate::passes::cost::{self, Work};
use crate::passes::schedule::chain::unchain;

/// How one of the outermost statements of a nest is shared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// What it takes on one core.
    pub work: Work,
    /// The parts that it is cut into; 1 if one thread does it.
    pub parts: usize,
    /// The threads that would be worth waking for it.
    pub worth: usize,
    /// The part of the work after which all is done: 1 if one thread does it.
    pub fraction: f64,
}

/// How the outermost statements of a nest would be shared by so many threads of a machine, in order.
pub fn shares(nest: &Nest, machine: &MachineModel, threads: usize) -> Vec<Share> {
    let costs = Costs::on(machine);
    let mut body = nest.body.clone();
    walk_stmts_mut(&mut body, &mut |s| {
        if let Stmt::For(l) = s
            && l.kind.is_parallel()
        {
            l.kind = LoopKind::Serial;
        }
    });
    let share = |stmt: Stmt| {
        let work = cost::work(std::slice::from_ref(&stmt), machine);
        let nanoseconds = work.nanoseconds();
        let worth = costs.worth(nanoseconds, threads);
        let serial = Share { work, parts: 1, worth, fraction: 1.0 };
        let Stmt::For(l) = stmt else { return serial };
        if worth < 2 {
            return serial;
        }
        let (chain, body) = unchain(l);
        let extents = independent_extents(&chain, &body, worth);
        costs.choose(&extents, nanoseconds, threads).map_or(serial, |cut| {
            let fraction = costs.time(&extents, nanoseconds, &cut) / nanoseconds;
            Share { parts: cut.parts(), fraction: fraction.min(1.0), ..serial }
        })
    };
    body.into_iter().map(share).collect()
}
