//! Orders: the largest elements, and sequences turned round.

use nestjit_ir::{CheckKind, DType};

use super::gather::{gather_elements, steps};
use super::{Halt, NodeCx, OpEntry, Result, axes, axis, extent, one, op};
use crate::graph::{Binary, Op, PadMode, Reduction, Unary, ValueId};
use crate::host::{HostOp, int, order};

pub(super) const OPS: &[OpEntry] = &[
    op("CenterCropPad", 18, center_crop_pad),
    op("ReverseSequence", 10, reverse_sequence),
    op("TopK", 1, top_k).on_host(|n| {
        n.attributes.ignore(&[SORTED]);
        let axis = n.attributes.int("axis")?.unwrap_or(-1);
        let largest = n.attributes.int("largest")?.unwrap_or(1) != 0;
        let k = if n.opset < 10 { n.attributes.int("k")? } else { None };
        Ok(HostOp::new(2, move |x| {
            let k = k.map_or_else(|| int(x.tensor(1)?, "k"), Ok)?;
            let (values, indices) = order::top_k(x.tensor(0)?, axis, k, largest)?;
            Ok(vec![values.into(), indices.into()])
        }))
    }),
];

/// Unsorted results may be in any order: sorted is one.
const SORTED: &str = "sorted";

/// The longest dimension for which that pays, if there is a choice.
const NEST: usize = 64;

/// The longest dimension whose elements are all compared to each other.
const COMPARED: usize = 1 << 14;

/// An element's rank is the number of elements before it. Elements of rank `0..k` are found by comparing ranks.
fn top_k(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let along = cx.axis(-1, cx.rank(x))?;
    let k = match cx.opset < 10 {
        true => cx.required_int("k")?,
        false => {
            let k = cx.input(1)?;
            cx.known_int(k, "k")?
        }
    };
    // Comparing all with all is a loop nest, sorting is not.
    if cx.sink.is_staged() && cx.shape(x)[along] > NEST {
        return Err(Halt::host("it sorts"));
    }
    let largest = cx.flag("largest", true)?;
    cx.attributes.ignore(&[SORTED]);
    let shape = cx.shape(x);
    let (n, k) = (shape[along], extent(k, "k")?);
    if k > n {
        return Err(Halt::shape(format!("k is {k}, but there are only {n} elements")));
    }
    if n > COMPARED {
        return Err(Halt::limit(format!(
            "there are {n} elements to choose from, but at most {COMPARED} are possible"
        )));
    }
    // [.., n] with the dimension last; `this` is [.., n, 1], `other` [.., 1, n].
    let rank = shape.len();
    let mut perm: Vec<usize> = (0..rank).filter(|d| *d != along).collect();
    perm.push(along);
    let last = cx.transpose(x, &perm)?;
    let (this, other) = (cx.unsqueeze(last, rank)?, cx.unsqueeze(last, rank - 1)?);
    let (greater, less) = if largest { (other, this) } else { (this, other) };
    let mut before = cx.binary(Binary::Gt, greater, less)?;
    let mut after = cx.binary(Binary::Gt, less, greater)?;
    // NaN is greater than every number.
    if cx.dtype(x).is_float() {
        let (a, b) = (cx.unary(Unary::IsNan, greater)?, cx.unary(Unary::IsNan, less)?);
        let (not_a, not_b) = (cx.unary(Unary::Not, a)?, cx.unary(Unary::Not, b)?);
        let only_a = cx.binary(Binary::And, a, not_b)?;
        let only_b = cx.binary(Binary::And, b, not_a)?;
        before = cx.binary(Binary::Or, before, only_a)?;
        after = cx.binary(Binary::Or, after, only_b)?;
    }
    // Of equal elements the first comes first.
    let (rows, columns) = (steps(cx, rank + 1, rank - 1, n, 1)?, steps(cx, rank + 1, rank, n, 1)?);
    let earlier = cx.binary(Binary::Lt, columns, rows)?;
    let not_after = cx.unary(Unary::Not, after)?;
    let tie = cx.binary(Binary::And, not_after, earlier)?;
    let before = cx.binary(Binary::Or, before, tie)?;
    let before = cx.cast(before, DType::I64)?;
    let ranks = cx.reduce(Reduction::Sum, before, &[rank], false)?;
    // Where rank 0, 1, .. is: [.., k].
    let ranks = cx.unsqueeze(ranks, rank - 1)?;
    let wanted = steps(cx, rank + 1, rank - 1, k, 1)?;
    let hit = cx.binary(Binary::Eq, ranks, wanted)?;
    let hit = cx.cast(hit, DType::I64)?;
    let place = cx.binary(Binary::Mul, hit, columns)?;
    let indices = cx.reduce(Reduction::Sum, place, &[rank], false)?;
    let values = gather_elements(cx, last, indices, rank - 1)?;
    let mut inverse = vec![0; rank];
    for (i, d) in perm.iter().enumerate() {
        inverse[*d] = i;
    }
    Ok(vec![cx.transpose(values, &inverse)?, cx.transpose(indices, &inverse)?])
}

fn reverse_sequence(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let rank = shape.len();
    let batch = axis(cx.int("batch_axis", 1)?, rank)?;
    let time = axis(cx.int("time_axis", 0)?, rank)?;
    if batch == time || cx.shape(lengths) != [shape[batch]] {
        return Err(Halt::shape(format!(
            "lengths of shape {:?} do not fit sequences in a tensor of shape {shape:?}",
            cx.shape(lengths)
        )));
    }
    let mut along_batch = vec![1; rank];
    along_batch[batch] = shape[batch];
    let lengths = cx.checked(lengths, 1, CheckKind::Length, 0, shape[time] as i64 + 1)?;
    let lengths = cx.reshape(lengths, &along_batch)?;
    let steps = steps(cx, rank, time, shape[time], 1)?;
    let last = cx.binary_const(Binary::Sub, lengths, 1.0)?;
    let mirrored = cx.binary(Binary::Sub, last, steps)?;
    let inside = cx.binary(Binary::Lt, steps, lengths)?;
    let source = cx.select(inside, mirrored, steps)?;
    let source = cx.expand(source, &shape)?;
    one(gather_elements(cx, x, source, time))
}

fn center_crop_pad(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, target) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let target = cx.known_ints(target, "the shape")?;
    let along: Vec<i64> = match cx.attributes.ints("axes")? {
        Some(list) => list.to_vec(),
        None => (0..shape.len() as i64).collect(),
    };
    axes(&along, shape.len())?;
    if along.len() != target.len() {
        return Err(Halt::invalid(format!("there are {} axes, but {} extents", along.len(), target.len())));
    }
    let (mut begin, mut end) = (vec![0i64; shape.len()], vec![0i64; shape.len()]);
    for (along, target) in along.iter().zip(&target) {
        let d = axis(*along, shape.len())?;
        let added = extent(*target, "a dimension of the shape")? as i64 - shape[d] as i64;
        // The odd element goes to, or is taken from, the end.
        begin[d] = added / 2;
        end[d] = added - begin[d];
    }
    one(cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[x]))
}
