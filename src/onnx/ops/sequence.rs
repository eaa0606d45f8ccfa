//! Sequences and optional values: the host runs all of their operators.

use super::{OnHost, OpEntry, host, missing, op};
use crate::error::Error;
use crate::host::{HostOp, Item, sequence};
use crate::tensor::Tensor;

pub(super) const OPS: &[OpEntry] = &[
    items("ConcatFromSequence", 11, |n| {
        let axis = n.attributes.int("axis")?.ok_or_else(|| missing("axis"))?;
        let new_axis = n.attributes.int("new_axis")?.unwrap_or(0) != 0;
        Ok(HostOp::tensor(move |x| sequence::concat(x.sequence(0)?, axis, new_axis)))
    }),
    items("Optional", 15, |n| {
        n.attributes.ignore(&["type"]);
        Ok(HostOp::new(1, |x| Ok(vec![x.item(0).clone()])))
    }),
    items("OptionalGetElement", 15, |_| {
        Ok(HostOp::new(1, |x| match x.item(0) {
            Item::Absent => Err(Error::invalid("the optional value is empty")),
            item => Ok(vec![item.clone()]),
        }))
    }),
    items("OptionalHasElement", 15, |_| {
        Ok(HostOp::tensor(|x| Ok(Tensor::scalar(*x.item(0) != Item::Absent))))
    }),
    items("SequenceAt", 11, |_| Ok(HostOp::tensor(|x| sequence::at(x.sequence(0)?, x.tensor(1)?)))),
    items("SequenceConstruct", 11, |_| Ok(HostOp::new(1, |x| sequence::construct(x.all())))),
    items("SequenceEmpty", 11, |n| {
        n.attributes.ignore(&["dtype"]);
        Ok(HostOp::new(1, |_| sequence::construct(&[])))
    }),
    items("SequenceErase", 11, |_| Ok(HostOp::new(1, |x| sequence::erase(x.sequence(0)?, x.optional(1)?)))),
    items("SequenceInsert", 11, |_| {
        Ok(HostOp::new(1, |x| sequence::insert(x.sequence(0)?, x.tensor(1)?, x.optional(2)?)))
    }),
    items("SequenceLength", 11, |_| Ok(HostOp::tensor(|x| Ok(Tensor::scalar(x.sequence(0)?.len() as i64))))),
    op("SequenceMap", 17, host::only).in_sessions(),
    items("SplitToSequence", 11, |n| {
        let axis = n.attributes.int("axis")?.unwrap_or(0);
        let keep_dims = n.attributes.int("keepdims")?.unwrap_or(1) != 0;
        Ok(HostOp::new(1, move |x| sequence::split(x.tensor(0)?, x.optional(1)?, axis, keep_dims)))
    }),
];

/// An operator that takes or makes something else than tensors.
const fn items(name: &'static str, since: i64, op_of: OnHost) -> OpEntry {
    op(name, since, host::only).in_sessions().always_on_host(op_of)
}
