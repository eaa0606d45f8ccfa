//! Tensors one after the other along a dimension, as one. Nothing is read or copied before somebody looks.

use std::sync::Arc;

use super::late::Foreign;
use super::{Origin, Raw, Tensor};
use crate::error::Result;

/// The elements of several tensors of equal outer dimensions: row by row, those of each in turn.
struct Joined {
    parts: Vec<Tensor>,
    /// The bytes of a row of each part, and of all of them.
    rows: Vec<usize>,
    whole: usize,
    size: usize,
}

impl Joined {
    /// The elements of a part, in memory: a file is not read row by row.
    fn raw(part: &Tensor) -> Result<Raw<'_>> {
        match part.is_in_memory() {
            true => part.raw_if(|_| false),
            false => Ok(Raw::of(part.bytes()?)),
        }
    }
}

impl Foreign for Joined {
    fn size(&self) -> usize {
        self.size
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read(&self, at: usize, to: &mut [u8]) -> Result<()> {
        let mut scratch = Vec::new();
        // Where each part begins in a row.
        let mut first = 0;
        for (part, &row_bytes) in self.parts.iter().zip(&self.rows) {
            let raw = Joined::raw(part)?;
            let end = at + to.len();
            let mut row = at / self.whole;
            loop {
                let begin = row * self.whole + first;
                if begin >= end {
                    break;
                }
                // What of the row is asked for.
                let (from, until) = (begin.max(at), (begin + row_bytes).min(end));
                if from < until {
                    let inside = row * row_bytes + (from - begin);
                    let bytes = raw.part(inside..inside + (until - from), &mut scratch)?;
                    to[from - at..until - at].copy_from_slice(bytes);
                }
                row += 1;
            }
            first += row_bytes;
        }
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        let of = self.parts.iter().map(Tensor::origin).collect();
        Some(Origin::Computed { by: "joined", parameters: self.rows.clone(), of })
    }
}

impl Tensor {
    /// Tensors one after the other along `axis`; they differ in that dimension only. They are read and copied when the
    /// result is looked at first, or by whoever takes it as it is.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    ///
    /// # Panics
    /// If there is no tensor.
    pub(crate) fn joined(parts: Vec<Tensor>, axis: usize) -> Result<Tensor> {
        let mut shape = parts[0].shape().to_vec();
        let dtype = parts[0].dtype();
        shape[axis] = parts.iter().map(|t| t.shape()[axis]).sum();
        let row = |shape: &[usize]| shape[axis..].iter().product::<usize>() * dtype.size();
        let rows = parts.iter().map(|t| row(t.shape())).collect();
        let (whole, size) = (row(&shape), shape.iter().product::<usize>() * dtype.size());
        match size {
            0 => Tensor::zeros(dtype, &shape),
            _ => Tensor::foreign(dtype, &shape, Arc::new(Joined { parts, rows, whole, size })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_what_a_copy_has() {
        let count = |shape: &[usize], from: i32| {
            let values: Vec<i32> = (from..from + shape.iter().product::<usize>() as i32).collect();
            Tensor::new(shape, &values).unwrap()
        };
        let parts = || vec![count(&[2, 1, 2], 0), count(&[2, 3, 2], 100), count(&[2, 2, 2], 200)];
        let joined = Tensor::joined(parts(), 1).unwrap();
        assert_eq!(joined.shape(), [2, 6, 2]);
        let all = [0, 1, 100, 101, 102, 103, 104, 105, 200, 201, 202, 203];
        let all: Vec<i32> =
            all.into_iter().chain([2, 3, 106, 107, 108, 109, 110, 111, 204, 205, 206, 207]).collect();
        let raw = joined.raw_if(|_| true).unwrap();
        let mut scratch = Vec::new();
        for from in 0..all.len() {
            for until in from..=all.len() {
                let part = raw.part(4 * from..4 * until, &mut scratch).unwrap();
                let expected: Vec<u8> = all[from..until].iter().flat_map(|v| v.to_ne_bytes()).collect();
                assert_eq!(part, expected, "{from}..{until}");
            }
        }
        assert_eq!(joined.values::<i32>().unwrap(), all);
        assert_eq!(Tensor::joined(parts(), 1).unwrap().values::<i32>().unwrap(), all);
        let rows = Tensor::joined(vec![count(&[2], 1), count(&[1], 7)], 0).unwrap();
        assert_eq!(rows.values::<i32>().unwrap(), [1, 2, 7]);
        assert!(Tensor::joined(vec![count(&[0, 2], 1), count(&[0, 1], 7)], 1).unwrap().shape() == [0, 3]);
    }
}
