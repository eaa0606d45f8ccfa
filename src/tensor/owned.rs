//! Tensors from vectors and arrays, and back, without copying where the memory allows it.

use std::sync::Arc;

use ndarray::{Array1, ArrayBase, ArrayD, Data, Dimension, IxDyn, s};

use super::{Element, Elements, Tensor, check_bytes};
use crate::error::{Error, Result};
use crate::memory::Block;

impl Tensor {
    /// A tensor of the values of a vector, in row-major order. It takes over the vector's memory and copies nothing; so
    /// it is aligned as the vector was.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if the number of values is not the product of the shape.
    pub fn from_vec<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor> {
        check_bytes(T::DTYPE, shape, size_of_val(values.as_slice()))?;
        let len = values.len();
        Ok(Tensor::of_block(shape, T::DTYPE, Block::of_vec(values, 0, len)))
    }

    fn of_block(shape: &[usize], dtype: nestjit_ir::DType, block: Block) -> Tensor {
        Tensor { dtype, shape: shape.to_vec(), elements: Arc::new(Elements::Made(block)) }
    }

    /// The elements as a vector, row-major.
    ///
    /// Nothing is copied if the tensor was made from a vector or an array and shares its elements with no other. If it
    /// was allocated by nestjit, and has less than 1 MiB, the vector has its memory too, but the elements may have to be
    /// moved to its beginning (see [`Tensor::into_ndarray`]). In all other cases they are copied once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>> {
        let len = self.len();
        Ok(match self.try_into_vec()? {
            Ok((mut values, first)) => {
                values.drain(..first);
                values.truncate(len);
                values
            }
            Err(tensor) => tensor.values()?.to_vec(),
        })
    }

    /// The tensor as an owned `ndarray` array.
    ///
    /// Nothing is copied or moved if no other tensor shares the elements, and the tensor was made from a vector or an
    /// array, or has less than 1 MiB. What is larger comes from the system in pages that no vector can own, and is
    /// copied once; to have large results in arrays without a copy, let the run write to them
    /// ([`Executable::run_into`](crate::Executable::run_into)).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn into_ndarray<T: Element>(self) -> Result<ArrayD<T>> {
        let shape = IxDyn(&self.shape);
        let len = self.len();
        match self.try_into_vec()? {
            Ok((values, first)) => {
                let values = Array1::from_vec(values).slice_move(s![first..first + len]);
                values.into_shape_with_order(shape).map_err(|e| Error::internal(e.to_string()))
            }
            Err(tensor) => tensor.to_array(),
        }
    }

    /// The memory as a vector, and the position of the first element in it; the tensor itself if it cannot be one.
    fn try_into_vec<T: Element>(self) -> Result<Result<(Vec<T>, usize), Tensor>> {
        self.expect_dtype(T::DTYPE)?;
        let Tensor { dtype, shape, elements } = self;
        let block = match Arc::try_unwrap(elements) {
            Ok(Elements::Made(block)) => block,
            Ok(late @ Elements::Late(_)) => {
                return Ok(Err(Tensor { dtype, shape, elements: Arc::new(late) }));
            }
            Err(elements) => return Ok(Err(Tensor { dtype, shape, elements })),
        };
        Ok(block.into_vec().map_err(|block| Tensor::of_block(&shape, dtype, block)))
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> From<ArrayBase<S, D>> for Tensor {
    /// Takes over the memory of an array that owns it and is in standard layout; copies any other.
    fn from(array: ArrayBase<S, D>) -> Tensor {
        if !array.is_standard_layout() {
            return Tensor::from(&array);
        }
        let shape = array.shape().to_vec();
        let (values, first) = array.into_owned().into_raw_vec_and_offset();
        let len = shape.iter().product();
        Tensor::of_block(&shape, T::DTYPE, Block::of_vec(values, first.unwrap_or_default(), len))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};
    use nestjit_ir::{DType, bf16, f16};

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn vectors_are_taken_over_and_given_back() {
        let values = vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let place = values.as_ptr();
        let tensor = Tensor::from_vec(&[2, 3], values).unwrap();
        assert_eq!(tensor.bytes().unwrap().as_ptr(), place.cast());
        assert_eq!(
            tensor.clone().into_vec::<f32>().unwrap().len(),
            6,
            "a copy, since the elements are shared"
        );
        let array = tensor.into_ndarray::<f32>().unwrap();
        assert_eq!((array.as_ptr(), array.shape()), (place, &[2, 3][..]));
        let tensor = Tensor::from(array.into_dimensionality::<ndarray::Ix2>().unwrap());
        assert_eq!((tensor.bytes().unwrap().as_ptr(), tensor.shape()), (place.cast(), &[2, 3][..]));
        let values = tensor.into_vec::<f32>().unwrap();
        assert_eq!(values.as_ptr(), place);
        let error = Tensor::from_vec(&[4], vec![1u8; 3]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(Tensor::from_vec(&[1], vec![1u8]).unwrap().into_vec::<i8>().is_err());
        assert_eq!(
            Tensor::from_vec::<bool>(&[0, 3], vec![]).unwrap().into_ndarray::<bool>().unwrap().shape(),
            [0, 3]
        );
    }

    #[test]
    fn parts_of_arrays_are_taken_over_and_others_copied() {
        let whole = array![[1i64, 2], [3, 4], [5, 6]];
        let place = whole.as_ptr();
        let part = Tensor::from(whole.slice_move(s![1.., ..]));
        assert_eq!(part.bytes().unwrap().as_ptr(), place.wrapping_add(2).cast());
        let part = part.into_ndarray::<i64>().unwrap();
        assert_eq!(
            (part.as_ptr(), part.view()),
            (place.wrapping_add(2), array![[3i64, 4], [5, 6]].into_dyn().view())
        );
        assert_eq!(Tensor::from(part).into_vec::<i64>().unwrap(), [3, 4, 5, 6]);
        let turned = Tensor::from(array![[1u8, 2], [3, 4]].reversed_axes());
        assert_eq!(turned.values::<u8>().unwrap(), [1, 3, 2, 4]);
    }

    #[test]
    fn what_was_allocated_becomes_an_array_in_its_place_unless_it_is_large() {
        for dtype in DType::ALL {
            let tensor = Tensor::random(dtype, &[3, 5], 1).unwrap();
            let (place, copy) = (tensor.bytes().unwrap().as_ptr(), tensor.clone());
            assert_eq!(place as usize % 64, 0);
            drop(copy);
            macro_rules! in_place {
                ($($t:ty => $d:ident),*) => { match dtype {
                    $(DType::$d => {
                        let array = tensor.into_ndarray::<$t>().unwrap();
                        assert_eq!((array.as_ptr().cast(), array.len()), (place, 15));
                    })*
                } };
            }
            in_place!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8,
                i16 => I16, u16 => U16, u32 => U32, u64 => U64, bool => Bool);
        }
        let values = Tensor::random(DType::F64, &[7], 1).unwrap();
        let expected = values.values::<f64>().unwrap().to_vec();
        assert_eq!(values.into_vec::<f64>().unwrap(), expected);
        let large = Tensor::from(&Array2::<f32>::ones((512, 512)));
        let array = large.into_ndarray::<f32>().unwrap();
        assert_eq!((array.shape(), array.sum()), (&[512, 512][..], 512.0 * 512.0));
    }
}
