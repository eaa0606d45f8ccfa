//! Inverses of matrices.

use nestjit_ir::{DType, bf16, f16};

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Element, Tensor};

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
    let count = outer.iter().product();
    match x.dtype() {
        DType::F32 => each::<f32>(x, count, *n, f64::from, |v| v as f32),
        DType::F64 => each::<f64>(x, count, *n, |v| v, |v| v),
        DType::F16 => each::<f16>(x, count, *n, f16::to_f64, f16::from_f64),
        DType::BF16 => each::<bf16>(x, count, *n, bf16::to_f64, bf16::from_f64),
        other @ (DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool) => {
            Err(Error::shape(format!("the operand is {other}, but a floating-point type is needed")))
        }
    }
}

fn each<T: Element>(
    x: &Tensor,
    count: usize,
    n: usize,
    wide: impl Fn(T) -> f64,
    narrow: impl Fn(f64) -> T,
) -> Result<Tensor> {
    let values = x.values::<T>()?;
    let mut results = Vec::with_capacity(values.len());
    for number in 0..count {
        let matrix = values[number * n * n..][..n * n].iter().map(|v| wide(*v)).collect();
        let inverse = inverse_of(matrix, n).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("matrix {number} of {count} has no inverse"))
        })?;
        results.extend(inverse.into_iter().map(&narrow));
    }
    Tensor::new(x.shape(), &results)
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
