//! What is known of an operator: which versions have it, how a node of it is imported, and what the host does if it
//! cannot be.

use std::collections::HashMap;

use super::super::attributes::Attributes;
use super::super::external::External;
use super::super::halt::Result;
use super::super::model::{MAX_ML_OPSET, MAX_OPSET, ML_DOMAIN};
use super::NodeCx;
use crate::error;
use crate::graph::ValueId;
use crate::host::HostOp;

/// The results of a node, from what it is given.
pub(in crate::onnx) type Import = fn(&mut NodeCx<'_>) -> Result<Vec<ValueId>>;

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
    /// one ([`OpEntry::newest`]) it is not supported; of other operators everything is that has only
    /// attributes and inputs which are known.
    pub changing: bool,
    /// For an operator that becomes several core operations: the operands whose types its outputs have, in order, the last
    /// one for all further outputs. On half types it is computed in `f32` throughout, and each output is rounded once. Empty
    /// for what is one core operation, or moves and compares only.
    pub(in crate::onnx) rounded_like: &'static [usize],
    pub(in crate::onnx) import: Import,
    host: Option<HostEntry>,
}

/// Operators by domain and name.
pub(in crate::onnx) type Operators = HashMap<(&'static str, &'static str), &'static OpEntry>;

/// The operation of the host that a node is.
pub(in crate::onnx) type OnHost = fn(&HostNode<'_>) -> error::Result<HostOp>;

/// How the host runs an operator.
#[derive(Clone, Copy, Debug)]
struct HostEntry {
    /// The first version of the domain's operator set that it runs.
    since: i64,
    /// Whether it does so whatever the operands are.
    always: bool,
    op: OnHost,
}

/// What decides which operation of the host a node is.
pub(in crate::onnx) struct HostNode<'a> {
    pub attributes: &'a Attributes<'a>,
    pub external: &'a External,
    /// The version of the node's operator set.
    pub opset: i64,
    /// How many results are listed.
    pub outputs: usize,
}

/// An output that has the type it is computed in, whatever the operands are.
pub(in crate::onnx) const AS_COMPUTED: usize = usize::MAX;

/// An operator of the default domain.
pub(in crate::onnx) const fn op(name: &'static str, since: i64, import: Import) -> OpEntry {
    OpEntry {
        domain: "",
        name,
        since,
        until: None,
        session: false,
        changing: false,
        rounded_like: &[],
        import,
        host: None,
    }
}

/// An operator of ONNX Runtime's own domain, of which there is one version.
pub(in crate::onnx) const fn contrib(name: &'static str, import: Import) -> OpEntry {
    op(name, 1, import).of_domain("com.microsoft").until(1)
}

impl OpEntry {
    /// The same operator, of another domain.
    pub(in crate::onnx) const fn of_domain(self, domain: &'static str) -> OpEntry {
        OpEntry { domain, ..self }
    }

    /// The same operator, which versions after `until` do not have.
    pub(in crate::onnx) const fn until(self, until: i64) -> OpEntry {
        OpEntry { until: Some(until), ..self }
    }

    /// The same operator, whose meaning is not settled.
    pub(in crate::onnx) const fn changing(self) -> OpEntry {
        OpEntry { changing: true, ..self }
    }

    /// The same operator, of several steps, none of which is rounded to a half type.
    pub(in crate::onnx) const fn in_f32(self, rounded_like: &'static [usize]) -> OpEntry {
        OpEntry { rounded_like, ..self }
    }

    /// The same operator, which only a session can run.
    pub(in crate::onnx) const fn in_sessions(self) -> OpEntry {
        OpEntry { session: true, ..self }
    }

    /// The same operator, which the host can run when its import asks for what it is not told.
    pub(in crate::onnx) const fn on_host(self, op: OnHost) -> OpEntry {
        self.on_host_since(self.since, op)
    }

    /// The same operator, which the host can run from this version on.
    pub(in crate::onnx) const fn on_host_since(self, since: i64, op: OnHost) -> OpEntry {
        OpEntry { host: Some(HostEntry { since, always: false, op }), ..self }
    }

    /// The same operator, which the host runs whatever its operands are, so that it can follow on one that the host
    /// runs, before shapes are known.
    pub(in crate::onnx) const fn always_on_host(self, op: OnHost) -> OpEntry {
        OpEntry { host: Some(HostEntry { since: self.since, always: true, op }), ..self }
    }

    /// The newest known version of the operator set of its domain.
    pub fn newest(&self) -> i64 {
        if self.domain == ML_DOMAIN { MAX_ML_OPSET } else { MAX_OPSET }
    }

    /// The version of the operator set, if there is one only.
    pub(in crate::onnx) fn only_version(&self) -> Option<i64> {
        self.until.filter(|until| *until == self.since && !self.domain.is_empty())
    }

    /// Whether the host runs it whatever its operands are.
    pub(in crate::onnx) fn is_always_on_host(&self) -> bool {
        self.host.is_some_and(|host| host.always)
    }

    /// The operation of the host that a node is, if the host can run it.
    pub(in crate::onnx) fn host_op(&self, node: &HostNode<'_>) -> error::Result<Option<HostOp>> {
        let host = self.host.filter(|host| node.opset >= host.since);
        let Some(op) = host.map(|host| (host.op)(node)).transpose()? else { return Ok(None) };
        if node.outputs > op.results() {
            return Err(error::Error::unsupported(format!(
                "it has {} outputs, but the operator has {}",
                node.outputs,
                op.results()
            )));
        }
        Ok(Some(op))
    }
}
