//! The operations of the host, as the table of operators has them, against results worked out by hand.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "a list of one operand is written like a longer one")]

use super::super::table;
use crate::error::{Error, ErrorKind};
use crate::host::{HostOp, Item};
use crate::onnx::MAX_OPSET;
use crate::onnx::attributes::Attributes;
use crate::onnx::external::External;
use crate::onnx::model::Opsets;
use crate::onnx::node::operator::HostNode;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::scope::Scope;
use crate::tensor::{Element, Tensor};

/// The operation that a node of the newest operator set with one result is.
fn op(name: &str, attributes: &[(&str, i64)]) -> HostOp {
    op_of(name, attributes, MAX_OPSET, 1)
}

fn op_of(name: &str, attributes: &[(&str, i64)], opset: i64, outputs: usize) -> HostOp {
    let attribute = |(name, value): &(&str, i64)| AttributeProto {
        name: Some((*name).into()),
        i: Some(*value),
        ..AttributeProto::default()
    };
    host_op(name, attributes.iter().map(attribute).collect(), opset, outputs)
}

fn host_op(name: &str, attribute: Vec<AttributeProto>, opset: i64, outputs: usize) -> HostOp {
    let node = NodeProto { attribute, ..NodeProto::default() };
    let opsets = Opsets::new();
    let scope = Scope::new(&opsets);
    let attributes = &Attributes::new(&node, &scope).unwrap();
    let node = HostNode { attributes, external: &External::default(), opset, outputs };
    let op = table()[&("", name)].host_op(&node).unwrap().unwrap();
    attributes.expect_all_read().unwrap();
    op
}

fn filled_with_7() -> HostOp {
    let value = TensorProto {
        data_type: Some(DataType::Int32 as i32),
        dims: vec![1],
        int32_data: vec![7],
        ..TensorProto::default()
    };
    let attribute =
        AttributeProto { name: Some("value".into()), t: Some(value), ..AttributeProto::default() };
    host_op("ConstantOfShape", vec![attribute], MAX_OPSET, 1)
}

#[test]
fn what_the_host_runs_depends_on_the_version() {
    for (name, since) in [("Reshape", 5), ("Slice", 10), ("Split", 13)] {
        let (node, opsets) = (NodeProto::default(), Opsets::new());
        let scope = Scope::new(&opsets);
        let attributes = &Attributes::new(&node, &scope).unwrap();
        let runs = |opset| {
            let node = HostNode { attributes, external: &External::default(), opset, outputs: 1 };
            table()[&("", name)].host_op(&node).unwrap().is_some()
        };
        assert_eq!((runs(since - 1), runs(since)), (false, true), "{name}");
    }
}

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
    assert_eq!(one(&op("NonZero", &[]), &[x]), t(&[2, 3], &[0i64, 1, 1, 1, 0, 2]));
    assert_eq!(one(&op("NonZero", &[]), &[t(&[], &[true])]), t::<i64>(&[0, 1], &[]));
    assert_eq!(one(&op("NonZero", &[]), &[t::<i32>(&[0, 2], &[])]), t::<i64>(&[2, 0], &[]));
}

#[test]
fn compress_along_an_axis_and_flat() {
    let x = t(&[3, 2], &[1i32, 2, 3, 4, 5, 6]);
    let (rows, columns) = (t(&[2], &[false, true]), t(&[2], &[false, true]));
    assert_eq!(one(&op("Compress", &[("axis", 0)]), &[x.clone(), rows]), t(&[1, 2], &[3i32, 4]));
    assert_eq!(one(&op("Compress", &[("axis", -1)]), &[x.clone(), columns]), t(&[3, 1], &[2i32, 4, 6]));
    let flat = t(&[5], &[true, false, false, false, true]);
    assert_eq!(one(&op("Compress", &[]), &[x.clone(), flat]), t(&[2], &[1i32, 5]));
    let long = t(&[4], &[true; 4]);
    assert_eq!(error(&op("Compress", &[("axis", 0)]), &[x, long]).kind(), ErrorKind::Shape);
}

#[test]
fn slices_in_both_directions() {
    let x = t(&[2, 4], &[0i64, 1, 2, 3, 4, 5, 6, 7]);
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        one(&op("Slice", &[]), &[x.clone(), ints(starts), ints(ends), ints(axes), ints(steps)])
    };
    assert_eq!(slice(&[1, 0], &[2, 3], &[0, 1], &[1, 2]), t(&[1, 2], &[4i64, 6]));
    assert_eq!(slice(&[-1], &[i64::MIN], &[1], &[-2]), t(&[2, 2], &[3i64, 1, 7, 5]));
    assert_eq!(slice(&[i64::MAX], &[i64::MIN], &[-1], &[i64::MIN]), t(&[2, 1], &[3i64, 7]));
    assert_eq!(slice(&[3], &[1], &[1], &[1]), t::<i64>(&[2, 0], &[]));
    assert_eq!(slice(&[1], &[i64::MAX], &[1], &[i64::MAX]), t(&[2, 1], &[1i64, 5]));
    let zero = error(&op("Slice", &[]), &[x, ints(&[0]), ints(&[1]), ints(&[0]), ints(&[0])]);
    assert_eq!(zero.kind(), ErrorKind::Invalid);
    assert_eq!(
        one(&op("Slice", &[]), &[t::<i64>(&[0], &[]), ints(&[-1]), ints(&[-9]), ints(&[0]), ints(&[-1])]),
        t::<i64>(&[0], &[])
    );
}

#[test]
fn shapes_that_are_values() {
    let x = t(&[2, 3], &[1u8, 2, 3, 4, 5, 6]);
    let reshape = |allow_zero: i64| op("Reshape", &[("allowzero", allow_zero)]);
    let data = [1u8, 2, 3, 4, 5, 6];
    assert_eq!(one(&reshape(0), &[x.clone(), ints(&[0, -1, 1])]), t(&[2, 3, 1], &data));
    for bad in [&[4, -1][..], &[-1, -1], &[7], &[-2, 3], &[0, 0, 0]] {
        error(&reshape(0), &[x.clone(), ints(bad)]);
    }
    error(&reshape(1), &[x.clone(), ints(&[0, -1])]);
    let row = t(&[1, 2], &[1.5f32, 2.5]);
    assert_eq!(one(&op("Expand", &[]), &[row.clone(), ints(&[2, 1])]), t(&[2, 2], &[1.5f32, 2.5, 1.5, 2.5]));
    assert_eq!(one(&op("Expand", &[]), &[row.clone(), ints(&[0, 1])]), t::<f32>(&[0, 2], &[]));
    assert_eq!(error(&op("Expand", &[]), &[row.clone(), ints(&[3])]).kind(), ErrorKind::Shape);
    assert_eq!(error(&op("Expand", &[]), &[row.clone(), ints(&[1 << 60, 1])]).kind(), ErrorKind::Limit);
    assert_eq!(one(&op("Tile", &[]), &[row.clone(), ints(&[1, 2])]), t(&[1, 4], &[1.5f32, 2.5, 1.5, 2.5]));
    assert_eq!(error(&op("Tile", &[]), &[row, ints(&[1 << 60, 1 << 60])]).kind(), ErrorKind::Limit);
    let filled = filled_with_7();
    assert_eq!(one(&filled, &[ints(&[2])]), t(&[2], &[7i32, 7]));
    assert_eq!(one(&filled, &[ints(&[])]), t(&[], &[7i32]));
    assert_eq!(error(&filled, &[ints(&[-1])]).kind(), ErrorKind::Invalid);
}

#[test]
fn ranges() {
    let range = |a: i64, b: i64, d: i64| op("Range", &[]).run(&[t(&[], &[a]), t(&[], &[b]), t(&[], &[d])]);
    assert_eq!(range(1, 8, 3).unwrap()[0], ints(&[1, 4, 7]));
    assert_eq!(range(3, 0, -2).unwrap()[0], ints(&[3, 1]));
    assert_eq!(range(3, 0, 1).unwrap()[0], ints(&[]));
    assert_eq!(range(0, 3, 0).unwrap_err().message(), "delta is 0");
    assert_eq!(range(i64::MIN, i64::MAX, 1).unwrap_err().kind(), ErrorKind::Limit);
    let floats = |a: f32, b: f32, d: f32| op("Range", &[]).run(&[t(&[], &[a]), t(&[], &[b]), t(&[], &[d])]);
    assert_eq!(floats(1.0, 2.0, 0.5).unwrap()[0], t(&[2], &[1.0f32, 1.5]));
    for (a, b, d) in [(0.0, 1.0, 0.0), (0.0, f32::INFINITY, 1.0), (f32::NAN, 1.0, 1.0)] {
        floats(a, b, d).unwrap_err();
    }
}

#[test]
fn top_k_ties_and_nan() {
    let x = t(&[2, 4], &[1.0f32, 3.0, 3.0, f32::NAN, -1.0, 5.0, 0.0, 5.0]);
    let largest = op("TopK", &[]);
    let results = largest.run(&[x.clone(), ints(&[2])]).unwrap();
    assert_eq!(results[1], t(&[2, 2], &[3i64, 1, 1, 3]));
    let smallest = op_of("TopK", &[("axis", 0), ("largest", 0), ("k", 1)], 9, 2);
    let results = smallest.run(&[x.clone()]).unwrap();
    assert_eq!(results, [t(&[1, 4], &[-1.0f32, 3.0, 0.0, 5.0]), t(&[1, 4], &[1i64, 0, 1, 1])]);
    assert_eq!(error(&largest, &[x.clone(), ints(&[5])]).kind(), ErrorKind::Shape);
    assert_eq!(one(&largest, &[x, ints(&[0])]), t::<f32>(&[2, 0], &[]));
}

#[test]
fn unique_elements_and_slices() {
    let x = t(&[6], &[2.0f32, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let sorted = op("Unique", &[]).run(&[x.clone()]).unwrap();
    let expected = [
        t(&[4], &[1.0f32, 2.0, 3.0, 4.0]),
        ints(&[1, 0, 3, 4]),
        ints(&[1, 0, 0, 2, 3, 2]),
        ints(&[2, 1, 2, 1]),
    ];
    assert_eq!(sorted, expected);
    let found = op("Unique", &[("sorted", 0)]).run(&[x]).unwrap();
    assert_eq!(found[0], t(&[4], &[2.0f32, 1.0, 3.0, 4.0]));
    assert_eq!(found[2], ints(&[0, 1, 1, 2, 3, 2]));
    let columns = t(&[2, 3], &[true, false, true, false, false, false]);
    let results = op("Unique", &[("axis", 1)]).run(&[columns]).unwrap();
    assert_eq!(results[0], t(&[2, 2], &[false, true, false, false]));
    assert_eq!(results[3], ints(&[1, 2]));
}

#[test]
fn boxes_that_overlap() {
    let boxes = t(&[1, 3, 4], &[0.0f32, 0.0, 1.0, 1.0, 1.0, 1.1, 0.0, 0.1, 0.0, 10.0, 1.0, 11.0]);
    let scores = t(&[1, 2, 3], &[0.9f32, 0.75, 0.6, 0.1, 0.2, 0.3]);
    let op = op("NonMaxSuppression", &[]);
    let limits = |n: i64, overlap: f32, score: f32| [ints(&[n]), t(&[1], &[overlap]), t(&[1], &[score])];
    let run = |limits: [Item; 3]| one(&op, &[&[boxes.clone(), scores.clone()][..], &limits].concat());
    assert_eq!(run(limits(3, 0.5, 0.25)), t(&[3, 3], &[0i64, 0, 0, 0, 0, 2, 0, 1, 2]));
    assert_eq!(run(limits(1, 0.5, 0.0)), t(&[2, 3], &[0i64, 0, 0, 0, 1, 2]));
    assert_eq!(one(&op, &[boxes.clone(), scores.clone()]), t::<i64>(&[0, 3], &[]));
    assert_eq!(error(&op, &[boxes.clone(), boxes]).kind(), ErrorKind::Shape);
}

#[test]
fn sequences_grow_and_shrink() {
    let list = one(&op("SequenceConstruct", &[]), &[ints(&[1]), ints(&[2, 3])]);
    assert_eq!(one(&op("SequenceLength", &[]), &[list.clone()]), t(&[], &[2i64]));
    assert_eq!(one(&op("SequenceAt", &[]), &[list.clone(), t(&[], &[-1i64])]), ints(&[2, 3]));
    let outside = error(&op("SequenceAt", &[]), &[list.clone(), t(&[], &[2i64])]);
    let message = "the index 2 in 'position' is outside 0..2 (or -2..0, counted from the end)";
    assert_eq!((outside.kind(), outside.message()), (ErrorKind::Index, message));
    let longer = one(&op("SequenceInsert", &[]), &[list.clone(), ints(&[9]), t(&[], &[0i64])]);
    let longer = one(&op("SequenceInsert", &[]), &[longer, ints(&[8]), t(&[], &[3i64])]);
    let join = op("ConcatFromSequence", &[("axis", 0)]);
    assert_eq!(one(&join, &[longer.clone()]), ints(&[9, 1, 2, 3, 8]));
    error(&op("ConcatFromSequence", &[("axis", 0), ("new_axis", 1)]), &[longer.clone()]);
    let shorter = one(&op("SequenceErase", &[]), &[longer, Item::Absent]);
    assert_eq!(one(&op("SequenceLength", &[]), &[shorter]), t(&[], &[3i64]));
    error(&op("SequenceInsert", &[]), &[list.clone(), t(&[1], &[1.0f32])]);
    error(&op("SequenceErase", &[]), &[Item::Sequence(Vec::new())]);
    error(&join, &[Item::Sequence(Vec::new())]);
    let stacked = op("ConcatFromSequence", &[("axis", -1), ("new_axis", 1)]);
    let pair = one(&op("SequenceConstruct", &[]), &[ints(&[1, 2]), ints(&[3, 4])]);
    assert_eq!(one(&stacked, &[pair]), t(&[2, 2], &[1i64, 3, 2, 4]));
}

#[test]
fn tensors_in_parts() {
    let x = t(&[2, 3], &[1i64, 2, 3, 4, 5, 6]);
    let split = |sizes: Item, axis, keep_dims| {
        let op = op("SplitToSequence", &[("axis", axis), ("keepdims", i64::from(keep_dims))]);
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
    let parts = op_of("Split", &[("axis", 1)], MAX_OPSET, 2).run(&[x.clone(), ints(&[1, 2])]).unwrap();
    assert_eq!(parts, [t(&[2, 1], &[1i64, 4]), t(&[2, 2], &[2i64, 3, 5, 6])]);
    let equal = op_of("Split", &[("axis", 1)], MAX_OPSET, 2).run(&[x.clone()]).unwrap();
    assert_eq!(equal[1], t(&[2, 1], &[3i64, 6]));
    assert_eq!(
        error(&op_of("Split", &[("axis", 1)], MAX_OPSET, 2), &[x, ints(&[1, 1])]).kind(),
        ErrorKind::Shape
    );
}

#[test]
fn bits_as_another_type() {
    let x = t(&[2], &[1.0f32, -0.0]);
    let bits = op("BitCast", &[("to", DataType::Int32 as i64)]);
    assert_eq!(one(&bits, &[x.clone()]), t(&[2], &[0x3f80_0000i32, i32::MIN]));
    let back = op("BitCast", &[("to", DataType::Float as i64)]);
    assert_eq!(one(&back, &[one(&bits, &[x.clone()])]), x);
    assert_eq!(error(&back, &[t(&[1], &[1.0f64])]).kind(), ErrorKind::Shape);
}

#[test]
fn optional_values() {
    assert_eq!(one(&op("OptionalHasElement", &[]), &[Item::Absent]), t(&[], &[false]));
    assert_eq!(one(&op("OptionalHasElement", &[]), &[]), t(&[], &[false]));
    assert_eq!(one(&op("OptionalHasElement", &[]), &[Item::Sequence(Vec::new())]), t(&[], &[true]));
    assert_eq!(one(&op("OptionalGetElement", &[]), &[ints(&[1])]), ints(&[1]));
    assert_eq!(error(&op("OptionalGetElement", &[]), &[Item::Absent]).kind(), ErrorKind::Invalid);
}
