//! Files that hold a value: what ONNX's test cases consist of. The messages are those of `onnx-data.proto`, as far as
//! values can be tensors or lists of them.

use std::path::Path;

use prost::Message;

use super::external::External;
use super::file::SourceFile;
use super::model::InputKind;
use super::proto::TensorProto;
use super::tensor::decode;
use crate::error::{Error, Result};
use crate::host::Item;
use crate::tensor::Tensor;

/// `SequenceProto`.
#[derive(Clone, PartialEq, Message)]
struct SequenceProto {
    #[prost(message, repeated, tag = "3")]
    tensors: Vec<TensorProto>,
}

/// `OptionalProto`.
#[derive(Clone, PartialEq, Message)]
struct OptionalProto {
    #[prost(message, optional, tag = "3")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "5")]
    sequence: Option<SequenceProto>,
}

/// The tensor in a file that holds one `TensorProto`, as ONNX's test cases do; and its name.
///
/// # Errors
/// What is wrong with it.
pub fn read_tensor(path: impl AsRef<Path>) -> Result<(String, Tensor)> {
    let proto: TensorProto = read(path.as_ref(), "a tensor")?;
    Ok((proto.name().to_owned(), decode(&proto, &External::default())?))
}

/// The value in a file that holds one `TensorProto`, `SequenceProto` or `OptionalProto`: which of them must be known.
///
/// # Errors
/// What is wrong with it.
pub fn read_item(path: impl AsRef<Path>, kind: InputKind) -> Result<Item> {
    let path = path.as_ref();
    match kind {
        InputKind::Tensor => Ok(Item::Tensor(read_tensor(path)?.1)),
        InputKind::Sequence => sequence(&read(path, "a sequence")?),
        InputKind::Optional => {
            let optional: OptionalProto = read(path, "an optional value")?;
            match (&optional.tensor, &optional.sequence) {
                (Some(tensor), _) => Ok(Item::Tensor(decode(tensor, &External::default())?)),
                (None, Some(list)) => sequence(list),
                (None, None) => Ok(Item::Absent),
            }
        }
    }
}

fn sequence(proto: &SequenceProto) -> Result<Item> {
    let tensors = proto.tensors.iter().map(|t| decode(t, &External::default()));
    Ok(Item::Sequence(tensors.collect::<Result<_>>()?))
}

fn read<M: Message + Default>(path: &Path, what: &str) -> Result<M> {
    M::decode(SourceFile::open(path)?.read_all()?)
        .map_err(|e| Error::invalid(format!("this is not {what}: {e}")).caused_by(e).in_file(path))
}
