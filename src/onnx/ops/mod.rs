//! The table of operators: each has an import function that decomposes it into core operations. One file per
//! family.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::halt::Result;
use super::node::NodeCx;
use crate::graph::ValueId;

mod activation;
mod attention;
mod control;
mod conv;
mod dynamic;
mod dynamic_lstm;
mod einsum;
mod elementwise;
mod gather;
mod linear_attention;
mod loss;
mod matmul;
mod movement;
mod nbits;
mod norm;
mod pool;
mod qlinear;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod roi;
mod sampling;
mod sequence;
mod shape;
mod signal;
mod softmax;
mod sort;
mod text;
mod unfold;
mod unrolled;
mod window;

/// The results of a node, from what it is given.
pub(super) type Import = fn(&mut NodeCx<'_, '_>) -> Result<Vec<ValueId>>;

/// An operator that can be imported.
#[derive(Clone, Copy, Debug)]
pub struct OpEntry {
    /// The domain; `""` is the default domain.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The first version of the domain's operator set from which on it is supported.
    pub since: i64,
    /// The last version that has it, if it was removed since.
    pub until: Option<i64>,
    /// Whether only a session can run it: it works with sequences or optional values.
    pub session: bool,
    /// Whether recent operator sets gave nodes of this operator another meaning. In sets newer than the newest known
    /// one ([`MAX_OPSET`](super::MAX_OPSET)) it is not supported; of other operators everything is that has only
    /// attributes and inputs which are known.
    pub changing: bool,
    /// For an operator that becomes several core operations: the operands whose types its outputs have, in order, the last
    /// one for all further outputs. On half types it is computed in `f32` throughout, and each output is rounded once. Empty
    /// for what is one core operation, or moves and compares only.
    pub(super) rounded_like: &'static [usize],
    pub(super) import: Import,
}

/// An output that has the type it is computed in, whatever the operands are.
pub(super) const AS_COMPUTED: usize = usize::MAX;

/// An operator of the default domain.
const fn op(name: &'static str, since: i64, import: Import) -> OpEntry {
    OpEntry {
        domain: "",
        name,
        since,
        until: None,
        session: false,
        changing: false,
        rounded_like: &[],
        import,
    }
}

/// An operator of ONNX Runtime's own domain, of which there is one version.
const fn contrib(name: &'static str, import: Import) -> OpEntry {
    OpEntry { domain: "com.microsoft", until: Some(1), ..op(name, 1, import) }
}

impl OpEntry {
    /// The same operator, which versions after `until` do not have.
    const fn until(self, until: i64) -> OpEntry {
        OpEntry { until: Some(until), ..self }
    }

    /// The same operator, whose meaning is not settled.
    const fn changing(self) -> OpEntry {
        OpEntry { changing: true, ..self }
    }

    /// The same operator, of several steps, none of which is rounded to a half type.
    const fn in_f32(self, rounded_like: &'static [usize]) -> OpEntry {
        OpEntry { rounded_like, ..self }
    }

    /// The same operator, which only a session can run.
    const fn in_sessions(self) -> OpEntry {
        OpEntry { session: true, ..self }
    }
}

/// One result.
fn one(result: Result<ValueId>) -> Result<Vec<ValueId>> {
    Ok(vec![result?])
}

const FAMILIES: &[&[OpEntry]] = &[
    activation::OPS,
    attention::OPS,
    control::OPS,
    conv::OPS,
    dynamic::OPS,
    einsum::OPS,
    elementwise::OPS,
    gather::OPS,
    linear_attention::OPS,
    loss::OPS,
    matmul::OPS,
    movement::OPS,
    nbits::OPS,
    norm::OPS,
    pool::OPS,
    qlinear::OPS,
    quantize::OPS,
    recurrent::OPS,
    reduce::OPS,
    resize::OPS,
    roi::OPS,
    sampling::OPS,
    sequence::OPS,
    shape::OPS,
    signal::OPS,
    softmax::OPS,
    sort::OPS,
    text::OPS,
    unfold::OPS,
];

static TABLE: LazyLock<HashMap<(&str, &str), &OpEntry>> =
    LazyLock::new(|| operators().map(|entry| ((entry.domain, entry.name), entry)).collect());

/// All operators that can be imported, by family.
pub fn operators() -> impl Iterator<Item = &'static OpEntry> {
    FAMILIES.iter().copied().flatten()
}

/// The entry of an operator.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static OpEntry> {
    TABLE.get(&(domain, name)).copied()
}
