//! Operators that later versions of ONNX have in another form.

use nestjit_ir::Scalar;

use super::super::gather::gather_nd;
use super::super::movement::pad_by;
use super::super::shape::{range, trilu};
use super::{Halt, NodeCx, OpEntry, Result, contrib, host, one};
use crate::graph::ValueId;
use crate::host::{HostOp, Item, extent as host_extent, order};
use crate::tensor::Tensor;

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("ExpandDims", expand_dims),
    contrib("GatherND", gather_nd),
    contrib("Pad", |cx| {
        cx.expect_inputs(3)?;
        let pads = cx.input(1)?;
        let pads = cx.known_ints(pads, "the input 'pads'")?;
        pad_by(cx, &pads)
    }),
    contrib("Range", |cx| {
        cx.expect_inputs(3)?;
        range(cx)
    })
    .on_host(|_| {
        Ok(HostOp::tensor(|x| {
            let start = x.tensor(0)?;
            let one = Tensor::from(Scalar::from_f64(start.dtype(), 1.0));
            host_extent::range(start, x.tensor(1)?, x.optional(2)?.unwrap_or(&one))
        }))
    }),
    contrib("Trilu", trilu),
    contrib("Unique", host::at_once).always_on_host(|_| {
        Ok(HostOp::new(3, |x| {
            // In the order in which they come; where each comes first is not asked for.
            let results = order::unique(x.tensor(0)?, None, false)?;
            let wanted = results.into_iter().enumerate().filter(|(i, _)| *i != 1);
            Ok(wanted.map(|(_, tensor)| Item::Tensor(tensor)).collect())
        }))
    }),
];

fn expand_dims(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let (x, at) = (cx.input(0)?, cx.input(1)?);
    let at = cx.known_int(at, "the axis")?;
    let rank = cx.rank(x);
    let from_start = if at < 0 { at + rank as i64 + 1 } else { at };
    match usize::try_from(from_start).ok().filter(|at| *at <= rank) {
        Some(at) => one(cx.unsqueeze(x, at)),
        None => Err(Halt::invalid(format!("axis {at} does not exist in a tensor of rank {}", rank + 1))),
    }
}
