//! `TensorProto` to [`Tensor`]: all encodings, checked before memory is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytemuck::cast_slice;
use nestjit_ir::{DType, Kind};
use prost::bytes::Bytes;

use super::external::External;
use super::file::{FilePart, InMemory};
use super::nibble::Nibble;
use super::problems::Problems;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{GraphProto, SparseTensorProto, TensorProto};
use crate::error::{Error, Result};
use crate::tensor::{Element, Tensor, checked_bytes};

/// A tensor that a model contains.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    pub tensor: Tensor,
    /// Its type, if that is one of four bits.
    pub nibble: Option<Nibble>,
}

/// The element type that an ONNX type number stands for.
pub(super) fn dtype(number: i32) -> Result<DType> {
    let data_type = DataType::try_from(number)
        .map_err(|_| Error::invalid(format!("there is no element type number {number}")))?;
    Ok(match data_type {
        DataType::Float => DType::F32,
        DataType::Double => DType::F64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Int64 => DType::I64,
        DataType::Int32 => DType::I32,
        DataType::Int8 => DType::I8,
        DataType::Uint8 => DType::U8,
        DataType::Int16 => DType::I16,
        DataType::Uint16 => DType::U16,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Bool => DType::Bool,
        DataType::Undefined => return Err(Error::invalid("the element type is undefined")),
        other => {
            let name = other.as_str_name().to_ascii_lowercase();
            return Err(Error::unsupported(format!("the element type {name} is not supported")));
        }
    })
}

/// The type that an attribute names.
pub(super) fn attribute_dtype(number: i64) -> Result<DType> {
    dtype(i32::try_from(number).map_err(|_| Error::invalid("there is no such element type"))?)
}

/// The type of elements in memory: also of those of four bits, of which files have two in a byte.
pub(super) fn element_type(number: i32) -> Result<DType> {
    Nibble::of(number).map_or_else(|| dtype(number), |nibble| Ok(nibble.dtype()))
}

/// Dimensions as extents.
pub(super) fn extents(dims: &[i64]) -> Result<Vec<usize>> {
    dims.iter()
        .map(|d| {
            usize::try_from(*d).map_err(|_| Error::invalid(format!("the dimensions {dims:?} are negative")))
        })
        .collect()
}

/// The tensor that a message holds.
pub(super) fn decode(proto: &TensorProto, external: &External) -> Result<Tensor> {
    decode_with(proto, None, external, |dtype, shape, data| Tensor::from_bytes(dtype, shape, &data.bytes()?))
}

/// The least bytes of elements that stay where they are until somebody looks at them.
pub(super) const LATE: usize = 4096;

/// The same; elements of large tensors stay in their file. `raw_data` is where in a file those are that the message lacks.
pub(super) fn decode_late(
    proto: &TensorProto,
    raw_data: Option<FilePart>,
    external: &External,
) -> Result<Tensor> {
    decode_with(proto, raw_data, external, |dtype, shape, data| match dtype.kind() {
        Kind::Float | Kind::Signed | Kind::Unsigned if data.len() >= LATE => match data {
            Data::Message(bytes) => Tensor::foreign(dtype, shape, Arc::new(InMemory(bytes))),
            Data::File(part) => Tensor::foreign(dtype, shape, Arc::new(part)),
        },
        Kind::Float | Kind::Signed | Kind::Unsigned | Kind::Bool => {
            Tensor::from_bytes(dtype, shape, &data.bytes()?)
        }
    })
}

/// The bytes of elements, and where they are.
enum Data {
    Message(Bytes),
    File(FilePart),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Message(bytes) => bytes.len(),
            Data::File(part) => part.bytes,
        }
    }

    fn bytes(self) -> Result<Bytes> {
        match self {
            Data::Message(bytes) => Ok(bytes),
            Data::File(part) => part.to_bytes(),
        }
    }
}

fn decode_with(
    proto: &TensorProto,
    raw_data: Option<FilePart>,
    external: &External,
    make: impl FnOnce(DType, &[usize], Data) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = element_type(proto.data_type())?;
    let shape = extents(&proto.dims)?;
    let bytes = checked_bytes(dtype, &shape)?;
    if proto.segment.is_some() {
        return Err(Error::unsupported("a tensor in segments is not supported"));
    }
    if let Some(nibble) = Nibble::of(proto.data_type()) {
        let packed = match (proto.data_location(), raw_data) {
            (DataLocation::External, _) => external.find(proto, bytes.div_ceil(2))?.to_bytes()?,
            (DataLocation::Default, Some(part)) => part.to_bytes()?,
            (DataLocation::Default, None) => nibbles(proto)?,
        };
        return Tensor::from_bytes(dtype, &shape, &nibble.unpack(&packed, bytes)?);
    }
    if proto.data_location() == DataLocation::External {
        return make(dtype, &shape, Data::File(external.find(proto, bytes)?));
    }
    if let Some(part) = raw_data {
        return make(dtype, &shape, Data::File(part));
    }
    match &proto.raw_data {
        Some(raw) if !raw.is_empty() || typed_len(proto) == 0 => {
            make(dtype, &shape, Data::Message(raw.clone()))
        }
        _ => typed(proto, dtype, &shape),
    }
}

/// Bytes with two elements of four bits each.
fn nibbles(proto: &TensorProto) -> Result<Bytes> {
    if let Some(raw) = proto.raw_data.as_ref().filter(|raw| !raw.is_empty()) {
        return Ok(raw.clone());
    }
    let byte = |v: &i32| u8::try_from(*v).or_else(|_| i8::try_from(*v).map(|v| v as u8));
    let outside = |_| Error::invalid("two elements of four bits are not a byte");
    proto.int32_data.iter().map(byte).collect::<std::result::Result<_, _>>().map_err(outside)
}

fn typed_len(proto: &TensorProto) -> usize {
    let lists = [
        proto.float_data.len(),
        proto.int32_data.len(),
        proto.int64_data.len(),
        proto.double_data.len(),
        proto.uint64_data.len(),
        proto.string_data.len(),
    ];
    lists.into_iter().sum()
}

/// Elements from a field of a wider type.
fn narrow<W: Copy, T: Element + TryFrom<W>>(values: &[W], shape: &[usize]) -> Result<Tensor> {
    let outside = |_| Error::invalid(format!("an element is outside the range of {}", T::DTYPE));
    let values: Vec<T> = values.iter().map(|v| T::try_from(*v).map_err(outside)).collect::<Result<_>>()?;
    Tensor::new(shape, &values)
}

/// From the field that belongs to the type; types of one or two bytes are in `int32_data`.
fn typed(proto: &TensorProto, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    match dtype {
        DType::F32 => Tensor::from_bytes(dtype, shape, cast_slice(&proto.float_data)),
        DType::F64 => Tensor::from_bytes(dtype, shape, cast_slice(&proto.double_data)),
        DType::I64 => Tensor::from_bytes(dtype, shape, cast_slice(&proto.int64_data)),
        DType::I32 => Tensor::from_bytes(dtype, shape, cast_slice(&proto.int32_data)),
        // Their bits.
        DType::F16 | DType::BF16 => {
            let bits = narrow::<i32, u16>(&proto.int32_data, shape)?;
            Tensor::from_bytes(dtype, shape, bits.bytes()?)
        }
        DType::I8 => narrow::<i32, i8>(&proto.int32_data, shape),
        DType::U8 => narrow::<i32, u8>(&proto.int32_data, shape),
        DType::I16 => narrow::<i32, i16>(&proto.int32_data, shape),
        DType::U16 => narrow::<i32, u16>(&proto.int32_data, shape),
        DType::U32 => narrow::<u64, u32>(&proto.uint64_data, shape),
        DType::U64 => Tensor::new(shape, &proto.uint64_data),
        DType::Bool => {
            let values: Vec<bool> = proto.int32_data.iter().map(|v| *v != 0).collect();
            Tensor::new(shape, &values)
        }
    }
}

/// The dense tensor that a sparse one stands for.
pub(super) fn decode_sparse(proto: &SparseTensorProto, external: &External) -> Result<Tensor> {
    let missing = |what: &str| Error::invalid(format!("a sparse tensor has no {what}"));
    let values = decode(proto.values.as_ref().ok_or_else(|| missing("values"))?, external)?;
    let indices = decode(proto.indices.as_ref().ok_or_else(|| missing("indices"))?, external)?;
    let shape = extents(&proto.dims)?;
    let mut dense = super::limit::zeros(values.dtype(), &shape)?;
    let count = values.len();
    let outside = || Error::invalid("an index of a sparse tensor is outside it");
    let positions: Vec<usize> = match indices.shape() {
        [n] if *n == count => {
            let flat = indices.values::<i64>()?.iter();
            flat.map(|i| usize::try_from(*i).map_err(|_| outside())).collect::<Result<_>>()?
        }
        [n, rank] if *n == count && *rank == shape.len() => {
            let rows = indices.values::<i64>()?.chunks_exact((*rank).max(1));
            rows.map(|row| {
                row.iter().zip(&shape).try_fold(0usize, |at, (i, extent)| {
                    let i = usize::try_from(*i).ok().filter(|i| i < extent).ok_or_else(outside)?;
                    Ok(at * extent + i)
                })
            })
            .collect::<Result<_>>()?
        }
        other => {
            return Err(Error::invalid(format!(
                "indices of shape {other:?} do not fit {count} sparse values"
            )));
        }
    };
    let size = values.dtype().size();
    let total = dense.len();
    let target = dense.bytes_mut()?;
    for (value, at) in values.bytes()?.chunks_exact(size).zip(positions) {
        if at >= total {
            return Err(outside());
        }
        target[at * size..(at + 1) * size].copy_from_slice(value);
    }
    Ok(dense)
}

/// The initializers of a graph that is part of a node, by name.
///
/// # Errors
/// All that cannot be decoded.
pub(super) fn constants(graph: &GraphProto, external: &External) -> Result<BTreeMap<String, Constant>> {
    let mut problems = Problems::default();
    let dense = graph.initializer.iter().map(|t| {
        let nibble = Nibble::of(t.data_type());
        (t.name(), decode(t, external).map(|tensor| Constant { tensor, nibble }))
    });
    let sparse = graph.sparse_initializer.iter().map(|t| {
        let name = t.values.as_ref().map_or("", TensorProto::name);
        (name, decode_sparse(t, external).map(|tensor| Constant { tensor, nibble: None }))
    });
    let decoded: BTreeMap<String, Constant> = dense
        .chain(sparse)
        .filter_map(|(name, constant)| Some((name.to_owned(), problems.keep(constant)?)))
        .collect();
    problems.finish().map(|()| decoded)
}

/// The dtype of a value whose type is a tensor type.
pub(super) fn value_dtype(proto: &super::proto::ValueInfoProto) -> Result<DType> {
    use super::proto::type_proto::Value;
    match proto.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(Value::TensorType(tensor)) => element_type(tensor.elem_type()),
        Some(Value::SequenceType(_)) => Err(Error::unsupported("a sequence is not supported here")),
        Some(Value::OptionalType(_)) => Err(Error::unsupported("an optional value is not supported here")),
        Some(Value::MapType(_)) => Err(Error::unsupported("a map is not supported")),
        Some(Value::SparseTensorType(_)) => Err(Error::unsupported("a sparse tensor is not supported here")),
        None => Err(Error::invalid("the type is missing")),
    }
}
