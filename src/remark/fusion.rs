//! What OpFusion says of two nests: how they became one, or why they did not.

use nestjit_ir::excerpt::Placement;
use nestjit_ir::{BufId, Program};

use crate::lanes;

/// How two nests became one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Merge {
    /// A copy is a part of another buffer.
    View {
        /// The buffer that is not copied.
        part: BufId,
        /// What it is a part of.
        of: BufId,
    },
    /// What is computed into this buffer is computed where that is read.
    WhereRead {
        /// The buffer.
        buf: BufId,
    },
    /// Their loops are one.
    Joined {
        /// How.
        how: Joined,
        /// What passes between them.
        bufs: Vec<BufId>,
    },
}

/// How the loops of two nests became one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joined {
    /// Two contractions are computed side by side.
    SideBySide,
    /// All loops are common.
    Elementwise,
    /// The outer loops are common.
    RowByRow,
    /// No loops are: one follows the other.
    InSequence,
}

/// Why a buffer stays in memory between two nests.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Apart {
    /// One of them is a call of a function of the runtime.
    Call,
    /// The consumer is.
    ConsumerIsCall,
    /// Another nest comes between them.
    Between {
        /// Its name.
        nest: String,
    },
    /// Others read the result.
    OtherReaders,
    /// Only elementwise operations are to be merged.
    EpilogueOnly,
    /// One of them came with a schedule.
    Scheduled,
    /// The nest would have more statements than this.
    Statements {
        /// How many a nest may have.
        most: usize,
    },
    /// No loop is common to both.
    NoCommonLoop {
        /// The bytes that pass between them.
        bytes: usize,
    },
    /// Both have loops of their own.
    LoopsDiffer {
        /// The extents of the first nest's loops.
        first: Vec<usize>,
        /// And of the second's.
        second: Vec<usize>,
    },
    /// An access needs what another one writes complete: both as text.
    NeededComplete {
        /// What is written.
        first: String,
        /// What needs it.
        second: String,
    },
    /// Iterations of a loop depend on each other: what [`nestjit_ir::access`] says of them.
    Carried {
        /// The accesses and what is wrong with them.
        conflict: String,
    },
    /// The consumer reads a window of several iterations.
    Window,
    /// Too few iterations would be independent.
    FewIterations {
        /// How many would be.
        iterations: usize,
    },
    /// What one iteration leaves for a later statement would not fit the second-level cache.
    RowTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// A loop along contiguous elements would become an outer one.
    ContiguousOutside,
    /// The vectors of a contraction would gather from this buffer.
    Gathers {
        /// The buffer.
        buf: BufId,
    },
    /// One of them has something that lanes cannot compute, and the other would lose its vector loops.
    LosesLanes(lanes::Refusal),
    /// The rows of a contraction would be computed one by one.
    RowsApart,
    /// A reduction would run along the loops that the other's vectors run along.
    ReductionAlongVectors,
    /// A contraction would lose the loops that its vectors run along.
    LosesVectorLoops,
    /// A contraction would read its operand again and again.
    ReadsAgain {
        /// The operand's bytes.
        bytes: usize,
        /// How often.
        times: usize,
    },
    /// A convolution could not be computed by minimal filtering.
    LosesFiltering {
        /// Whether because it would be computed row by row, or because of what follows.
        row_by_row: bool,
    },
    /// Two tiles of accumulators would not fit the registers.
    TwoTiles,
    /// A second contraction would read its weights for each row of the first.
    WeightsAgain {
        /// What the first one makes.
        operand: BufId,
        /// The weights.
        weights: Option<BufId>,
        /// The bytes of the weights that are read.
        bytes: usize,
        /// How often.
        times: usize,
    },
    /// So many bytes would be read for every block of rows.
    ReadForEachBlock {
        /// The bytes.
        bytes: usize,
    },
    /// The consumer does not walk a flattened dimension by itself.
    Flattened,
    /// The expression is too long to be substituted.
    LongExpression,
    /// Elements would be converted so many times.
    Converted {
        /// How often.
        times: usize,
    },
    /// Elements would be computed so many times.
    Recomputed {
        /// How often.
        times: usize,
    },
    /// The consumer computes the index at run time.
    ComputedIndex,
    /// One index within the other would leave 64 bits.
    IndexTooFar,
    /// The consumer pads what the producer computes.
    Padded,
}

impl Merge {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Merge::View { .. } => "view",
            Merge::WhereRead { .. } => "prologue",
            Merge::Joined { how, .. } => match how {
                Joined::SideBySide => "sibling",
                Joined::Elementwise => "epilogue",
                Joined::RowByRow | Joined::InSequence => "row",
            },
        }
    }
}

impl Apart {
    /// The stable code: see `report::CODES`.
    pub fn code(&self) -> &'static str {
        match self {
            Apart::Call | Apart::ConsumerIsCall => "call",
            Apart::Between { .. } => "cycle",
            Apart::OtherReaders => "multi-consumer",
            Apart::EpilogueOnly => "epilogue-only",
            Apart::Scheduled => "scheduled",
            Apart::Statements { .. } => "too-large",
            Apart::NoCommonLoop { .. } => "outer-extent-1",
            Apart::LoopsDiffer { .. } => "shape-mismatch",
            Apart::NeededComplete { .. } | Apart::Carried { .. } => "dependence",
            Apart::Window => "window",
            Apart::FewIterations { .. } => "parallelism",
            Apart::RowTooLarge { .. } => "row-too-large",
            Apart::ContiguousOutside | Apart::Gathers { .. } => "stride",
            Apart::LosesLanes(_) => "scalar",
            Apart::RowsApart
            | Apart::ReductionAlongVectors
            | Apart::LosesVectorLoops
            | Apart::ReadsAgain { .. }
            | Apart::LosesFiltering { .. } => "breaks-tile",
            Apart::TwoTiles | Apart::WeightsAgain { .. } | Apart::ReadForEachBlock { .. } => {
                "second-contraction"
            }
            Apart::Flattened => "reshape",
            Apart::LongExpression | Apart::Converted { .. } | Apart::Recomputed { .. } => "recompute",
            Apart::ComputedIndex => "gather",
            Apart::IndexTooFar | Apart::Padded => "padding",
        }
    }

    /// Whether a contraction would lose its tile or read something again and again.
    pub fn breaks_tile(&self) -> bool {
        matches!(
            self,
            Apart::RowsApart
                | Apart::ReductionAlongVectors
                | Apart::LosesVectorLoops
                | Apart::ReadsAgain { .. }
                | Apart::LosesFiltering { .. }
        )
    }

    /// Whether a second contraction in the nest is in the way.
    pub fn is_second_contraction(&self) -> bool {
        matches!(self, Apart::TwoTiles | Apart::WeightsAgain { .. } | Apart::ReadForEachBlock { .. })
    }

    /// The same with the numbers of the program in which an excerpt is placed.
    pub fn placed(&self, program: &Program, placement: &Placement) -> Apart {
        let text = |text: &str| placement.text(program, text, "");
        match self {
            Apart::Gathers { buf } => Apart::Gathers { buf: placement.buf(*buf) },
            Apart::WeightsAgain { operand, weights, bytes, times } => Apart::WeightsAgain {
                operand: placement.buf(*operand),
                weights: weights.map(|b| placement.buf(b)),
                bytes: *bytes,
                times: *times,
            },
            Apart::NeededComplete { first, second } => {
                Apart::NeededComplete { first: text(first), second: text(second) }
            }
            Apart::Carried { conflict } => Apart::Carried { conflict: text(conflict) },
            other => other.clone(),
        }
    }
}
