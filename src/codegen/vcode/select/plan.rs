//! Which statements of a segment are worth a kernel: the largest runs that can be selected and contain a
//! vector loop. At the top level of a nest, it is the nest that must contain one: a statement is a part of a kernel
//! or not, however the nest is cut into segments, so that results do not depend on the cuts.

use nestjit_ir::visit::{Extents, declared_temps, walk_exprs, walk_loops, walk_stmts};
use nestjit_ir::{BufId, Expr, For, LoopKind, Program, Stmt, Var};

use super::facts::Facts;
use super::{Machine, Region, Stop, select};
use crate::codegen::hash::{FastMap, FastSet};
use crate::codegen::vcode::Kernel;
use crate::lanes::{self, Refusal};

/// A run of statements that a kernel executes.
pub(in crate::codegen) struct PlannedRegion {
    /// The number of statements.
    pub len: usize,
    pub kernel: Kernel,
}

/// The kernels of a segment.
#[derive(Default)]
pub(in crate::codegen) struct Plan {
    /// The regions, in the order of the program.
    pub regions: Vec<PlannedRegion>,
    /// Their positions, by the address of their first statement.
    starts: FastMap<*const Stmt, usize>,
    /// Locals that kernels share with other code: they must be in memory.
    pub shared_locals: FastSet<BufId>,
    /// The loops that are not parts of kernels.
    pub refused: Vec<RefusedLoop>,
}

/// A loop that is not a part of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::codegen) struct RefusedLoop {
    pub var: Var,
    /// What there is in it; nothing if it only is no vector loop.
    pub why: Option<Refusal>,
}

impl Plan {
    /// The position of the region that starts with this statement.
    pub fn region(&self, first: &Stmt) -> Option<usize> {
        self.starts.get(&std::ptr::from_ref(first)).copied()
    }
}

/// Plans a segment of a nest: its statements, and the parallel loops that it consists of, outermost first.
pub(in crate::codegen) fn plan(
    program: &Program,
    extents: &Extents,
    nest: &[Stmt],
    (body, parallel): (&[Stmt], &[&For]),
    machine: Machine,
) -> Plan {
    let facts = Facts::new(program, extents, machine.lanes);
    let ranges: Vec<Var> = parallel.iter().map(|l| l.var).collect();
    let mut planner = Planner { facts: &facts, machine, ranges: &ranges, plan: Plan::default() };
    let top = if has_vector_loop(nest) { Level::Vector } else { Level::Scalar };
    match parallel.first() {
        Some(_) if parallel.iter().any(|l| l.extent == 0) => {}
        Some(l) => {
            if !planner.try_region(body, &[], Some(l), top) {
                planner.block(&l.body, Level::Inner);
            }
        }
        None => planner.block(body, top),
    }
    planner.plan
}

/// Where statements stand.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    /// At the top level of a nest that has a vector loop somewhere.
    Vector,
    /// At the top level of a nest that has none.
    Scalar,
    /// Within a loop.
    Inner,
}

impl Level {
    /// Whether statements that can be selected become a kernel.
    fn wants(self, body: &[Stmt]) -> bool {
        match self {
            Level::Vector => body.iter().any(does_something),
            Level::Scalar => false,
            Level::Inner => has_vector_loop(body),
        }
    }
}

struct Planner<'a> {
    facts: &'a Facts<'a>,
    machine: Machine,
    /// The variables of the segment's parallel loops.
    ranges: &'a [Var],
    plan: Plan,
}

impl Planner<'_> {
    fn block(&mut self, body: &[Stmt], level: Level) {
        if !level.wants(body) {
            let program = self.facts.program;
            let scalar = body.iter().filter_map(|s| match s {
                Stmt::For(l) if l.extent > 1 => {
                    Some(RefusedLoop { var: l.var, why: lanes::stmts(program, &l.body).err() })
                }
                _ => None,
            });
            self.plan.refused.extend(scalar);
            return;
        }
        if self.try_region(body, &[], None, level) {
            return;
        }
        let selectable: Vec<bool> = body
            .iter()
            .map(|s| match s {
                Stmt::Temp(_) => true,
                Stmt::Call(_) => false,
                Stmt::For(l) => match self.select(std::slice::from_ref(s), &[]) {
                    Ok(_) => true,
                    Err(why) => {
                        if has_vector_loop(std::slice::from_ref(s)) {
                            self.plan.refused.push(RefusedLoop { var: l.var, why: Some(why) });
                        }
                        false
                    }
                },
                s => self.select(std::slice::from_ref(s), &[]).is_ok(),
            })
            .collect();
        let mut i = 0;
        while i < body.len() {
            if !selectable[i] {
                if let Stmt::For(l) = &body[i] {
                    self.block(&l.body, Level::Inner);
                }
                i += 1;
                continue;
            }
            let end = (i..body.len()).find(|&j| !selectable[j]).unwrap_or(body.len());
            let (run, after) = (&body[i..end], &body[end..]);
            if !self.try_region(run, after, None, level) {
                for k in 0..run.len() {
                    self.try_region(&run[k..=k], &[], None, level);
                }
            }
            i = end;
        }
    }

    /// Makes `body` a region if it can be selected; `after` is what follows in its block.
    /// The segment's loop is noted if it cannot.
    fn try_region(&mut self, body: &[Stmt], after: &[Stmt], segment: Option<&For>, level: Level) -> bool {
        if !level.wants(body) {
            return false;
        }
        let Some(first) = body.first() else { return false };
        let kernel = match self.select(body, after) {
            Ok(kernel) => kernel,
            Err(why) => {
                if let Some(l) = segment {
                    self.plan.refused.push(RefusedLoop { var: l.var, why: Some(why) });
                }
                return false;
            }
        };
        let private = self.private(body, after);
        for buf in accessed(body) {
            if !private.contains(&buf) {
                self.plan.shared_locals.insert(buf);
            }
        }
        self.plan.starts.insert(first, self.plan.regions.len());
        self.plan.regions.push(PlannedRegion { len: body.len(), kernel });
        true
    }

    fn select(&self, body: &[Stmt], after: &[Stmt]) -> Result<Kernel, Refusal> {
        let private = self.private(body, after);
        let region = Region {
            program: self.facts.program,
            facts: self.facts,
            body,
            ranges: self.ranges,
            private: &private,
        };
        select(&region, self.machine).map_err(|stop| match stop {
            Stop::Unsupported(why) => why,
            Stop::Spill(_) => Refusal::LocalWithoutPlace,
        })
    }

    /// The locals that are declared in `body` and not accessed in `after`.
    fn private(&self, body: &[Stmt], after: &[Stmt]) -> FastSet<BufId> {
        let outside = accessed(after);
        let kept = |b: &BufId| !outside.contains(b);
        declared_temps(body).into_iter().filter(kept).collect()
    }
}

fn does_something(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::Temp(_) => false,
        Stmt::For(l) => l.extent > 0,
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => true,
    }
}

fn has_vector_loop(body: &[Stmt]) -> bool {
    let mut found = false;
    walk_loops(body, &mut |l| found |= l.kind == LoopKind::Vector && l.extent > 0);
    found
}

/// The buffers that statements access.
pub(in crate::codegen) fn accessed(body: &[Stmt]) -> FastSet<BufId> {
    let mut bufs = FastSet::default();
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => {
            bufs.insert(s.buf);
        }
        Stmt::Reduce(r) => {
            bufs.insert(r.buf);
        }
        Stmt::Call(c) => bufs.extend(c.inputs.iter().chain(&c.outputs)),
        Stmt::For(_) | Stmt::Temp(_) => {}
    });
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            bufs.insert(l.buf);
        }
    });
    bufs
}
