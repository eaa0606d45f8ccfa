//! What the passes that schedule say of nests.

use nestjit_ir::{BufId, Var};

use crate::lanes;

/// Why a convolution cannot be computed by minimal filtering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotFiltered {
    /// Vectors could not run along the channels of the input or the output.
    Layout,
    /// The filters are not known at compile time.
    DynamicWeights,
    /// The rows or columns of the output pass something to each other.
    Dependence,
}

/// A ring of rows, made or considered.
#[derive(Clone, PartialEq, Debug)]
pub struct Ring {
    /// What passes between its stages; the first is what it was looked for.
    pub bufs: Vec<BufId>,
    /// The estimated share of the time of the nests apart; `None` if what lies between stays in the second-level cache.
    pub share: Option<f64>,
    /// What was made, if it was.
    pub made: Option<RingShape>,
}

/// How rows go round in a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingShape {
    /// How the first stage is cut.
    pub first: Option<Strips>,
    /// The bytes of all strips.
    pub bytes: usize,
}

/// Strips of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strips {
    /// How many there are.
    pub strips: usize,
    /// Blocks of a strip.
    pub blocks: usize,
    /// Steps of a block.
    pub steps: usize,
    /// Rows of a step.
    pub rows: usize,
}

/// What is done with loads that are guarded because of padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaddingWay {
    /// The buffer has a border that its producer fills.
    InPlace,
    /// The operand is copied into a padded temporary.
    Copy,
    /// Planes are copied into padded locals.
    Plane,
    /// Loops are cut into border and interior.
    Peeled,
}

/// The tile of a contraction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tiling {
    /// It has one.
    Made {
        /// Whether its sums are in matrix tiles.
        matrix: bool,
        /// The loop of the rows and how many there are.
        rows: Option<(Var, usize)>,
        /// The loop of the columns and how many there are.
        columns: (Var, usize),
    },
    /// Iterations of this loop depend on each other.
    Dependence(Var),
    /// No output loop is contiguous in the operands.
    NoUnitStride,
}

/// Whether a nest has vector loops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vectors {
    /// All loops that could have lanes do.
    All,
    /// Some loops stay scalar.
    Some,
    /// No loop was left.
    NothingLeft,
    /// None has, for this reason.
    None(Scalar),
}

/// Why a loop stays scalar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    /// Padding depends on the position.
    Padding,
    /// Iterations depend on each other.
    Dependence,
    /// No loop is contiguous.
    NoUnitStride,
    /// Lanes cannot compute something in it.
    Lanes(lanes::Refusal),
}

/// Loops that are cut for threads, which make one statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Their extents.
    pub extents: Vec<usize>,
    /// How many parts there are.
    pub parts: usize,
    /// The threads that are worth waking for it.
    pub worth: usize,
}

/// Why a statement is not cut for threads. Of several, the first counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Serial {
    /// Iterations depend on each other.
    Dependence,
    /// There is no loop.
    NoLoop,
    /// There is one thread.
    OneThread,
    /// There is too little work to wake a thread.
    Small,
}
