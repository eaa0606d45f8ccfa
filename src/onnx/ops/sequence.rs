//! Sequences and optional values: the host runs all of their operators.

use super::super::host::sequences;
use super::{OpEntry, op};

pub(super) const OPS: &[OpEntry] = &[
    op("ConcatFromSequence", 11, sequences),
    op("Optional", 15, sequences),
    op("OptionalGetElement", 15, sequences),
    op("OptionalHasElement", 15, sequences),
    op("SequenceAt", 11, sequences),
    op("SequenceConstruct", 11, sequences),
    op("SequenceEmpty", 11, sequences),
    op("SequenceErase", 11, sequences),
    op("SequenceInsert", 11, sequences),
    op("SequenceLength", 11, sequences),
    op("SequenceMap", 17, sequences),
    op("SplitToSequence", 11, sequences),
];
