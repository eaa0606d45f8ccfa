//! Constants of 8-bit integers: their sums, their largest sums of magnitudes, the same numbers in the other type.

use nestjit_ir::DType;

use crate::error::{Error, Result};
use crate::graph::Op;
use crate::graph::eval::evaluate_op;
use crate::tensor::Tensor;

/// The elements as numbers, by the byte.
fn number(dtype: DType) -> Result<impl Fn(u8) -> i32> {
    // Of a signed byte with its highest bit turned over, 128 is too much: no case distinction for each element.
    let high: u8 = match dtype {
        DType::U8 => 0,
        DType::I8 => 0x80,
        other @ (DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I64
        | DType::I32
        | DType::I16
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::Bool) => {
            return Err(Error::internal(format!("a tensor of {other} has no elements of 8 bits")));
        }
    };
    Ok(move |byte: u8| i32::from(byte ^ high) - i32::from(high))
}

/// The sums of `of(element, parameter)` along `axes`, which stay with extent 1. `parameter` has one element, or those
/// of the result.
fn fold(
    tensor: &Tensor,
    axes: &[usize],
    parameter: &[i32],
    of: impl Fn(i32, i32) -> i64,
) -> Result<(Vec<usize>, Vec<i64>)> {
    let number = number(tensor.dtype())?;
    let kept: Vec<usize> =
        tensor.shape().iter().enumerate().map(|(d, n)| if axes.contains(&d) { 1 } else { *n }).collect();
    // Neighbouring dimensions that are all added up or all kept are one: its extent, and whether it is kept.
    let mut runs: Vec<(usize, bool)> = Vec::new();
    for (d, &extent) in tensor.shape().iter().enumerate().filter(|(_, n)| **n != 1) {
        let keeps = !axes.contains(&d);
        match runs.last_mut() {
            Some((run, same)) if *same == keeps => *run *= extent,
            _ => runs.push((extent, keeps)),
        }
    }
    // The place of an element's sum moves by a stride per dimension.
    let mut strides = vec![0; runs.len()];
    let mut stride = 1;
    for (own, (extent, _)) in strides.iter_mut().zip(&runs).rev().filter(|(_, run)| run.1) {
        *own = stride;
        stride *= extent;
    }
    let mut sums = vec![0i64; kept.iter().product()];
    let bytes = tensor.bytes()?;
    let inner = runs.last().map_or(1, |run| run.0).max(1);
    let mut index = vec![0usize; runs.len().saturating_sub(1)];
    let parameter = |at: usize| parameter.get(at).or(parameter.first()).copied().unwrap_or(0);
    for row in bytes.chunks(inner) {
        let first: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        if runs.last().is_some_and(|run| run.1) {
            for (i, (sum, byte)) in sums[first..].iter_mut().zip(row).enumerate() {
                *sum += of(number(*byte), parameter(first + i));
            }
        } else {
            let parameter = parameter(first);
            sums[first] += row.iter().map(|byte| of(number(*byte), parameter)).sum::<i64>();
        }
        for (i, (extent, _)) in index.iter_mut().zip(&runs).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
    Ok((kept, sums))
}

/// The sums along `axes`, which stay with extent 1, modulo 2^32.
pub(super) fn sums(tensor: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let (shape, sums) = fold(tensor, axes, &[], |q, _| i64::from(q))?;
    Tensor::new(&shape, &sums.iter().map(|sum| *sum as i32).collect::<Vec<i32>>())
}

/// The largest sum of `|element - zero|` along `axes`.
pub(super) fn largest_sum(tensor: &Tensor, axes: &[usize], zero: &[i32]) -> Result<i64> {
    let magnitude = |q: i32, zero: i32| (i64::from(q) - i64::from(zero)).abs();
    Ok(fold(tensor, axes, zero, magnitude)?.1.into_iter().max().unwrap_or(0))
}

/// The elements less 128 as `i8` (from `u8`), or plus 128 as `u8` (from `i8`).
pub(super) fn flipped(tensor: &Tensor) -> Result<Tensor> {
    let to = if tensor.dtype() == DType::U8 { DType::I8 } else { DType::U8 };
    let bytes: Vec<u8> = tensor.bytes()?.iter().map(|byte| byte ^ 0x80).collect();
    Tensor::from_bytes(to, tensor.shape(), &bytes)
}

/// The elements less `zero` as `i8`, if they all fit.
pub(super) fn shifted(tensor: &Tensor, zero: i32) -> Result<Option<Tensor>> {
    let number = number(tensor.dtype())?;
    let shift = |byte: &u8| i8::try_from(number(*byte).wrapping_sub(zero)).ok();
    let shifted: Option<Vec<i8>> = tensor.bytes()?.iter().map(shift).collect();
    shifted.map(|values| Tensor::new(tensor.shape(), &values)).transpose()
}

/// The elements of filters less `zeros`, one for each filter or one for all, in `f32`.
pub(super) fn floats(filters: &Tensor, zeros: &[i32]) -> Result<Tensor> {
    let number = number(filters.dtype())?;
    let each = filters.shape().iter().skip(1).product::<usize>().max(1);
    let zero = |filter: usize| zeros.get(filter).or(zeros.first()).copied().unwrap_or(0);
    let less = |(i, byte): (usize, &u8)| (i64::from(number(*byte)) - i64::from(zero(i / each))) as f32;
    let floats: Vec<f32> = filters.bytes()?.iter().enumerate().map(less).collect();
    Tensor::new(filters.shape(), &floats)
}

/// A rearrangement of the elements.
pub(super) fn moved(tensor: &Tensor, op: &Op) -> Result<Tensor> {
    match op {
        Op::Reshape { shape } => tensor.reshape(shape),
        Op::Transpose { perm } => {
            let bytes = Tensor::from_bytes(DType::U8, tensor.shape(), tensor.bytes()?)?;
            let view = bytes.view::<u8>()?;
            let shape: Vec<usize> = perm.iter().map(|d| tensor.shape()[*d]).collect();
            let elements: Vec<u8> = view.permuted_axes(perm.as_slice()).iter().copied().collect();
            Tensor::from_bytes(tensor.dtype(), &shape, &elements)
        }
        op => {
            let result = evaluate_op(op, std::slice::from_ref(tensor))?.pop();
            result.ok_or_else(|| Error::internal("a rearrangement has no result"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_numbers() {
        let t = Tensor::new(&[2, 2, 3], &[1i8, -2, 3, 4, 5, -6, 7, 8, 9, -10, 11, 12]).unwrap();
        let of = |axes: &[usize]| {
            let sums = sums(&t, axes).unwrap();
            (sums.shape().to_vec(), sums.values::<i32>().unwrap().to_vec())
        };
        assert_eq!(of(&[1]), (vec![2, 1, 3], vec![5, 3, -3, -3, 19, 21]));
        assert_eq!(of(&[0, 2]), (vec![1, 2, 1], vec![26, 16]));
        assert_eq!(of(&[0, 1, 2]), (vec![1, 1, 1], vec![42]));
        assert_eq!(of(&[]).1.len(), 12);
        assert_eq!(largest_sum(&t, &[1, 2], &[0]).unwrap(), 57);
        assert_eq!(largest_sum(&t, &[1, 2], &[0, 10]).unwrap(), 3 + 2 + 1 + 20 + 1 + 2);
        let empty = Tensor::new::<i8>(&[3, 0], &[]).unwrap();
        assert_eq!(sums(&empty, &[1]).unwrap().values::<i32>().unwrap(), [0, 0, 0]);
        assert_eq!(sums(&empty, &[0]).unwrap().shape(), [1, 0]);
    }

    #[test]
    fn types_change_by_128_and_zero_points_go_where_there_is_room() {
        let t = Tensor::new(&[3], &[0u8, 128, 255]).unwrap();
        let i8s = flipped(&t).unwrap();
        assert_eq!(i8s.values::<i8>().unwrap(), [-128, 0, 127]);
        assert_eq!(flipped(&i8s).unwrap(), t);
        assert_eq!(shifted(&t, 128).unwrap(), Some(i8s));
        assert_eq!(shifted(&t, 127).unwrap(), None);
        let narrow = Tensor::new(&[2], &[100u8, 200]).unwrap();
        let shifted = shifted(&narrow, 150).unwrap().unwrap();
        assert_eq!(shifted.values::<i8>().unwrap(), [-50, 50]);
    }

    #[test]
    fn rearrangements_are_those_of_the_evaluator() {
        let t = Tensor::new(&[2, 3], &[1i8, 2, 3, 4, 5, 6]).unwrap();
        for op in [Op::Transpose { perm: vec![1, 0] }, Op::Reshape { shape: vec![3, 2] }] {
            let expected = evaluate_op(&op, std::slice::from_ref(&t)).unwrap().remove(0);
            assert_eq!(moved(&t, &op).unwrap(), expected);
        }
    }
}
