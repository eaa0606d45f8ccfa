//! The operations of the host against results worked out by hand.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "a list of one operand is written like a longer one")]

use nestjit_ir::DType;

use super::{HostOp, Item};
use crate::error::{Error, ErrorKind};
use crate::tensor::{Element, Tensor};

fn t<T: Element>(shape: &[usize], values: &[T]) -> Item {
    Item::Tensor(Tensor::new(shape, values).unwrap())
}

fn ints(values: &[i64]) -> Item {
    t(&[values.len()], values)
}

fn one(op: &HostOp, inputs: &[Item]) -> Item {
    op.run(inputs).unwrap().swap_remove(0)
}

fn error(op: &HostOp, inputs: &[Item]) -> Error {
    op.run(inputs).unwrap_err()
}

#[test]
fn positions_of_what_is_not_zero() {
    let x = t(&[2, 3], &[0.0f32, 1.0, -0.0, f32::NAN, 0.0, -2.0]);
    assert_eq!(one(&HostOp::NonZero, &[x]), t(&[2, 3], &[0i64, 1, 1, 1, 0, 2]));
    assert_eq!(one(&HostOp::NonZero, &[t(&[], &[true])]), t::<i64>(&[0, 1], &[]));
    assert_eq!(one(&HostOp::NonZero, &[t::<i32>(&[0, 2], &[])]), t::<i64>(&[2, 0], &[]));
}

#[test]
fn compress_along_an_axis_and_flat() {
    let x = t(&[3, 2], &[1i32, 2, 3, 4, 5, 6]);
    let (rows, columns) = (t(&[2], &[false, true]), t(&[2], &[false, true]));
    assert_eq!(one(&HostOp::Compress { axis: Some(0) }, &[x.clone(), rows]), t(&[1, 2], &[3i32, 4]));
    assert_eq!(one(&HostOp::Compress { axis: Some(-1) }, &[x.clone(), columns]), t(&[3, 1], &[2i32, 4, 6]));
    let flat = t(&[5], &[true, false, false, false, true]);
    assert_eq!(one(&HostOp::Compress { axis: None }, &[x.clone(), flat]), t(&[2], &[1i32, 5]));
    let long = t(&[4], &[true; 4]);
    assert_eq!(error(&HostOp::Compress { axis: Some(0) }, &[x, long]).kind(), ErrorKind::Shape);
}

#[test]
fn slices_in_both_directions() {
    let x = t(&[2, 4], &[0i64, 1, 2, 3, 4, 5, 6, 7]);
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        one(&HostOp::Slice, &[x.clone(), ints(starts), ints(ends), ints(axes), ints(steps)])
    };
    assert_eq!(slice(&[1, 0], &[2, 3], &[0, 1], &[1, 2]), t(&[1, 2], &[4i64, 6]));
    assert_eq!(slice(&[-1], &[i64::MIN], &[1], &[-2]), t(&[2, 2], &[3i64, 1, 7, 5]));
    assert_eq!(slice(&[i64::MAX], &[i64::MIN], &[-1], &[i64::MIN]), t(&[2, 1], &[3i64, 7]));
    assert_eq!(slice(&[3], &[1], &[1], &[1]), t::<i64>(&[2, 0], &[]));
    assert_eq!(slice(&[1], &[i64::MAX], &[1], &[i64::MAX]), t(&[2, 1], &[1i64, 5]));
    let zero = error(&HostOp::Slice, &[x, ints(&[0]), ints(&[1]), ints(&[0]), ints(&[0])]);
    assert_eq!(zero.kind(), ErrorKind::Invalid);
    assert_eq!(
        one(&HostOp::Slice, &[t::<i64>(&[0], &[]), ints(&[-1]), ints(&[-9]), ints(&[0]), ints(&[-1])]),
        t::<i64>(&[0], &[])
    );
}

#[test]
fn shapes_that_are_values() {
    let x = t(&[2, 3], &[1u8, 2, 3, 4, 5, 6]);
    let reshape = |allow_zero| HostOp::Reshape { allow_zero };
    let data = [1u8, 2, 3, 4, 5, 6];
    assert_eq!(one(&reshape(false), &[x.clone(), ints(&[0, -1, 1])]), t(&[2, 3, 1], &data));
    for bad in [&[4, -1][..], &[-1, -1], &[7], &[-2, 3], &[0, 0, 0]] {
        error(&reshape(false), &[x.clone(), ints(bad)]);
    }
    error(&reshape(true), &[x.clone(), ints(&[0, -1])]);
    let row = t(&[1, 2], &[1.5f32, 2.5]);
    assert_eq!(one(&HostOp::Expand, &[row.clone(), ints(&[2, 1])]), t(&[2, 2], &[1.5f32, 2.5, 1.5, 2.5]));
    assert_eq!(one(&HostOp::Expand, &[row.clone(), ints(&[0, 1])]), t::<f32>(&[0, 2], &[]));
    assert_eq!(error(&HostOp::Expand, &[row.clone(), ints(&[3])]).kind(), ErrorKind::Shape);
    assert_eq!(error(&HostOp::Expand, &[row.clone(), ints(&[1 << 60, 1])]).kind(), ErrorKind::Limit);
    assert_eq!(one(&HostOp::Tile, &[row.clone(), ints(&[1, 2])]), t(&[1, 4], &[1.5f32, 2.5, 1.5, 2.5]));
    assert_eq!(error(&HostOp::Tile, &[row, ints(&[1 << 60, 1 << 60])]).kind(), ErrorKind::Limit);
    let filled = HostOp::ConstantOfShape { value: Tensor::scalar(7i32) };
    assert_eq!(one(&filled, &[ints(&[2])]), t(&[2], &[7i32, 7]));
    assert_eq!(one(&filled, &[ints(&[])]), t(&[], &[7i32]));
    assert_eq!(error(&filled, &[ints(&[-1])]).kind(), ErrorKind::Invalid);
}

#[test]
fn ranges() {
    let range = |a: i64, b: i64, d: i64| HostOp::Range.run(&[t(&[], &[a]), t(&[], &[b]), t(&[], &[d])]);
    assert_eq!(range(1, 8, 3).unwrap()[0], ints(&[1, 4, 7]));
    assert_eq!(range(3, 0, -2).unwrap()[0], ints(&[3, 1]));
    assert_eq!(range(3, 0, 1).unwrap()[0], ints(&[]));
    assert_eq!(range(0, 3, 0).unwrap_err().message(), "delta is 0");
    assert_eq!(range(i64::MIN, i64::MAX, 1).unwrap_err().kind(), ErrorKind::Limit);
    let floats = |a: f32, b: f32, d: f32| HostOp::Range.run(&[t(&[], &[a]), t(&[], &[b]), t(&[], &[d])]);
    assert_eq!(floats(1.0, 2.0, 0.5).unwrap()[0], t(&[2], &[1.0f32, 1.5]));
    for (a, b, d) in [(0.0, 1.0, 0.0), (0.0, f32::INFINITY, 1.0), (f32::NAN, 1.0, 1.0)] {
        floats(a, b, d).unwrap_err();
    }
}

#[test]
fn top_k_ties_and_nan() {
    let x = t(&[2, 4], &[1.0f32, 3.0, 3.0, f32::NAN, -1.0, 5.0, 0.0, 5.0]);
    let largest = HostOp::TopK { axis: -1, largest: true, k: None };
    let results = largest.run(&[x.clone(), ints(&[2])]).unwrap();
    assert_eq!(results[1], t(&[2, 2], &[3i64, 1, 1, 3]));
    let smallest = HostOp::TopK { axis: 0, largest: false, k: Some(1) };
    let results = smallest.run(&[x.clone()]).unwrap();
    assert_eq!(results, [t(&[1, 4], &[-1.0f32, 3.0, 0.0, 5.0]), t(&[1, 4], &[1i64, 0, 1, 1])]);
    assert_eq!(error(&largest, &[x.clone(), ints(&[5])]).kind(), ErrorKind::Shape);
    assert_eq!(one(&largest, &[x, ints(&[0])]), t::<f32>(&[2, 0], &[]));
}

#[test]
fn unique_elements_and_slices() {
    let x = t(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let sorted = HostOp::Unique { axis: None, sorted: true }.run(&[x.clone()]).unwrap();
    let expected = [
        t(&[4], &[1.0f32, 2.0, 3.0, 4.0]),
        ints(&[1, 0, 3, 4]),
        ints(&[1, 0, 0, 2, 3, 2]),
        ints(&[2, 1, 2, 1]),
    ];
    assert_eq!(sorted, expected);
    let found = HostOp::Unique { axis: None, sorted: false }.run(&[x]).unwrap();
    assert_eq!(found[0], t(&[4], &[2.0f32, 1.0, 3.0, 4.0]));
    assert_eq!(found[2], ints(&[0, 1, 1, 2, 3, 2]));
    let columns = t(&[2, 3], &[true, false, true, false, false, false]);
    let results = HostOp::Unique { axis: Some(1), sorted: true }.run(&[columns]).unwrap();
    assert_eq!(results[0], t(&[2, 2], &[false, true, false, false]));
    assert_eq!(results[3], ints(&[1, 2]));
}

#[test]
fn boxes_that_overlap() {
    let boxes = t(&[1, 3, 4], &[0.0f32, 0.0, 1.0, 1.0, 1.0, 1.1, 0.0, 0.1, 0.0, 10.0, 1.0, 11.0]);
    let scores = t(&[1, 2, 3], &[0.9f32, 0.75, 0.6, 0.1, 0.2, 0.3]);
    let op = HostOp::NonMaxSuppression { center_point_box: false };
    let limits = |n: i64, overlap: f32, score: f32| [ints(&[n]), t(&[1], &[overlap]), t(&[1], &[score])];
    let run = |limits: [Item; 3]| one(&op, &[&[boxes.clone(), scores.clone()][..], &limits].concat());
    assert_eq!(run(limits(3, 0.5, 0.25)), t(&[3, 3], &[0i64, 0, 0, 0, 0, 2, 0, 1, 2]));
    assert_eq!(run(limits(1, 0.5, 0.0)), t(&[2, 3], &[0i64, 0, 0, 0, 1, 2]));
    assert_eq!(one(&op, &[boxes.clone(), scores.clone()]), t::<i64>(&[0, 3], &[]));
    assert_eq!(error(&op, &[boxes.clone(), boxes]).kind(), ErrorKind::Shape);
}

#[test]
fn sequences_grow_and_shrink() {
    let list = one(&HostOp::SequenceConstruct, &[ints(&[1]), ints(&[2, 3])]);
    assert_eq!(one(&HostOp::SequenceLength, &[list.clone()]), t(&[], &[2i64]));
    assert_eq!(one(&HostOp::SequenceAt, &[list.clone(), t(&[], &[-1i64])]), ints(&[2, 3]));
    let outside = error(&HostOp::SequenceAt, &[list.clone(), t(&[], &[2i64])]);
    let message = "the index 2 in 'position' is outside 0..2 (or -2..0, counted from the end)";
    assert_eq!((outside.kind(), outside.message()), (ErrorKind::Index, message));
    let longer = one(&HostOp::SequenceInsert, &[list.clone(), ints(&[9]), t(&[], &[0i64])]);
    let longer = one(&HostOp::SequenceInsert, &[longer, ints(&[8]), t(&[], &[3i64])]);
    let join = HostOp::ConcatFromSequence { axis: 0, new_axis: false };
    assert_eq!(one(&join, &[longer.clone()]), ints(&[9, 1, 2, 3, 8]));
    error(&HostOp::ConcatFromSequence { axis: 0, new_axis: true }, &[longer.clone()]);
    let shorter = one(&HostOp::SequenceErase, &[longer, Item::Absent]);
    assert_eq!(one(&HostOp::SequenceLength, &[shorter]), t(&[], &[3i64]));
    error(&HostOp::SequenceInsert, &[list.clone(), t(&[1], &[1.0f32])]);
    error(&HostOp::SequenceErase, &[Item::Sequence(Vec::new())]);
    error(&join, &[Item::Sequence(Vec::new())]);
    let stacked = HostOp::ConcatFromSequence { axis: -1, new_axis: true };
    let pair = one(&HostOp::SequenceConstruct, &[ints(&[1, 2]), ints(&[3, 4])]);
    assert_eq!(one(&stacked, &[pair]), t(&[2, 2], &[1i64, 3, 2, 4]));
}

#[test]
fn tensors_in_parts() {
    let x = t(&[2, 3], &[1i64, 2, 3, 4, 5, 6]);
    let split = |sizes: Item, axis, keep_dims| {
        let op = HostOp::SplitToSequence { axis, keep_dims };
        one(&op, &[x.clone(), sizes])
            .sequence()
            .unwrap()
            .iter()
            .map(|t| t.shape().to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(split(Item::Absent, 1, false), [[2], [2], [2]]);
    assert_eq!(split(Item::Absent, 0, true), [[1, 3], [1, 3]]);
    assert_eq!(split(t(&[], &[2i64]), 1, true), [[2, 2], [2, 1]]);
    assert_eq!(split(ints(&[0, 3]), -1, true), [[2, 0], [2, 3]]);
    let parts = HostOp::Split { axis: 1, outputs: 2 }.run(&[x.clone(), ints(&[1, 2])]).unwrap();
    assert_eq!(parts, [t(&[2, 1], &[1i64, 4]), t(&[2, 2], &[2i64, 3, 5, 6])]);
    let equal = HostOp::Split { axis: 1, outputs: 2 }.run(&[x.clone()]).unwrap();
    assert_eq!(equal[1], t(&[2, 1], &[3i64, 6]));
    assert_eq!(error(&HostOp::Split { axis: 1, outputs: 2 }, &[x, ints(&[1, 1])]).kind(), ErrorKind::Shape);
}

#[test]
fn bits_as_another_type() {
    let x = t(&[2], &[1.0f32, -0.0]);
    let bits = HostOp::BitCast { to: DType::I32 };
    assert_eq!(one(&bits, &[x.clone()]), t(&[2], &[0x3f80_0000i32, i32::MIN]));
    let back = HostOp::BitCast { to: DType::F32 };
    assert_eq!(one(&back, &[one(&bits, &[x.clone()])]), x);
    assert_eq!(error(&back, &[t(&[1], &[1.0f64])]).kind(), ErrorKind::Shape);
}

#[test]
fn optional_values() {
    assert_eq!(one(&HostOp::OptionalHasElement, &[Item::Absent]), t(&[], &[false]));
    assert_eq!(one(&HostOp::OptionalHasElement, &[]), t(&[], &[false]));
    assert_eq!(one(&HostOp::OptionalHasElement, &[Item::Sequence(Vec::new())]), t(&[], &[true]));
    assert_eq!(one(&HostOp::OptionalGetElement, &[ints(&[1])]), ints(&[1]));
    assert_eq!(error(&HostOp::OptionalGetElement, &[Item::Absent]).kind(), ErrorKind::Invalid);
}
