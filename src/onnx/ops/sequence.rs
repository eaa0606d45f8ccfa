//! Sequences and optional values: the host runs all of their operators.

use super::super::host::sequences;
use super::{OpEntry, op};

pub(super) const OPS: &[OpEntry] = &[
    op("ConcatFromSequence", 11, sequences).in_sessions(),
    op("Optional", 15, sequences).in_sessions(),
    op("OptionalGetElement", 15, sequences).in_sessions(),
    op("OptionalHasElement", 15, sequences).in_sessions(),
    op("SequenceAt", 11, sequences).in_sessions(),
    op("SequenceConstruct", 11, sequences).in_sessions(),
    op("SequenceEmpty", 11, sequences).in_sessions(),
    op("SequenceErase", 11, sequences).in_sessions(),
    op("SequenceInsert", 11, sequences).in_sessions(),
    op("SequenceLength", 11, sequences).in_sessions(),
    op("SequenceMap", 17, sequences).in_sessions(),
    op("SplitToSequence", 11, sequences).in_sessions(),
];
