//! Inputs of a run, borrowed: from tensors, and from `ndarray` arrays and views without a copy if they are in
//! standard layout.

use ndarray::{ArrayBase, Data, Dimension, IxDyn};
use nestjit_ir::DType;

use crate::error::{Error, Result};
use crate::tensor::{Element, Tensor};

/// A dense row-major array that somebody else owns (unless it had to be copied to be one).
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: IxDyn,
    bytes: Bytes<'a>,
}

#[derive(Clone, Debug)]
enum Bytes<'a> {
    Borrowed(&'a [u8]),
    /// Those of a tensor, which can be shared.
    Tensor(&'a Tensor),
    Copied(Result<Tensor>),
}

impl<'a> TensorView<'a> {
    /// A view that keeps its tensor.
    pub(super) fn owned(tensor: Tensor) -> TensorView<'a> {
        TensorView { dtype: tensor.dtype(), shape: IxDyn(tensor.shape()), bytes: Bytes::Copied(Ok(tensor)) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        ndarray::Dimension::slice(&self.shape)
    }

    /// The bytes of the elements, row-major, in native endianness.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if a copy was needed, and there was no memory for it; as [`Tensor::bytes`].
    pub fn bytes(&self) -> Result<&[u8]> {
        match &self.bytes {
            Bytes::Borrowed(bytes) => Ok(bytes),
            Bytes::Tensor(tensor) => tensor.bytes(),
            Bytes::Copied(tensor) => tensor.as_ref().map_err(Error::clone)?.bytes(),
        }
    }

    /// The same as a tensor, which shares the elements if they are those of a tensor.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is no memory for a copy.
    pub fn to_tensor(&self) -> Result<Tensor> {
        match &self.bytes {
            Bytes::Borrowed(bytes) => Tensor::from_bytes(self.dtype, self.shape(), bytes),
            Bytes::Tensor(tensor) => Ok((*tensor).clone()),
            Bytes::Copied(tensor) => tensor.clone(),
        }
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> TensorView<'a> {
        TensorView { dtype: tensor.dtype(), shape: IxDyn(tensor.shape()), bytes: Bytes::Tensor(tensor) }
    }
}

impl<'a> From<&'a TensorView<'_>> for TensorView<'a> {
    fn from(view: &'a TensorView<'_>) -> TensorView<'a> {
        let bytes = match &view.bytes {
            Bytes::Borrowed(bytes) => Bytes::Borrowed(bytes),
            Bytes::Tensor(tensor) => Bytes::Tensor(tensor),
            Bytes::Copied(Ok(tensor)) => Bytes::Tensor(tensor),
            Bytes::Copied(Err(e)) => Bytes::Copied(Err(e.clone())),
        };
        TensorView { dtype: view.dtype, shape: view.shape.clone(), bytes }
    }
}

impl<'a, T: Element, S: Data<Elem = T>, D: Dimension> From<&'a ArrayBase<S, D>> for TensorView<'a> {
    fn from(array: &'a ArrayBase<S, D>) -> TensorView<'a> {
        let bytes = match array.as_slice() {
            Some(values) => Bytes::Borrowed(bytemuck::cast_slice(values)),
            None => Bytes::Copied(Tensor::from_array(array)),
        };
        TensorView { dtype: T::DTYPE, shape: IxDyn(array.shape()), bytes }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{array, s};

    use super::*;

    #[test]
    fn standard_layout_is_borrowed_and_anything_else_copied() {
        let a = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let view = TensorView::from(&a);
        assert_eq!(view.bytes().unwrap().as_ptr(), a.as_ptr().cast());
        assert_eq!((view.dtype(), view.shape()), (DType::F32, &[2usize, 3][..]));
        let reversed = a.slice(s![..;-1, ..]);
        let copy = TensorView::from(&reversed);
        assert_eq!(bytemuck::cast_slice::<u8, f32>(copy.bytes().unwrap()), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(TensorView::from(&copy).bytes().unwrap().as_ptr(), copy.bytes().unwrap().as_ptr());
        let t = Tensor::scalar(true);
        assert_eq!(TensorView::from(&t).bytes().unwrap(), [1]);
        assert_eq!(TensorView::from(&t).shape(), &[] as &[usize]);
    }
}
