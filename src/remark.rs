//! Remarks: why something was or was not done, as passes find it out.
//!
//! A [`Reason`] has what it follows from, buffers and variables by their numbers, so that whoever decides by it compares no
//! texts. Nodes and nests are known by their names: programs change, nests come and go. Sentences are made in `report`.

mod fusion;
mod graph;
mod schedule;

pub use crate::lanes::Refusal;
pub use fusion::{Apart, Joined, Merge};
pub use graph::{BatchNorm, Integers, KeptNorm, NotFolded};
pub use schedule::{Cut, NotFiltered, PaddingWay, Ring, RingShape, Scalar, Serial, Strips, Tiling, Vectors};

use nestjit_ir::excerpt::Placement;
use nestjit_ir::{BufId, Program, Var};

/// Why something was or was not done: a line of the report.
#[derive(Clone, PartialEq, Debug)]
pub struct Remark {
    /// What it is about: the producer, if two nests are concerned.
    pub subject: Subject,
    /// The nest or node that reads what the subject makes, if there is one.
    pub consumer: Option<String>,
    /// The bytes that pass through memory because a merge was not made, or that a merge saved.
    pub bytes: usize,
    /// What was found out.
    pub reason: Reason,
}

/// What a remark is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A node of the graph, by its name.
    Node(String),
    /// A nest, by the name that it had.
    Nest(String),
    /// A buffer.
    Buffer(BufId),
}

impl Remark {
    /// A remark about a node.
    pub fn node(name: impl Into<String>, reason: Reason) -> Remark {
        Remark { subject: Subject::Node(name.into()), consumer: None, bytes: 0, reason }
    }

    /// A remark about a nest.
    pub fn nest(name: impl Into<String>, reason: Reason) -> Remark {
        Remark { subject: Subject::Nest(name.into()), consumer: None, bytes: 0, reason }
    }

    /// A remark about a buffer.
    pub fn buffer(buf: BufId, reason: Reason) -> Remark {
        Remark { subject: Subject::Buffer(buf), consumer: None, bytes: 0, reason }
    }

    /// The name of what it is about, in the program or in what the program was made from.
    pub fn producer<'a>(&'a self, program: &'a Program) -> &'a str {
        match &self.subject {
            Subject::Node(name) | Subject::Nest(name) => name,
            Subject::Buffer(buf) => &program.buf(*buf).name,
        }
    }

    /// What it says of a nest, where the nest of the excerpt that it was made for stands in a program.
    pub fn placed(&self, program: &Program, placement: &Placement, nest: &str) -> Remark {
        let subject = match &self.subject {
            Subject::Nest(_) => Subject::Nest(nest.to_owned()),
            Subject::Buffer(buf) => Subject::Buffer(placement.buf(*buf)),
            Subject::Node(name) => Subject::Node(name.clone()),
        };
        let reason = self.reason.placed(program, placement);
        Remark { subject, consumer: self.consumer.clone(), bytes: self.bytes, reason }
    }

    /// The pass that speaks.
    pub fn pass(&self) -> &'static str {
        self.reason.pass()
    }

    /// A stable reason code such as `recompute` or `epilogue`.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// Whether the pass did what it considered, or declined.
    pub fn applied(&self) -> bool {
        self.reason.applied()
    }
}

/// What passes find out.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// IntegerContractions: what became of a contraction with quantised operands.
    Integers(Integers),
    /// FoldConstant: why a constant node is not computed at compile time.
    NotFolded(NotFolded),
    /// GatherOperands: only what is gathered of a table is computed.
    GatheredFirst,
    /// FoldBatchNorm: where a BatchNorm went.
    BatchNorm(BatchNorm),
    /// JoinActivations: so many operations are one activation.
    Activation {
        /// How many there were.
        operations: usize,
    },
    /// ByteTables: so many operations are one table.
    Table {
        /// How many there were.
        operations: usize,
    },
    /// MergeSiblings: these nodes, by their names, are one contraction.
    Siblings {
        /// The names.
        nodes: Vec<String>,
    },
    /// OpFusion: two nests became one.
    Merged(Merge),
    /// OpFusion: a buffer stays in memory between two nests.
    Apart {
        /// The buffer.
        buf: BufId,
        /// Why it does.
        why: Apart,
    },
    /// ContractTemps: a buffer shrank.
    Contracted {
        /// Its bytes before.
        before: usize,
        /// Its bytes then.
        after: usize,
    },
    /// ChooseLayout: a buffer lies in another order.
    Layout {
        /// The dimension whose elements are neighbours.
        innermost: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// Winograd: what minimal filtering brings a convolution.
    Filtering {
        /// Outputs of a tile along a dimension.
        outputs: usize,
        /// The estimated share of the time of the direct convolution.
        share: f64,
        /// The rows of tiles of a block; `None` if it does not pay.
        rows: Option<usize>,
    },
    /// Winograd: why a convolution cannot be computed by minimal filtering.
    NotFiltered(NotFiltered),
    /// RowRings: whether a ring of rows was made.
    Ring(Ring),
    /// PeelBorders: what became of guarded loads.
    Padding {
        /// What was done first, if anything was.
        way: Option<PaddingWay>,
        /// Whether some loads remain guarded.
        guards_remain: bool,
    },
    /// RoundOperands: what `bf16` would bring a contraction.
    Rounding {
        /// The estimated share of the time in `f32`.
        share: f64,
        /// Whether the operands are rounded.
        pays: bool,
    },
    /// Tile: the tile of a contraction.
    Tile(Tiling),
    /// Vectorize: whether a nest has vector loops.
    Vectors(Vectors),
    /// BlockSums: the longest sum of a nest is made in blocks.
    Blocks {
        /// Additions to one element in sequence.
        additions: usize,
    },
    /// Parallelize: how a nest is cut for threads.
    Parallel(Vec<Cut>),
    /// Parallelize: why a nest is not.
    Serial(Serial),
}

impl Reason {
    /// The pass that finds such things out.
    pub fn pass(&self) -> &'static str {
        match self {
            Reason::Integers(_) => "IntegerContractions",
            Reason::NotFolded(_) => "FoldConstant",
            Reason::GatheredFirst => "GatherOperands",
            Reason::BatchNorm(_) => "FoldBatchNorm",
            Reason::Activation { .. } => "JoinActivations",
            Reason::Table { .. } => "ByteTables",
            Reason::Siblings { .. } => "MergeSiblings",
            Reason::Merged(_) | Reason::Apart { .. } => "OpFusion",
            Reason::Contracted { .. } => "ContractTemps",
            Reason::Layout { .. } => "ChooseLayout",
            Reason::Filtering { .. } | Reason::NotFiltered(_) => "Winograd",
            Reason::Ring(_) => "RowRings",
            Reason::Padding { .. } => "PeelBorders",
            Reason::Rounding { .. } => "RoundOperands",
            Reason::Tile(_) => "Tile",
            Reason::Vectors(_) => "Vectorize",
            Reason::Blocks { .. } => "BlockSums",
            Reason::Parallel(_) | Reason::Serial(_) => "Parallelize",
        }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::Integers(integers) => match integers {
                Integers::Multiplied | Integers::ExactFloats => "integer",
                Integers::Packed => "packed",
                Integers::FloatOperand { .. } => "float-operand",
                Integers::ScaleAlongSum { .. } => "scale-along-sum",
                Integers::PaddedZeroPoint | Integers::UnknownZeroPoint => "zero-point",
                Integers::Scale => "scale",
                Integers::SumOverflow { .. } => "sum-overflow",
            },
            Reason::NotFolded(NotFolded::Larger { .. }) => "larger",
            Reason::NotFolded(NotFolded::Fails { .. }) => "fails",
            Reason::BatchNorm(BatchNorm::Folded { .. }) => "fold-batch-norm",
            Reason::BatchNorm(BatchNorm::Kept(kept)) => match kept {
                KeptNorm::Shared => "shared-producer",
                KeptNorm::DynamicWeights => "dynamic-weights",
                KeptNorm::NoWeights => "no-weights",
                KeptNorm::HalfWeights => "half-weights",
            },
            Reason::GatheredFirst => "gathered-first",
            Reason::Activation { .. } => "activation",
            Reason::Table { .. } => "table",
            Reason::Siblings { .. } => "sibling",
            Reason::Merged(merge) => merge.code(),
            Reason::Apart { why, .. } => why.code(),
            Reason::Contracted { .. } => "contracted",
            Reason::Layout { .. } => "layout",
            Reason::Filtering { rows: Some(_), .. } => "winograd",
            Reason::Filtering { rows: None, .. } => "no-gain",
            Reason::NotFiltered(NotFiltered::Layout) => "layout",
            Reason::NotFiltered(NotFiltered::DynamicWeights) => "dynamic-weights",
            Reason::NotFiltered(NotFiltered::Dependence) => "dependence",
            Reason::Ring(Ring { made: Some(_), .. }) => "ring",
            Reason::Ring(Ring { made: None, .. }) => "ring-cost",
            Reason::Padding { way: Some(way), .. } => match way {
                PaddingWay::InPlace => "in-place",
                PaddingWay::Copy => "padded-copy",
                PaddingWay::Plane => "padded-plane",
                PaddingWay::Peeled => "peeled",
            },
            Reason::Padding { way: None, guards_remain: true } => "guards-remain",
            Reason::Padding { way: None, guards_remain: false } => "inside",
            Reason::Rounding { pays: true, .. } => "bf16",
            Reason::Rounding { pays: false, .. } => "no-gain",
            Reason::Tile(Tiling::Made { .. }) => "tile",
            Reason::Tile(Tiling::Dependence(_)) => "dependence",
            Reason::Tile(Tiling::NoUnitStride) => "no-unit-stride",
            Reason::Vectors(Vectors::All | Vectors::Some) => "vectorized",
            Reason::Vectors(Vectors::NothingLeft) => "nothing-left",
            Reason::Vectors(Vectors::None(scalar)) => match scalar {
                Scalar::Padding => "padding",
                Scalar::Dependence => "dependence",
                Scalar::NoUnitStride => "no-unit-stride",
                Scalar::Lanes(_) => "scalar",
            },
            Reason::Blocks { .. } => "blocked",
            Reason::Parallel(_) => "parallel",
            Reason::Serial(serial) => match serial {
                Serial::Dependence => "dependence",
                Serial::NoLoop => "no-loop",
                Serial::OneThread => "one-thread",
                Serial::Small => "small",
            },
        }
    }

    /// Whether something was done.
    pub fn applied(&self) -> bool {
        match self {
            Reason::Integers(integers) => match integers {
                Integers::Multiplied | Integers::ExactFloats | Integers::Packed => true,
                Integers::FloatOperand { .. }
                | Integers::ScaleAlongSum { .. }
                | Integers::PaddedZeroPoint
                | Integers::Scale
                | Integers::UnknownZeroPoint
                | Integers::SumOverflow { .. } => false,
            },
            Reason::BatchNorm(norm) => matches!(norm, BatchNorm::Folded { .. }),
            Reason::Filtering { rows, .. } => rows.is_some(),
            Reason::Ring(ring) => ring.made.is_some(),
            Reason::Padding { way, guards_remain } => way.is_some() || !guards_remain,
            Reason::Rounding { pays, .. } => *pays,
            Reason::Tile(tiling) => matches!(tiling, Tiling::Made { .. }),
            Reason::Vectors(vectors) => matches!(vectors, Vectors::All | Vectors::Some),
            Reason::GatheredFirst
            | Reason::Activation { .. }
            | Reason::Table { .. }
            | Reason::Siblings { .. }
            | Reason::Merged(_)
            | Reason::Contracted { .. }
            | Reason::Layout { .. }
            | Reason::Blocks { .. }
            | Reason::Parallel(_) => true,
            Reason::NotFolded(_) | Reason::Apart { .. } | Reason::NotFiltered(_) | Reason::Serial(_) => false,
        }
    }

    /// The same with the numbers of the program in which an excerpt is placed. What is not found out about excerpts stays.
    fn placed(&self, program: &Program, placement: &Placement) -> Reason {
        match self {
            Reason::Apart { buf, why } => {
                Reason::Apart { buf: placement.buf(*buf), why: why.placed(program, placement) }
            }
            Reason::Tile(tiling) => Reason::Tile(match *tiling {
                Tiling::Made { matrix, rows, columns } => {
                    let placed = |(var, n): (Var, usize)| (placement.var(var), n);
                    Tiling::Made { matrix, rows: rows.map(placed), columns: placed(columns) }
                }
                Tiling::Dependence(var) => Tiling::Dependence(placement.var(var)),
                Tiling::NoUnitStride => Tiling::NoUnitStride,
            }),
            other => other.clone(),
        }
    }
}
