//! The arrays that the interpreter reads and writes.

use half::{bf16, f16};

use super::scalar::{Element, with_element};
use crate::types::{DType, Scalar};

/// What storage holds that nothing has been written to. Whatever depends on it differs between the two, or fails in one
/// of them (by chance it may not): so it can be told from what a program defines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Undefined {
    /// NaN, 0x55 in integers, `true`: so that reading it is seen.
    Marked,
    /// 42, `false`.
    Other,
}

impl Undefined {
    /// The element.
    pub(super) fn element<T: Element>(self) -> T {
        match self {
            Undefined::Marked => T::POISON,
            Undefined::Other if T::DTYPE == DType::Bool => T::cast_from(Scalar::Bool(false)),
            Undefined::Other => T::cast_from(Scalar::I8(42)),
        }
    }
}

/// The elements of a [`Value`], in logical row-major order.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "one variant per element type")]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

/// An array: a shape and its elements. Layouts and halos do not exist here.
#[derive(Clone, PartialEq, Debug)]
pub struct Value {
    /// The logical shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, as many as the shape says.
    pub data: Data,
}

/// An [`Element`] that [`Data`] has a variant for: all of them.
pub trait Stored: Element + PartialOrd {
    /// The elements, if they are of this type.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The elements, if they are of this type.
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
    /// Takes elements of this type.
    fn data(elements: Vec<Self>) -> Data;
}

macro_rules! stored {
    ($($t:ty, $variant:ident;)*) => {
        $(impl Stored for $t {
            fn slice(data: &Data) -> Option<&[$t]> {
                if let Data::$variant(v) = data { Some(v) } else { None }
            }
            fn slice_mut(data: &mut Data) -> Option<&mut [$t]> {
                if let Data::$variant(v) = data { Some(v) } else { None }
            }
            fn data(elements: Vec<$t>) -> Data {
                Data::$variant(elements)
            }
        })*

        impl Data {
            /// The element type.
            pub const fn dtype(&self) -> DType {
                match self {
                    $(Data::$variant(_) => DType::$variant,)*
                }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Data::$variant(v) => v.len(),)*
                }
            }

            /// The element at a position of the row-major order.
            pub fn get(&self, at: usize) -> Option<Scalar> {
                match self {
                    $(Data::$variant(v) => v.get(at).map(|x| x.scalar()),)*
                }
            }

            /// Replaces the element at a position; `None` if there is none, or it has another type.
            pub(super) fn set(&mut self, at: usize, value: Scalar) -> Option<()> {
                match (self, value) {
                    $((Data::$variant(v), Scalar::$variant(x)) => *v.get_mut(at)? = x,)*
                    _ => return None,
                }
                Some(())
            }

            /// Marks every element as undefined.
            pub(super) fn poison(&mut self, undefined: Undefined) {
                match self {
                    $(Data::$variant(v) => v.fill(undefined.element::<$t>()),)*
                }
            }
        }
    };
}
stored! { f32, F32; f64, F64; f16, F16; bf16, BF16; i64, I64; i32, I32; i8, I8; u8, U8; i16, I16; u16, U16; u32, U32; u64, U64; bool, Bool; }

impl Data {
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// An array of these elements; `None` if there are not as many as the shape says.
    pub fn new<T: Stored>(shape: &[usize], elements: Vec<T>) -> Option<Value> {
        (elements_of(shape)? == elements.len())
            .then(|| Value { shape: shape.to_vec(), data: T::data(elements) })
    }

    /// An array whose element at each row-major position is `f(position)`, converted as
    /// [`Scalar::from_f64`] does.
    pub fn from_fn(dtype: DType, shape: &[usize], mut f: impl FnMut(usize) -> f64) -> Value {
        let n = shape.iter().product();
        let data =
            with_element!(dtype, T => T::data((0..n).map(|i| T::cast_from(Scalar::F64(f(i)))).collect()));
        Value { shape: shape.to_vec(), data }
    }

    /// An array of undefined elements; `None` if it cannot exist.
    pub(super) fn undefined(dtype: DType, shape: &[usize], undefined: Undefined) -> Option<Value> {
        let n = elements_of(shape)?;
        let data = with_element!(dtype, T => T::data(vec![undefined.element::<T>(); n]));
        Some(Value { shape: shape.to_vec(), data })
    }

    /// The element type.
    pub const fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, if they are of type `T`.
    pub fn as_slice<T: Stored>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// All elements as `f64`, whatever their type.
    pub fn to_f64(&self) -> Vec<f64> {
        (0..self.len()).filter_map(|i| self.data.get(i)).map(Scalar::as_f64).collect()
    }

    /// The elements converted as [`crate::Expr::Cast`] does.
    pub fn cast(&self, dtype: DType) -> Value {
        let n = self.len();
        let data = with_element!(dtype, T => {
            T::data((0..n).filter_map(|i| self.data.get(i)).map(T::cast_from).collect())
        });
        Value { shape: self.shape.clone(), data }
    }

    /// Whether type, shape and every bit agree; a NaN equals itself and 0.0 differs from -0.0.
    pub fn same_bits(&self, other: &Value) -> bool {
        self.dtype() == other.dtype()
            && self.shape == other.shape
            && (0..self.len()).all(|i| self.data.get(i) == other.data.get(i))
    }
}

/// The number of elements of a shape, if an array of them is conceivable.
fn elements_of(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (n <= isize::MAX as usize / 8).then_some(n)
}
