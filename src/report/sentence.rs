//! What remarks say, in a sentence each.

use std::fmt::Write as _;

use nestjit_ir::{BufId, Program};

use crate::lanes::Refusal;
use crate::remark::{
    Apart, BatchNorm, Cut, Integers, Joined, KeptNorm, Merge, NotFiltered, NotFolded, PaddingWay, Reason,
    Remark, Ring, RingShape, Scalar, Serial, Subject, Tiling, Vectors,
};

impl Remark {
    /// One sentence for people. Buffers and loops have the names that they have in `program`: what the passes left, or what
    /// was made of it.
    pub fn message(&self, program: &Program) -> String {
        let node = match &self.subject {
            Subject::Node(name) | Subject::Nest(name) => name.as_str(),
            Subject::Buffer(_) => "",
        };
        match &self.reason {
            Reason::Integers(integers) => self::integers(node, integers),
            Reason::NotFolded(why) => {
                let why = match why {
                    NotFolded::Larger { result, operands } => {
                        format!("the result has {result} bytes, the operands only {operands}")
                    }
                    NotFolded::Fails { error } => error.clone(),
                };
                format!("{node} is constant, but not computed at compile time: {why}")
            }
            Reason::BatchNorm(BatchNorm::Folded { into }) => {
                let norm = self.consumer.as_deref().unwrap_or_default();
                format!("{norm} is folded into the weights of {into}")
            }
            Reason::BatchNorm(BatchNorm::Kept(why)) => {
                let why = match why {
                    KeptNorm::Shared => "what it normalises is used elsewhere",
                    KeptNorm::DynamicWeights => "the weights or the bias before it are not constant",
                    KeptNorm::NoWeights => "it does not follow a convolution or a matrix product",
                    KeptNorm::HalfWeights => {
                        "the weights are of a half type and read too seldom for being widened to pay"
                    }
                };
                format!("{node} is not folded into weights: {why}")
            }
            Reason::GatheredFirst => {
                format!("{node} takes elements of the operands, before the table is computed of them")
            }
            Reason::Activation { operations } => {
                format!("{operations} operations on halves are one activation, rounded once")
            }
            Reason::Table { operations } => {
                format!("{node} is looked up in a table of 256 bytes, instead of {operations} operations")
            }
            Reason::Siblings { nodes } => {
                format!("one contraction of the same operand: {}", nodes.join(", "))
            }
            Reason::Merged(merge) => merged(program, merge),
            Reason::Apart { .. } | Reason::Ring(Ring { made: None, .. }) => {
                format!("not fused: {}", not_fused(program, &self.reason).unwrap_or_default())
            }
            Reason::Contracted { before, after } => format!("{before} bytes became {after}"),
            Reason::Layout { innermost, shape } => {
                format!("dimension {innermost} of {shape:?} lies innermost in memory")
            }
            Reason::Filtering { outputs: m, share, rows } => {
                let share = 100.0 * share;
                let what =
                    format!("F({m}x{m}, 3x3) is estimated to take {share:.0} % of the direct convolution");
                match rows {
                    Some(rows) => format!("{what}; blocks of {rows} rows of tiles"),
                    None => what,
                }
            }
            Reason::NotFiltered(why) => match why {
                NotFiltered::Layout => "vectors cannot run along the channels",
                NotFiltered::DynamicWeights => "the filters are not constant",
                NotFiltered::Dependence => "rows or columns of the output depend on each other",
            }
            .to_owned(),
            Reason::Ring(Ring { bufs, share, made: Some(made) }) => {
                let names: Vec<String> = bufs.iter().map(|b| name(program, *b)).collect();
                format!("{}: {}; {}", shape(made), names.join(", "), estimate(*share))
            }
            Reason::Padding { way, guards_remain } => padding(*way, *guards_remain).to_owned(),
            Reason::Rounding { share, .. } => {
                format!("bf16 is estimated to take {:.0} % of the time of f32", 100.0 * share)
            }
            Reason::Tile(tiling) => tile(program, *tiling),
            Reason::Vectors(vectors) => match vectors {
                Vectors::All => "vector loops".to_owned(),
                Vectors::Some => "vector loops; some loops stay scalar".to_owned(),
                Vectors::NothingLeft => "no loop left to vectorise".to_owned(),
                Vectors::None(why) => format!("scalar: {}", scalar(*why)),
            },
            Reason::Blocks { additions } => format!("{additions} additions in sequence are made in blocks"),
            Reason::Parallel(cuts) => parallel(cuts),
            Reason::Serial(why) => match why {
                Serial::Small => "serial: too little work to wake a thread",
                Serial::Dependence => "serial: iterations depend on each other",
                Serial::NoLoop => "serial: no loop",
                Serial::OneThread => "serial",
            }
            .to_owned(),
        }
    }
}

/// Why loops stay scalar, as a clause.
pub fn scalar(why: Scalar) -> &'static str {
    match why {
        Scalar::Padding => "padding depends on the position",
        Scalar::Dependence => "iterations depend on each other",
        Scalar::NoUnitStride => "no loop is contiguous",
        Scalar::Lanes(refusal) => lanes(refusal),
    }
}

/// What lanes cannot compute, as a noun.
pub fn lanes(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::WideDivision => "a division of integers of 64 bits",
        Refusal::Power => "a power of integers",
        Refusal::ComputedIndex => "an index that is not affine",
        Refusal::CheckedValue => "a value that is checked",
        Refusal::Call => "a call",
        Refusal::NotOnFloats => "an operation that is not defined on floating-point numbers",
        Refusal::NotOnBools => "an operation that is not defined on truth values",
        Refusal::NotOnIntegers => "an operation that is not defined on integers",
        Refusal::AddressNotAffine => "an address that is not affine",
        Refusal::CheckedIndex => "an index that needs a check",
        Refusal::GatherTooFar => "a gather from a buffer that is too large",
        Refusal::TooLong => "too many instructions",
        Refusal::StoresToOneElement => "lanes that store to one element",
        Refusal::OperandType => "an operand of another type",
        Refusal::ByteType => "a byte of another type",
        Refusal::NoIteration => "a loop without iterations",
        Refusal::LocalTooLarge => "a local buffer that is too large",
        Refusal::LocalWithoutPlace => "a local buffer that has no place",
        Refusal::WideIndex => "an index of more than 32 bits",
        Refusal::Rank => "a wrong rank",
        Refusal::IndexTooLarge => "an index that leaves 64 bits",
        Refusal::GuardTooFar => "a guard whose limits are too far apart",
        Refusal::PaddedComputedIndex => "an index that is not affine, with padding",
        Refusal::LocalComputedIndex => "an index into a local buffer that is not affine",
        Refusal::LocalByLane => "a local buffer that each lane indexes in its own way",
        Refusal::LocalFromOutside => "a local buffer indexed from outside",
    }
}

/// Why a loop is not a part of a kernel.
pub fn refused(why: Option<Refusal>) -> &'static str {
    why.map_or("no vector loop", lanes)
}

/// Why a buffer stays in memory between nests, with its name before; `None` if that is not what the reason says.
pub(super) fn not_fused(program: &Program, reason: &Reason) -> Option<String> {
    match reason {
        Reason::Apart { buf, why: Apart::OtherReaders } => {
            Some(format!("{} has other consumers", name(program, *buf)))
        }
        Reason::Apart { buf, why } => Some(format!("{}: {}", name(program, *buf), apart(program, why))),
        Reason::Ring(Ring { bufs, share, made: None }) => {
            let first = bufs.first().map(|b| name(program, *b)).unwrap_or_default();
            Some(format!("{first}: a ring of rows is {}", estimate(*share)))
        }
        _ => None,
    }
}

fn name(program: &Program, buf: BufId) -> String {
    format!("%{}", program.buf(buf).name)
}

fn integers(node: &str, integers: &Integers) -> String {
    let why = match integers {
        Integers::Multiplied => {
            return format!("{node} multiplies the 8-bit integers of its quantised operands");
        }
        Integers::ExactFloats => {
            let how = "multiplies the integers of its quantised operands in f32, where their sums are exact";
            return format!("{node} {how}");
        }
        Integers::Packed => return format!("{node} takes its weights, of 4 bits, out of their bytes"),
        Integers::FloatOperand { value } => {
            format!("'{}' is not (q - zero) * scale of an 8-bit tensor q", value.escape_debug())
        }
        Integers::ScaleAlongSum { value, shape, axis } => {
            let value = value.escape_debug();
            format!("'{value}' {shape:?} varies along dimension {axis}, which is summed up")
        }
        Integers::PaddedZeroPoint => {
            "padding stands for a zero point that need not be an 8-bit integer".to_owned()
        }
        Integers::Scale => "the product of its scales is infinite or no number".to_owned(),
        Integers::UnknownZeroPoint => {
            "nothing is known of a zero point, so sums could leave 32 bits".to_owned()
        }
        Integers::SumOverflow { terms } => format!(
            "sums of {terms} products can leave 32 bits, which hold those of {} at most",
            i32::MAX / (255 * 128)
        ),
    };
    format!("{node} does not multiply 8-bit integers: {why}")
}

fn merged(program: &Program, merge: &Merge) -> String {
    match merge {
        Merge::View { part, of } => {
            format!("no copy: {} is a part of {}", name(program, *part), name(program, *of))
        }
        Merge::WhereRead { buf } => format!("computed where it is read: {}", name(program, *buf)),
        Merge::Joined { how, bufs } => {
            let how = match how {
                Joined::SideBySide => "computed side by side",
                Joined::Elementwise => "computed on each element at once",
                Joined::RowByRow => "computed row by row",
                Joined::InSequence => "computed one after the other in one nest",
            };
            let names: Vec<String> = bufs.iter().map(|b| name(program, *b)).collect();
            format!("{how}: {}", names.join(", "))
        }
    }
}

fn apart(program: &Program, why: &Apart) -> String {
    let extents = |extents: &[usize]| extents.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    let fixed = match why {
        Apart::Call => "one of them is a call of a runtime function",
        Apart::ConsumerIsCall => "the consumer is a call of a runtime function",
        Apart::OtherReaders => "it has other consumers",
        Apart::EpilogueOnly => "only elementwise operations are to be merged",
        Apart::Scheduled => "one of them has a schedule already",
        Apart::Window => "the consumer reads a window of several iterations",
        Apart::ContiguousOutside => "the loop along contiguous elements would become an outer one",
        Apart::RowsApart => "the rows of the contraction would be computed one by one",
        Apart::ReductionAlongVectors => {
            "a reduction would run along the loops that the other's vectors run along"
        }
        Apart::LosesVectorLoops => "the contraction would lose the loops that its vectors run along",
        Apart::LosesFiltering { row_by_row: true } => {
            "row by row, the convolution could not be computed by minimal filtering"
        }
        Apart::LosesFiltering { row_by_row: false } => {
            "with what follows, the convolution could not be computed by minimal filtering"
        }
        Apart::TwoTiles => "two tiles of accumulators would not fit the registers",
        Apart::Flattened => "the consumer does not walk the flattened dimension by itself",
        Apart::LongExpression => "the expression is too long to be substituted",
        Apart::ComputedIndex => "the consumer computes the index at run time",
        Apart::IndexTooFar => "one index within the other would leave 64 bits",
        Apart::Padded => "the consumer pads what the producer computes",
        Apart::Between { nest } => return format!("@{nest} comes between them"),
        Apart::Statements { most } => return format!("the nest would have over {most} statements"),
        Apart::NoCommonLoop { bytes } => {
            return format!("no loop is common to both, and {bytes} bytes pass between them");
        }
        Apart::LoopsDiffer { first, second } => {
            return format!("no loop of {} corresponds to one of {}", extents(first), extents(second));
        }
        Apart::NeededComplete { first, second } => return format!("{first} is needed complete by {second}"),
        Apart::Carried { conflict } => return conflict.clone(),
        Apart::FewIterations { iterations } => {
            return format!("only {iterations} iterations of the common loops would be independent");
        }
        Apart::RowTooLarge { bytes } => {
            return format!("{bytes} bytes would have to stay in the second-level cache");
        }
        Apart::Gathers { buf } => {
            return format!("the vectors of the contraction would gather from {}", name(program, *buf));
        }
        Apart::LosesLanes(what) => {
            let what = lanes(*what);
            return format!("one of them has {what}, and the other would lose its vector loops by it");
        }
        Apart::ReadsAgain { bytes, times } => {
            return format!("row by row, the contraction would read {bytes} bytes {times} times");
        }
        Apart::WeightsAgain { operand, weights, bytes, times } => {
            let weights = weights.map_or("%".to_owned(), |b| name(program, b));
            let operand = name(program, *operand);
            return format!(
                "contracting {operand} row by row would read {bytes} bytes of {weights} {times} times"
            );
        }
        Apart::ReadForEachBlock { bytes } => {
            return format!("{bytes} bytes would be read for every block of rows");
        }
        Apart::Converted { times } => return format!("converted {times}x"),
        Apart::Recomputed { times } => return format!("recompute {times}x"),
    };
    fixed.to_owned()
}

fn estimate(share: Option<f64>) -> String {
    match share {
        Some(share) => format!("estimated to take {:.0} % of the time", 100.0 * share),
        None => "no gain: what lies between stays in the second-level cache".to_owned(),
    }
}

fn shape(ring: &RingShape) -> String {
    let first = ring
        .first
        .map(|s| format!("{} strips of {} blocks of {}x{} rows", s.strips, s.blocks, s.steps, s.rows));
    format!("{}, {} bytes", first.unwrap_or_default(), ring.bytes)
}

fn padding(way: Option<PaddingWay>, guards_remain: bool) -> &'static str {
    match (way, guards_remain) {
        (Some(PaddingWay::InPlace), _) => "padding: the operand has a border that its producer fills",
        (Some(PaddingWay::Copy), _) => "padding: the operand is copied into a padded temporary",
        (Some(PaddingWay::Plane), _) => "padding: each plane is copied into a padded local",
        (Some(PaddingWay::Peeled), false) => "padding: loops are cut into border and interior",
        (Some(PaddingWay::Peeled), true) => {
            "padding: loops are cut into border and interior; guards remain in the border"
        }
        (None, false) => "padding: no access leaves its buffer",
        (None, true) => "padding: guards remain",
    }
}

fn tile(program: &Program, tiling: Tiling) -> String {
    match tiling {
        Tiling::Made { matrix, rows, columns } => {
            let what = if matrix { "block of matrix tiles" } else { "tile" };
            let over = rows.map(|r| format!("{} x ", program.var_name(r.0))).unwrap_or_default();
            let (high, wide) = (rows.map_or(1, |r| r.1), columns.1);
            format!("{what} {high}x{wide} over {over}{}", program.var_name(columns.0))
        }
        Tiling::Dependence(var) => {
            format!("not tiled: iterations of {} depend on each other", program.var_name(var))
        }
        Tiling::NoUnitStride => "not tiled: no output loop is contiguous in the operands".to_owned(),
    }
}

fn parallel(cuts: &[Cut]) -> String {
    let list = |what: &dyn Fn(&Cut) -> String| cuts.iter().map(what).collect::<Vec<_>>().join(", ");
    let product = |c: &Cut| c.extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let (extents, parts) = (list(&product), list(&|c| c.parts.to_string()));
    let mut message = format!("parallel loops of {extents} iterations, in {parts} parts");
    if let Some(few) = cuts.iter().find(|c| c.parts < c.worth) {
        let _ = write!(message, "; there are no more for {} threads", few.worth);
    }
    message
}
