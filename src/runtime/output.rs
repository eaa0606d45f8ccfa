//! Memory of the caller's that a run writes its outputs to.

use ndarray::{ArrayBase, DataMut, Dimension};
use nestjit_ir::DType;

use super::input::list;
use crate::error::{Error, Result};
use crate::tensor::{Element, Tensor};

mod sealed {
    pub trait Sealed {}

    /// What only this module has: nobody else may write bytes where elements are.
    #[derive(Clone, Copy)]
    pub struct Key(pub(super) ());
}

use sealed::Key;

/// Where a run may write an output: a [`Tensor`], an array or a mutable view of `ndarray` in standard layout, or a
/// slice or `Vec` of as many elements as the output has. Buffers of different types can be `&mut dyn OutputBuffer`.
///
/// No alignment is asked for beyond that of the element type. What begins at a multiple of 64 bytes, as tensors that
/// nestjit allocates do, may be written a little faster.
pub trait OutputBuffer: sealed::Sealed {
    /// The type of its elements.
    fn dtype(&self) -> DType;

    /// Its shape; `None` if it has only a length and is right for any shape of as many elements.
    fn shape(&self) -> Option<&[usize]>;

    /// The number of its elements.
    fn elements(&self) -> usize;

    /// The bytes of its elements, row-major, to be written by a run.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if they do not lie one after the other, [`crate::ErrorKind::Limit`] if a tensor
    /// shares its storage and there is no memory for a copy.
    #[doc(hidden)]
    fn bytes_mut(&mut self, key: Key) -> Result<&mut [u8]>;
}

impl sealed::Sealed for Tensor {}

impl OutputBuffer for Tensor {
    fn dtype(&self) -> DType {
        Tensor::dtype(self)
    }

    fn shape(&self) -> Option<&[usize]> {
        Some(Tensor::shape(self))
    }

    fn elements(&self) -> usize {
        self.len()
    }

    fn bytes_mut(&mut self, _: Key) -> Result<&mut [u8]> {
        Tensor::bytes_mut(self)
    }
}

impl<T: Element> sealed::Sealed for [T] {}

impl<T: Element> OutputBuffer for [T] {
    fn dtype(&self) -> DType {
        T::DTYPE
    }

    fn shape(&self) -> Option<&[usize]> {
        None
    }

    fn elements(&self) -> usize {
        self.len()
    }

    fn bytes_mut(&mut self, _: Key) -> Result<&mut [u8]> {
        Ok(bytes_of(self))
    }
}

impl<T: Element> sealed::Sealed for Vec<T> {}

impl<T: Element> OutputBuffer for Vec<T> {
    fn dtype(&self) -> DType {
        T::DTYPE
    }

    fn shape(&self) -> Option<&[usize]> {
        None
    }

    fn elements(&self) -> usize {
        self.len()
    }

    fn bytes_mut(&mut self, _: Key) -> Result<&mut [u8]> {
        Ok(bytes_of(self))
    }
}

impl<T: Element, S: DataMut<Elem = T>, D: Dimension> sealed::Sealed for ArrayBase<S, D> {}

impl<T: Element, S: DataMut<Elem = T>, D: Dimension> OutputBuffer for ArrayBase<S, D> {
    fn dtype(&self) -> DType {
        T::DTYPE
    }

    fn shape(&self) -> Option<&[usize]> {
        Some(ArrayBase::shape(self))
    }

    fn elements(&self) -> usize {
        self.len()
    }

    fn bytes_mut(&mut self, _: Key) -> Result<&mut [u8]> {
        match self.as_slice_mut() {
            Some(values) => Ok(bytes_of(values)),
            None => Err(Error::shape("its elements do not lie one after the other in row-major order")),
        }
    }
}

impl<B: OutputBuffer + ?Sized> sealed::Sealed for &mut B {}

impl<B: OutputBuffer + ?Sized> OutputBuffer for &mut B {
    fn dtype(&self) -> DType {
        (**self).dtype()
    }

    fn shape(&self) -> Option<&[usize]> {
        (**self).shape()
    }

    fn elements(&self) -> usize {
        (**self).elements()
    }

    fn bytes_mut(&mut self, key: Key) -> Result<&mut [u8]> {
        (**self).bytes_mut(key)
    }
}

/// The bytes of elements, to be written by generated code.
fn bytes_of<T: Element>(values: &mut [T]) -> &mut [u8] {
    let bytes = size_of_val(values);
    // SAFETY: the slice is borrowed exclusively, and elements have no padding. Nobody but this module has the key to ask
    // for these bytes. What is written are elements of this type, which a run checks; of `bool`, the only type for which
    // not every byte is one, `Outputs` and `write` see to it that nothing but 0 and 1 is left there.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), bytes) }
}

/// The buffers of a run. However it ends, what is in them then are elements of their types: a truth value that is
/// neither 0 nor 1, which may come from a tensor that was filled byte by byte, becomes 1.
pub(super) struct Outputs<'b, B: OutputBuffer>(pub &'b mut [B]);

impl<B: OutputBuffer> Drop for Outputs<'_, B> {
    fn drop(&mut self) {
        for buffer in self.0.iter_mut().filter(|buffer| buffer.dtype() == DType::Bool) {
            if let Ok(bytes) = buffer.bytes_mut(Key(())) {
                bytes.iter_mut().for_each(|byte| *byte = truth(*byte));
            }
        }
    }
}

fn truth(byte: u8) -> u8 {
    u8::from(byte != 0)
}

/// Whether an output can be written to a buffer.
///
/// # Errors
/// [`crate::ErrorKind::Shape`] if it is of another type or shape.
pub(crate) fn check(
    name: &str,
    dtype: DType,
    shape: &[usize],
    buffer: &(impl OutputBuffer + ?Sized),
) -> Result<()> {
    let fits = match buffer.shape() {
        Some(given) => given == shape,
        None => buffer.elements() == shape.iter().product::<usize>(),
    };
    if fits && buffer.dtype() == dtype {
        return Ok(());
    }
    let (name, given) = (name.escape_debug(), buffer.dtype());
    Err(Error::shape(match buffer.shape() {
        Some(other) => format!("the output '{name}' is {dtype}{shape:?}, but {given}{other:?} was given"),
        None => format!(
            "the output '{name}' is {dtype}{shape:?}, but {} elements of {given} were given",
            buffer.elements()
        ),
    }))
}

/// Copies a tensor to where the caller wants it.
///
/// # Errors
/// As [`check`], and those of [`OutputBuffer::bytes_mut`].
pub(crate) fn write(name: &str, tensor: &Tensor, buffer: &mut (impl OutputBuffer + ?Sized)) -> Result<()> {
    check(name, tensor.dtype(), tensor.shape(), buffer)?;
    let (to, from) = (bytes(name, buffer)?, tensor.bytes()?);
    match tensor.dtype() == DType::Bool {
        true => to.iter_mut().zip(from).for_each(|(to, from)| *to = truth(*from)),
        false => to.copy_from_slice(from),
    }
    Ok(())
}

/// The bytes of an output's buffer.
///
/// # Errors
/// Those of [`OutputBuffer::bytes_mut`], with the output's name.
pub(crate) fn bytes<'b>(name: &str, buffer: &'b mut (impl OutputBuffer + ?Sized)) -> Result<&'b mut [u8]> {
    buffer.bytes_mut(Key(())).map_err(|e| {
        let message = format!("the buffer of the output '{}': {}", name.escape_debug(), e.message());
        Error::new(e.kind(), message)
    })
}

/// Whether there are as many buffers as outputs.
///
/// # Errors
/// [`crate::ErrorKind::Shape`] if not.
pub(crate) fn count<'n>(names: impl ExactSizeIterator<Item = &'n str>, given: usize) -> Result<()> {
    let wanted = names.len();
    if given == wanted {
        return Ok(());
    }
    let plural = if wanted == 1 { "" } else { "s" };
    let names = list(&names.collect::<Vec<_>>());
    let message = format!("{wanted} output{plural} ({names}) need as many buffers, but {given} were given");
    Err(Error::shape(message))
}
