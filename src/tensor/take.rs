//! Parts of a tensor, for which the rest of it is not looked at: a few rows of a large table, say, that is in a file.

use super::{Tensor, checked_bytes};
use crate::error::Result;

impl Tensor {
    /// The elements at these positions of a dimension, in their order, as a tensor of the shape
    /// `shape[..axis] + [positions.len()] + shape[axis + 1..]`. Bits stay as they are.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is no memory for them; as [`Tensor::bytes`].
    ///
    /// # Panics
    /// If a position is not in the dimension.
    pub(crate) fn taken(&self, axis: usize, positions: &[usize]) -> Result<Tensor> {
        let extent = self.shape[axis];
        assert!(positions.iter().all(|at| *at < extent), "positions of a dimension of {extent}");
        let shape = [&self.shape[..axis], &[positions.len()], &self.shape[axis + 1..]].concat();
        let row = checked_bytes(self.dtype, &self.shape[axis + 1..])?;
        let mut taken = Tensor::zeros(self.dtype, &shape)?;
        if taken.is_empty() {
            return Ok(taken);
        }
        let (raw, mut scratch) = (self.raw_if(|_| false)?, Vec::new());
        for (block, to) in taken.bytes_mut()?.chunks_exact_mut(row * positions.len()).enumerate() {
            for (at, to) in positions.iter().zip(to.chunks_exact_mut(row)) {
                let from = row * (block * extent + at);
                to.copy_from_slice(raw.part(from..from + row, &mut scratch)?);
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_each_dimension_are_taken_in_their_order() {
        let x = Tensor::new(&[2, 3, 2], &std::array::from_fn::<i32, 12, _>(|i| i as i32)).unwrap();
        let taken = |axis, at: &[usize]| {
            let taken = x.taken(axis, at).unwrap();
            (taken.shape().to_vec(), taken.values::<i32>().unwrap().to_vec())
        };
        assert_eq!(taken(0, &[1]), (vec![1, 3, 2], (6..12).collect()));
        assert_eq!(taken(1, &[2, 0, 2]), (vec![2, 3, 2], vec![4, 5, 0, 1, 4, 5, 10, 11, 6, 7, 10, 11]));
        assert_eq!(taken(2, &[1, 1]), (vec![2, 3, 2], vec![1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11]));
        assert_eq!(taken(1, &[]), (vec![2, 0, 2], vec![]));
        let empty = Tensor::zeros(crate::DType::F32, &[2, 0]).unwrap();
        assert_eq!(empty.taken(0, &[1, 0, 1]).unwrap().shape(), [3, 0]);
    }
}
