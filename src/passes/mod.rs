//! The pass pipeline: [`PIPELINE`] is the one list of everything that happens between a graph and code.
//!
//! A pass rewrites a [`Graph`] or a [`Unit`] and says why in remarks; passes know nothing of each other. What several of them
//! need is in `schedule`, [`cost`] and `each_nest`. The [`PassManager`] runs them.

use nestjit_ir::verify::Stage;

use crate::error::Result;
use crate::graph::Graph;
use crate::machine::MachineModel;
use crate::options::{Fusion, Options, RowRings};
use crate::remark::Remark;
use crate::unit::Unit;

mod block_sums;
mod byte_tables;
mod check;
mod choose_layout;
mod contract_temps;
pub mod cost;
mod each_nest;
mod fold_batch_norm;
mod fold_constant;
mod gather_operands;
mod integer_contractions;
mod join_activations;
mod manager;
mod merge_siblings;
mod op_fusion;
mod parallelize;
mod peel_borders;
mod plan_memory;
mod round_operands;
mod row_rings;
mod schedule;
mod simplify;
mod simplify_nest;
#[cfg(test)]
mod testing;
mod tile;
mod vectorize;
mod verify;
mod winograd;

pub use manager::{LOWER, PassManager, Passed, find, program_of};
pub use parallelize::{Share, shares};
pub use plan_memory::separate as separate_memory;
pub use verify::verify;

/// What a pass may look at besides what it rewrites.
#[derive(Clone, Debug)]
pub struct PassContext<'a> {
    /// The machine that code is generated for.
    pub target: &'a MachineModel,
    /// The number of threads that a run uses.
    pub threads: usize,
    /// How far OpFusion goes.
    pub fusion: Fusion,
    /// Whether RowRings makes rings.
    pub row_rings: RowRings,
    /// Whether convolutions will be computed by minimal filtering, which layouts should suit.
    pub minimal_filtering: bool,
}

impl<'a> PassContext<'a> {
    /// What these options say about code for this machine that runs on so many threads.
    pub fn new(options: &Options, target: &'a MachineModel, threads: usize) -> PassContext<'a> {
        let disabled = |pass: &Pass| options.disabled_passes.iter().any(|name| name == pass.name);
        let has = |effect| PIPELINE.iter().any(|pass| pass.effect == Some(effect) && !disabled(pass));
        PassContext {
            target,
            threads,
            fusion: options.fusion,
            // A ring is a fusion.
            row_rings: if has(Effect::Merges) { options.row_rings } else { RowRings::Off },
            minimal_filtering: has(Effect::Filters),
        }
    }
}

/// A step of the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// The name by which it is switched off.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What others should know of it.
    pub effect: Option<Effect>,
    /// The function.
    pub run: Run,
}

/// What a pass does that others depend on, who do not know which pass it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It merges nests.
    Merges,
    /// It computes convolutions by minimal filtering.
    Filters,
    /// It rounds operands, which changes results.
    Rounds,
}

/// The function of a pass; it returns whether it changed anything and adds remarks.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Rewrites the graph, before lowering.
    Graph(fn(&mut Graph, &PassContext<'_>, &mut Vec<Remark>) -> Result<bool>),
    /// Rewrites the nests; the program it leaves is verified for this stage.
    Nest(fn(&mut Unit, &PassContext<'_>, &mut Vec<Remark>) -> Result<bool>, Stage),
}

/// Every pass, in order. Graph passes come first; between them and the nest passes, the graph is lowered.
pub const PIPELINE: &[Pass] = &[
    Pass {
        name: "IntegerContractions",
        summary: "contractions of quantised tensors multiply 8-bit integers; scales and zero points move behind the sums",
        effect: None,
        run: Run::Graph(integer_contractions::run),
    },
    Pass {
        name: "FoldConstant",
        summary: "nodes whose operands are constant are computed at compile time",
        effect: None,
        run: Run::Graph(fold_constant::run),
    },
    Pass {
        name: "GatherOperands",
        summary: "what is gathered of a table that is computed of constants is computed of what is gathered of these",
        effect: None,
        run: Run::Graph(gather_operands::run),
    },
    Pass {
        name: "FoldBatchNorm",
        summary: "BatchNorm with constant parameters goes into the weights before it",
        effect: None,
        run: Run::Graph(fold_batch_norm::run),
    },
    Pass {
        name: "JoinActivations",
        summary: "an activation spelled out in operations on halves is rounded once",
        effect: None,
        run: Run::Graph(join_activations::run),
    },
    Pass {
        name: "Simplify",
        summary: "no-ops, duplicates and dead nodes go; chained reshapes and transposes become one",
        effect: None,
        run: Run::Graph(simplify::run),
    },
    Pass {
        name: "ByteTables",
        summary: "elementwise functions from bytes to bytes, such as activations between quantisations, become tables",
        effect: None,
        run: Run::Graph(byte_tables::run),
    },
    Pass {
        name: "MergeSiblings",
        summary: "products of one operand with several constant weights, such as Q/K/V, become one",
        effect: None,
        run: Run::Graph(merge_siblings::run),
    },
    Pass {
        name: "SimplifyNests",
        summary: "loops of one iteration, constants, no-ops and dead temporaries go",
        effect: None,
        run: Run::Nest(simplify_nest::run, Stage::Fused),
    },
    Pass {
        name: "OpFusion",
        summary: "producers and consumers are merged at the deepest loop level that is legal and pays",
        effect: Some(Effect::Merges),
        run: Run::Nest(op_fusion::run, Stage::Fused),
    },
    Pass {
        name: "ContractTemps",
        summary: "buffers used in one nest only become registers, rows and tiles",
        effect: None,
        run: Run::Nest(contract_temps::run, Stage::Fused),
    },
    Pass {
        name: "ChooseLayout",
        summary: "temporaries get the order in memory that suits the nests around them, such as channels-last",
        effect: None,
        run: Run::Nest(choose_layout::run, Stage::Fused),
    },
    Pass {
        name: "Winograd",
        summary: "3x3 convolutions with stride 1 are computed with fewer multiplications where that pays",
        effect: Some(Effect::Filters),
        run: Run::Nest(winograd::run, Stage::Fused),
    },
    Pass {
        name: "RowRings",
        summary: "what reads windows of rows shares a nest with what computes them, strip by strip, where that pays",
        effect: None,
        run: Run::Nest(row_rings::run, Stage::Fused),
    },
    Pass {
        name: "PeelBorders",
        summary: "padding leaves the inner loops: borders around buffers, or loops cut into border and interior",
        effect: None,
        run: Run::Nest(peel_borders::run, Stage::Scheduled),
    },
    Pass {
        name: "RoundOperands",
        summary: "operands of contractions are rounded to bf16 where `precision` allows it and that is faster",
        effect: Some(Effect::Rounds),
        run: Run::Nest(round_operands::run, Stage::Scheduled),
    },
    Pass {
        name: "Tile",
        summary: "contractions become register tiles; constant operands are packed for them",
        effect: None,
        run: Run::Nest(tile::run, Stage::Scheduled),
    },
    Pass {
        name: "Vectorize",
        summary: "the loops that Tile left become vector loops",
        effect: None,
        run: Run::Nest(vectorize::run, Stage::Scheduled),
    },
    Pass {
        name: "BlockSums",
        summary: "long sums of f32 are added up in blocks, so that rounding errors stay small",
        effect: None,
        run: Run::Nest(block_sums::run, Stage::Scheduled),
    },
    Pass {
        name: "Parallelize",
        summary: "outermost independent loops with enough work run on several threads",
        effect: None,
        run: Run::Nest(parallelize::run, Stage::Scheduled),
    },
    Pass {
        name: "PlanMemory",
        summary: "temporaries that do not live at the same time share memory",
        effect: None,
        run: Run::Nest(plan_memory::run, Stage::Scheduled),
    },
];
