//! Tensors: what goes into and comes out of a model, and what its weights are.
//!
//! A [`Tensor`] is dense, row-major and cheap to clone. Arithmetic is `ndarray`'s job: see [`Tensor::view`],
//! [`Tensor::into_ndarray`] and the `From` conversions, and for those without a copy, `owned`.

mod convert;
mod joined;
mod late;
mod origin;
mod owned;
mod take;

use std::sync::Arc;

use bytemuck::{AnyBitPattern, CheckedBitPattern, NoUninit};
use ndarray::{ArrayBase, ArrayD, ArrayViewD, Data, Dimension, IxDyn};
use nestjit_ir::{DType, Scalar, bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::late::Late;
pub(crate) use self::late::{Computed, Factors, Foreign, Raw};
pub(crate) use self::origin::Origin;
use self::origin::Shared;
use crate::error::{Error, Result};
use crate::memory::Block;

mod sealed {
    /// What the types of this crate have, and no other can get.
    pub trait Sealed {}
}

/// A Rust type that is the element of a tensor: `f32`, `f64`, [`f16`](struct@f16), [`bf16`], `bool` and the integers of 8 to 64 bits. Memory is read as
/// what [`Element::DTYPE`] says, so there are no others:
///
/// ```compile_fail
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(transparent)]
/// struct Liar(u8);
///
/// impl nestjit::Element for Liar {
///     const DTYPE: nestjit::DType = nestjit::DType::F64;
/// }
/// ```
pub trait Element: sealed::Sealed + Copy + CheckedBitPattern + NoUninit + Send + Sync + 'static {
    /// The corresponding element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(
        impl sealed::Sealed for $t {}

        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }

        const _: () = assert!(size_of::<$t>() == DType::$d.size());
    )* };
}
elements!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16, i64 => I64, i32 => I32, i8 => I8, u8 => U8, i16 => I16,
    u16 => U16, u32 => U32, u64 => U64, bool => Bool);

/// An operand of a half type is widened before a contraction if each element is a factor of at least this many products:
/// enough rows or columns for a register tile, which then waits for arithmetic and not for memory. So is a constant that is
/// broadcast, if each element is read so often.
pub(crate) const WIDENED_READS: usize = 8;

/// A dense array of one element type, row-major. Cloning shares the storage.
///
/// Elements are aligned to 64 bytes in all tensors but those that took over a vector or an array
/// ([`Tensor::from_vec`]), which are aligned as the vector was: at least as the element type asks for. Both may be given
/// to models and written by them.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    elements: Arc<Elements>,
}

/// The storage of a tensor.
enum Elements {
    Made(Block),
    Late(Late),
}

impl Tensor {
    /// A tensor of zeros (`false` for `bool`).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows or there is no memory for it.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let block = Block::zeroed_for(checked_bytes(dtype, shape)?, dtype.size())
            .map_err(|e| e.about(&format!("a tensor {dtype}{shape:?}")))?;
        Ok(Tensor { dtype, shape: shape.to_vec(), elements: Arc::new(Elements::Made(block)) })
    }

    /// A tensor from values in row-major order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if the number of values is not the product of the shape.
    pub fn new<T: Element>(shape: &[usize], values: &[T]) -> Result<Tensor> {
        Tensor::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(values))
    }

    /// A tensor from the bytes of its elements, in row-major order and native endianness.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if the number of bytes is not what the shape asks for, and
    /// [`crate::ErrorKind::Invalid`] if a `bool` is neither 0 nor 1.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
        check_bytes(dtype, shape, bytes.len())?;
        if dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err(Error::invalid("a bool is neither 0 nor 1"));
        }
        let mut tensor = Tensor::zeros(dtype, shape)?;
        tensor.bytes_mut()?.copy_from_slice(bytes);
        Ok(tensor)
    }

    /// A tensor of elements (of any type but `bool`) that lie somewhere else, in row-major order and native endianness,
    /// not necessarily aligned. They are copied when they are looked at first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if the number of bytes is not what the shape asks for.
    pub(crate) fn foreign(dtype: DType, shape: &[usize], bytes: Arc<dyn Foreign>) -> Result<Tensor> {
        debug_assert!(dtype != DType::Bool, "not every byte is a truth value");
        check_bytes(dtype, shape, bytes.size())?;
        let elements = Arc::new(Elements::Late(Late::foreign(bytes)));
        Ok(Tensor { dtype, shape: shape.to_vec(), elements })
    }

    /// The elements of a floating-point tensor times these factors, rounded once, made when they are looked at first.
    pub(crate) fn scaled(&self, factors: Factors) -> Tensor {
        debug_assert!(self.dtype.is_float(), "only floating-point numbers are scaled");
        let elements = Arc::new(Elements::Late(Late::scaled(self.clone(), factors)));
        Tensor { dtype: self.dtype, shape: self.shape.clone(), elements }
    }

    /// A tensor of elements that are computed when they are looked at first, or by whoever wants them elsewhere
    /// ([`Tensor::computed_by`]).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if it is larger than the address space.
    pub(crate) fn computed(dtype: DType, by: Arc<dyn Computed>) -> Result<Tensor> {
        checked_bytes(dtype, by.shape())?;
        let shape = by.shape().to_vec();
        Ok(Tensor { dtype, shape, elements: Arc::new(Elements::Late(Late::computed(by))) })
    }

    /// Who computes the elements, if they are not there yet.
    pub(crate) fn computed_by(&self) -> Option<&dyn Computed> {
        match &*self.elements {
            Elements::Made(_) => None,
            Elements::Late(late) => late.computed_by(),
        }
    }

    /// A tensor with the elements of an array, copied; any strides, negative ones too, are fine.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is no memory for it.
    pub fn from_array<T: Element, S: Data<Elem = T>, D: Dimension>(
        array: &ArrayBase<S, D>,
    ) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(T::DTYPE, array.shape())?;
        match array.as_slice() {
            Some(values) => tensor.bytes_mut()?.copy_from_slice(bytemuck::cast_slice(values)),
            None => {
                let to = tensor.bytes_mut()?.chunks_exact_mut(size_of::<T>());
                to.zip(array.iter()).for_each(|(to, v)| to.copy_from_slice(bytemuck::bytes_of(v)));
            }
        }
        Ok(tensor)
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::new(&[], &[value]).expect("one value fills a rank-0 tensor")
    }

    /// Values that look random, the same for the same seed: floats in `-1.0..=1.0`, and integers in `0..3`, so
    /// that they may serve as indices.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if the size overflows.
    pub fn random(dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut tensor = Tensor::zeros(dtype, shape)?;
        match dtype {
            DType::F32 => tensor.fill_with(|| rng.next_u32() as f32 / 2f32.powi(31) - 1.0)?,
            DType::F64 => tensor.fill_with(|| f64::from(rng.next_u32()) / 2f64.powi(31) - 1.0)?,
            DType::F16 => tensor.fill_with(|| f16::from_f32(rng.next_u32() as f32 / 2f32.powi(31) - 1.0))?,
            DType::BF16 => {
                tensor.fill_with(|| bf16::from_f32(rng.next_u32() as f32 / 2f32.powi(31) - 1.0))?
            }
            DType::I64 => tensor.fill_with(|| i64::from(rng.next_u32() % 3))?,
            DType::I32 => tensor.fill_with(|| (rng.next_u32() % 3) as i32)?,
            DType::I8 => tensor.fill_with(|| (rng.next_u32() % 3) as i8)?,
            DType::U8 => tensor.fill_with(|| (rng.next_u32() % 3) as u8)?,
            DType::I16 => tensor.fill_with(|| (rng.next_u32() % 3) as i16)?,
            DType::U16 => tensor.fill_with(|| (rng.next_u32() % 3) as u16)?,
            DType::U32 => tensor.fill_with(|| rng.next_u32() % 3)?,
            DType::U64 => tensor.fill_with(|| u64::from(rng.next_u32() % 3))?,
            DType::Bool => tensor.bytes_mut()?.fill_with(|| (rng.next_u32() % 2) as u8),
        }
        Ok(tensor)
    }

    fn fill_with<T: Element + AnyBitPattern>(&mut self, value: impl FnMut() -> T) -> Result<()> {
        self.values_mut::<T>()?.fill_with(value);
        Ok(())
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the elements, row-major, in native endianness.
    ///
    /// # Errors
    /// None, except for weights of an ONNX model, which may still be in a file: [`crate::ErrorKind::Io`] if that cannot
    /// be read or has changed, and [`crate::ErrorKind::Limit`] if there is no memory for them.
    pub fn bytes(&self) -> Result<&[u8]> {
        match &*self.elements {
            Elements::Made(block) => Ok(block.bytes()),
            Elements::Late(late) => late.bytes(self.dtype),
        }
    }

    /// The elements as they are, for whoever copies them; with factors only if these are `usable`.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    pub(crate) fn raw_if(&self, usable: impl FnOnce(&Factors) -> bool) -> Result<Raw<'_>> {
        let raw = match &*self.elements {
            Elements::Made(block) => Raw::of(block.bytes()),
            Elements::Late(late) => late.raw(self.dtype)?,
        };
        match raw.factors {
            Some(factors) if !usable(factors) => Ok(Raw::of(self.bytes()?)),
            _ => Ok(raw),
        }
    }

    /// The bytes of the elements, to be changed; copies the storage if it is shared. Writing anything but 0
    /// and 1 into a `bool` tensor makes [`Tensor::values`] panic.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is no memory for a copy; as [`Tensor::bytes`].
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        if !matches!(Arc::get_mut(&mut self.elements), Some(Elements::Made(_))) {
            let old = self.bytes()?;
            let mut copy = Block::zeroed(old.len())?;
            copy.bytes_mut().copy_from_slice(old);
            self.elements = Arc::new(Elements::Made(copy));
        }
        match Arc::get_mut(&mut self.elements) {
            Some(Elements::Made(block)) => Ok(block.bytes_mut()),
            Some(Elements::Late(_)) | None => unreachable!("a block of its own was made above"),
        }
    }

    /// Whether the elements need not be read, multiplied or computed.
    pub(crate) fn is_in_memory(&self) -> bool {
        match &*self.elements {
            Elements::Made(_) => true,
            Elements::Late(late) => late.is_in_memory(),
        }
    }

    /// Where the elements come from: tensors of equal origin and type have equal elements. Elements in memory that somebody
    /// keeps the origin of are not changed in place.
    pub(crate) fn origin(&self) -> Origin {
        let late = match &*self.elements {
            Elements::Made(_) => None,
            Elements::Late(late) => late.origin(),
        };
        late.unwrap_or_else(|| Origin::Memory(Shared::new(&self.elements)))
    }

    /// The memory, if no other tensor shares it.
    pub(crate) fn into_block(self) -> Option<Block> {
        match Arc::into_inner(self.elements)? {
            Elements::Made(block) => Some(block),
            Elements::Late(late) => late.into_block(),
        }
    }

    /// Whether the elements are in memory that is freed with this tensor and its clones.
    pub(crate) fn has_own_memory(&self) -> bool {
        matches!(&*self.elements, Elements::Made(_))
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn values<T: Element>(&self) -> Result<&[T]> {
        self.expect_dtype(T::DTYPE)?;
        Ok(bytemuck::checked::cast_slice(self.bytes()?))
    }

    /// The elements, to be changed; copies the storage if it is shared.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn values_mut<T: Element + AnyBitPattern>(&mut self) -> Result<&mut [T]> {
        self.expect_dtype(T::DTYPE)?;
        Ok(bytemuck::cast_slice_mut(self.bytes_mut()?))
    }

    /// The tensor as an `ndarray` view.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let values = self.values()?;
        ArrayViewD::from_shape(IxDyn(&self.shape), values).map_err(|e| Error::internal(e.to_string()))
    }

    /// The tensor as an owned `ndarray` array.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if `T` is not the element type.
    pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>> {
        Ok(self.view()?.to_owned())
    }

    /// The same elements with another shape.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        if checked_bytes(self.dtype, shape)? != self.len() * self.dtype.size() {
            return Err(Error::shape(format!("cannot reshape {:?} to {shape:?}", self.shape)));
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.to_vec(), elements: Arc::clone(&self.elements) })
    }

    fn expect_dtype(&self, dtype: DType) -> Result<()> {
        if self.dtype != dtype {
            return Err(Error::shape(format!("the tensor holds {}, not {dtype}", self.dtype)));
        }
        Ok(())
    }
}

/// Whether a tensor takes so many bytes.
fn check_bytes(dtype: DType, shape: &[usize], given: usize) -> Result<()> {
    let expected = checked_bytes(dtype, shape)?;
    if given != expected {
        let message = format!("{dtype}{shape:?} takes {expected} bytes, but {given} were given");
        return Err(Error::shape(message));
    }
    Ok(())
}

/// The bytes that a tensor takes, if that can be addressed.
pub(crate) fn checked_bytes(dtype: DType, shape: &[usize]) -> Result<usize> {
    // Zero-size tensors may have any other dimensions, but the product of the rest must still be sane:
    // strides are computed from it.
    let product = shape.iter().filter(|d| **d != 0).try_fold(dtype.size(), |acc, d| acc.checked_mul(*d));
    match product {
        Some(bytes) if bytes <= isize::MAX as usize / 2 => Ok(if shape.contains(&0) { 0 } else { bytes }),
        _ => Err(Error::new(
            crate::ErrorKind::Limit,
            format!("a tensor of shape {shape:?} is larger than the address space"),
        )),
    }
}

impl PartialEq for Tensor {
    /// Bitwise equality of type, shape and elements. Elements that cannot be read (see [`Tensor::bytes`]) equal none.
    fn eq(&self, other: &Tensor) -> bool {
        let bytes = || Some(self.bytes().ok()? == other.bytes().ok()?);
        self.dtype == other.dtype && self.shape == other.shape && bytes().unwrap_or(false)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}{:?})", self.dtype, self.shape)
    }
}

/// A rank-0 tensor of the scalar's type.
impl From<Scalar> for Tensor {
    fn from(value: Scalar) -> Tensor {
        match value {
            Scalar::F32(v) => Tensor::scalar(v),
            Scalar::F64(v) => Tensor::scalar(v),
            Scalar::F16(v) => Tensor::scalar(v),
            Scalar::BF16(v) => Tensor::scalar(v),
            Scalar::I64(v) => Tensor::scalar(v),
            Scalar::I32(v) => Tensor::scalar(v),
            Scalar::I8(v) => Tensor::scalar(v),
            Scalar::U8(v) => Tensor::scalar(v),
            Scalar::I16(v) => Tensor::scalar(v),
            Scalar::U16(v) => Tensor::scalar(v),
            Scalar::U32(v) => Tensor::scalar(v),
            Scalar::U64(v) => Tensor::scalar(v),
            Scalar::Bool(v) => Tensor::scalar(v),
        }
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> From<&ArrayBase<S, D>> for Tensor {
    /// As [`Tensor::from_array`].
    ///
    /// # Panics
    /// If there is no memory for a copy.
    fn from(array: &ArrayBase<S, D>) -> Tensor {
        Tensor::from_array(array).expect("memory for a copy of an array")
    }
}

impl From<&Tensor> for Tensor {
    fn from(tensor: &Tensor) -> Tensor {
        tensor.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, s};

    #[test]
    fn conversions_keep_values_and_order() {
        let a = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let reversed = Tensor::from(a.slice(s![..;-1, ..]));
        assert_eq!(reversed.values::<f32>().unwrap(), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        assert_eq!(Tensor::from(&a).view::<f32>().unwrap(), a.view().into_dyn());
        assert_eq!(Tensor::from(&a).bytes().unwrap().as_ptr() as usize % 64, 0);
        assert!(Tensor::from(&a).values::<i32>().is_err());
    }

    #[test]
    fn random_values_depend_on_the_seed_and_stay_in_range() {
        for dtype in DType::ALL {
            let [a, b, c] = [1, 1, 2].map(|seed| Tensor::random(dtype, &[100], seed).unwrap());
            assert!(a == b && a != c && a.dtype() == dtype);
        }
        let floats = Tensor::random(DType::F32, &[1000], 0).unwrap();
        assert!(floats.values::<f32>().unwrap().iter().all(|v| (-1.0..=1.0).contains(v)));
        let ints = Tensor::random(DType::I64, &[1000], 0).unwrap();
        assert!((0..3).all(|v| ints.values::<i64>().unwrap().contains(&v)));
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Tensor::zeros(DType::F32, &[usize::MAX, 2]).is_err());
        assert!(Tensor::zeros(DType::F32, &[0, usize::MAX, 2]).is_err());
        let error = Tensor::zeros(DType::F32, &[1 << 59]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Limit);
        assert!(Tensor::from_bytes(DType::Bool, &[1], &[2]).is_err());
        assert_eq!(Tensor::zeros(DType::F32, &[0, 7]).unwrap().len(), 0);
        assert_eq!(Tensor::scalar(3i64).shape(), &[] as &[usize]);
    }
}
