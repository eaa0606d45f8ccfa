//! Inverses of matrices.

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// The inverse of each matrix in the last two dimensions of a tensor of floats, by elimination in `f64`, with the largest
/// element of a column as its pivot.
///
/// # Errors
/// Matrices that are not square, or one that has no inverse.
pub(crate) fn inverse(x: &Tensor) -> Result<Tensor> {
    let shape = x.shape();
    let [outer @ .., rows, n] = shape else {
        return Err(Error::shape("the operand must have at least 2 dimensions"));
    };
    if rows != n {
        return Err(Error::shape(format!("the matrices of a tensor of shape {shape:?} are not square")));
    }
    if !x.dtype().is_float() {
        let other = x.dtype();
        return Err(Error::shape(format!("the operand is {other}, but a floating-point type is needed")));
    }
    let (values, count) = (x.to_f64()?, outer.iter().product::<usize>());
    let mut results = Vec::with_capacity(values.len());
    for (number, matrix) in values.chunks_exact((n * n).max(1)).enumerate() {
        let inverse = inverse_of(matrix.to_vec(), *n).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("matrix {number} of {count} has no inverse"))
        })?;
        results.extend(inverse);
    }
    Tensor::from_f64(x.dtype(), shape, &results)
}

/// The inverse of an `n` by `n` matrix, if there is one.
fn inverse_of(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let mut y = vec![0.0; n * n];
    for i in 0..n {
        y[i * n + i] = 1.0;
    }
    for column in 0..n {
        let largest = |i: &usize, j: &usize| a[i * n + column].abs().total_cmp(&a[j * n + column].abs());
        let pivot = (column..n).max_by(largest)?;
        let factor = a[pivot * n + column];
        if factor == 0.0 {
            return None;
        }
        for matrix in [&mut a, &mut y] {
            for k in 0..n {
                matrix.swap(pivot * n + k, column * n + k);
                matrix[column * n + k] /= factor;
            }
        }
        for row in (0..n).filter(|row| *row != column) {
            let factor = a[row * n + column];
            for matrix in [&mut a, &mut y] {
                for k in 0..n {
                    matrix[row * n + k] -= factor * matrix[column * n + k];
                }
            }
        }
    }
    Some(y)
}

#[cfg(test)]
mod tests {
    use nestjit_ir::DType;

    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_is_the_unit_matrix() {
        // The first pivot is not in the first row.
        let x = Tensor::new(&[2, 2, 2], &[0.0f32, 2.0, 4.0, 1.0, 3.0, 0.0, 0.0, -0.5]).unwrap();
        let y = inverse(&x).unwrap();
        assert_eq!(y.shape(), [2, 2, 2]);
        assert_eq!(y.values::<f32>().unwrap()[..4], [-0.125, 0.25, 0.5, 0.0]);
        assert_eq!(y.values::<f32>().unwrap()[4..], [1.0 / 3.0, 0.0, 0.0, -2.0]);
    }

    #[test]
    fn what_has_no_inverse_is_an_error() {
        let singular = Tensor::new(&[1, 2, 2], &[1.0f64, 2.0, 2.0, 4.0]).unwrap();
        assert_eq!(inverse(&singular).unwrap_err().to_string(), "matrix 0 of 1 has no inverse");
        assert!(inverse(&Tensor::zeros(DType::F32, &[2, 3]).unwrap()).is_err());
        assert!(inverse(&Tensor::zeros(DType::I32, &[2, 2]).unwrap()).is_err());
    }
}
