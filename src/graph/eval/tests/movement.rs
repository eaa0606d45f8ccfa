//! Operations that only move elements.

use std::slice::from_ref;

use super::*;
use crate::graph::PadMode;

#[test]
fn reshape_and_transpose() {
    let x = ints(&[2, 3], &[0, 1, 2, 3, 4, 5]);
    assert_eq!(eval(Op::Reshape { shape: vec![3, 2] }, from_ref(&x)), ints(&[3, 2], &[0, 1, 2, 3, 4, 5]));
    assert_eq!(eval(Op::Transpose { perm: vec![1, 0] }, from_ref(&x)), ints(&[3, 2], &[0, 3, 1, 4, 2, 5]));
    let cube = ints(&[2, 1, 3], &[0, 1, 2, 3, 4, 5]);
    assert_eq!(eval(Op::Transpose { perm: vec![2, 0, 1] }, &[cube]), ints(&[3, 2, 1], &[0, 3, 1, 4, 2, 5]));
    let scalar = Tensor::scalar(4i64);
    assert_eq!(eval(Op::Transpose { perm: vec![] }, from_ref(&scalar)), scalar);
    assert_eq!(eval(Op::Reshape { shape: vec![1, 1] }, &[scalar]), ints(&[1, 1], &[4]));
    let empty = eval(Op::Reshape { shape: vec![7, 0] }, &[t(&[0, 3], &[])]);
    assert_eq!(empty.shape(), [7, 0]);
}

#[test]
fn slices_go_both_ways() {
    let x = ints(&[2, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let slice = |starts: &[usize], extents: &[usize], steps: &[i64]| Op::Slice {
        starts: starts.to_vec(),
        extents: extents.to_vec(),
        steps: steps.to_vec(),
    };
    assert_eq!(eval(slice(&[1, 0], &[1, 3], &[1, 2]), from_ref(&x)), ints(&[1, 3], &[5, 7, 9]));
    assert_eq!(eval(slice(&[1, 4], &[2, 2], &[-1, -3]), from_ref(&x)), ints(&[2, 2], &[9, 6, 4, 1]));
    assert_eq!(eval(slice(&[0, 5], &[2, 0], &[1, 1]), &[x]).shape(), [2, 0]);
}

#[test]
fn padding_modes() {
    let x = ints(&[4], &[1, 2, 3, 4]);
    let pad = |begin, end, mode| {
        let y = eval(Op::Pad { begin: vec![begin], end: vec![end], mode }, from_ref(&x));
        y.values::<i64>().unwrap().to_vec()
    };
    assert_eq!(pad(1, 2, PadMode::Constant(9.0)), [9, 1, 2, 3, 4, 9, 9]);
    assert_eq!(pad(2, 3, PadMode::Reflect), [3, 2, 1, 2, 3, 4, 3, 2, 1]);
    assert_eq!(pad(2, 1, PadMode::Edge), [1, 1, 1, 2, 3, 4, 4]);
    assert_eq!(pad(2, 3, PadMode::Wrap), [3, 4, 1, 2, 3, 4, 1, 2, 3]);
    assert_eq!(pad(-1, 1, PadMode::Constant(9.0)), [2, 3, 4, 9]);
    assert_eq!(pad(-2, -1, PadMode::Edge), [3]);
    assert_eq!(pad(-1, 2, PadMode::Reflect), [2, 3, 4, 3, 2]);
    assert_eq!(pad(-6, 4, PadMode::Constant(9.0)), [9, 9]);
    assert_eq!(pad(3, -6, PadMode::Constant(9.0)), [9]);
    let plane = Op::Pad { begin: vec![1, 0], end: vec![0, 1], mode: PadMode::Constant(0.5) };
    let y = eval(plane, &[t(&[1, 2], &[1.0, 2.0])]);
    assert_close(&y, &[2, 3], &[0.5, 0.5, 0.5, 1.0, 2.0, 0.5]);
}

#[test]
fn concat_and_split_are_inverse() {
    let x = ints(&[2, 3], &[0, 1, 2, 3, 4, 5]);
    let split = Op::Split { axis: 1, sizes: vec![1, 0, 2] };
    let parts = evaluate_op(&split, from_ref(&x)).unwrap();
    assert_eq!(parts[0], ints(&[2, 1], &[0, 3]));
    assert_eq!(parts[1].shape(), [2, 0]);
    assert_eq!(parts[2], ints(&[2, 2], &[1, 2, 4, 5]));
    assert_eq!(eval(Op::Concat { axis: 1 }, &parts), x);
    let rows = eval(Op::Concat { axis: 0 }, &[t(&[1, 1], &[1.0]), t(&[2, 1], &[2.0, 3.0])]);
    assert_close(&rows, &[3, 1], &[1.0, 2.0, 3.0]);
}

#[test]
fn gather_and_expand() {
    let x = ints(&[2, 3], &[0, 1, 2, 3, 4, 5]);
    let y = eval(Op::Gather { axis: 1 }, &[x.clone(), ints(&[2, 2], &[0, -1, -3, 1])]);
    assert_eq!(y, ints(&[2, 2, 2], &[0, 2, 0, 1, 3, 5, 3, 4]));
    let y = eval(Op::Gather { axis: 0 }, &[x.clone(), Tensor::scalar(1i32)]);
    assert_eq!(y, ints(&[3], &[3, 4, 5]));
    let error = evaluate_op(&Op::Gather { axis: 0 }, &[x, ints(&[1], &[-3])]).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Index);
    let y = eval(Op::Expand { shape: vec![2, 2, 2] }, &[ints(&[2, 1], &[7, 8])]);
    assert_eq!(y, ints(&[2, 2, 2], &[7, 7, 8, 8, 7, 7, 8, 8]));
}
