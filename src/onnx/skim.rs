//! Reading a model's file without its weights: the message as it is, but for the raw data of large initializers, of which
//! only the place is noted.
//!
//! Only the way to initializers is understood here. A file in which that way is damaged is read as a whole, for the decoder
//! to say what is wrong with it.

use std::collections::HashMap;
use std::ops::Range;

use prost::bytes::Bytes;
use prost::encoding::encode_varint;

use super::file::{SourceFile, grow};
use super::tensor::LATE;
use crate::error::Result;

/// Field numbers of the messages on the way, and the wire types of fields.
const MODEL_GRAPH: u64 = 7;
const GRAPH_INITIALIZER: u64 = 5;
const TENSOR_RAW_DATA: u64 = 9;
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// What is read at once where it is not known yet what follows.
const WINDOW: usize = 4096;

/// A message without weights.
#[derive(Debug)]
pub(super) struct Skimmed {
    /// The message.
    pub message: Bytes,
    /// Where the raw data lies that the message lacks, by the number of the initializer in the message's graph.
    pub raw_data: HashMap<usize, Range<u64>>,
}

/// Reads a file.
///
/// # Errors
/// As [`SourceFile::read`].
pub(super) fn skim(file: &SourceFile) -> Result<Skimmed> {
    let mut reader = Reader { file, at: 0, window: Vec::new(), window_at: 0 };
    let (mut message, mut raw_data, mut initializers) = (Vec::new(), HashMap::new(), 0);
    let whole = fields(&mut reader, file.len(), &mut message, &mut |reader, field, message| {
        if field.number != MODEL_GRAPH {
            return Ok(None);
        }
        let mut graph = Vec::new();
        let end = field.end;
        let fine = fields(reader, end, &mut graph, &mut |reader, field, graph| {
            if field.number != GRAPH_INITIALIZER {
                return Ok(None);
            }
            let number = initializers;
            initializers += 1;
            let (fine, place) = tensor(reader, field, graph)?;
            if let Some(place) = place {
                raw_data.insert(number, place);
            }
            Ok(Some(fine))
        })?;
        delimited(message, MODEL_GRAPH, &graph);
        Ok(Some(fine))
    })?;
    if !whole {
        return Ok(Skimmed { message: file.read_all()?, raw_data: HashMap::new() });
    }
    Ok(Skimmed { message: Bytes::from(message), raw_data })
}

/// Reads a tensor, and its raw data only if there is little. Returns whether the message is sound, and where the data is.
fn tensor(reader: &mut Reader<'_>, field: Field, to: &mut Vec<u8>) -> Result<(bool, Option<Range<u64>>)> {
    let (start, end) = (reader.at, field.end);
    let (mut rest, mut places, mut seen) = (Vec::new(), Vec::new(), 0);
    let fine = fields(reader, end, &mut rest, &mut |reader, field, _| {
        seen += usize::from(field.number == TENSOR_RAW_DATA);
        if field.number != TENSOR_RAW_DATA || field.end - reader.at < LATE as u64 {
            return Ok(None);
        }
        places.push(reader.at..field.end);
        reader.at = field.end;
        Ok(Some(true))
    })?;
    if fine && seen > 1 {
        // The last one counts, which is for the decoder to say.
        let mut whole = Vec::new();
        reader.at = start;
        reader.copy(end, &mut whole)?;
        delimited(to, GRAPH_INITIALIZER, &whole);
        return Ok((true, None));
    }
    delimited(to, GRAPH_INITIALIZER, &rest);
    Ok((fine, places.pop()))
}

/// A field whose contents come next.
#[derive(Clone, Copy)]
struct Field {
    number: u64,
    /// Where the contents end.
    end: u64,
}

/// What is done with a field of delimited contents: `None` if it is to be copied, otherwise whether it was sound.
type Visit<'v> = dyn FnMut(&mut Reader<'_>, Field, &mut Vec<u8>) -> Result<Option<bool>> + 'v;

/// Reads fields up to `end`. Copies those that `visit` does not take. Returns whether all were sound.
fn fields(reader: &mut Reader<'_>, end: u64, to: &mut Vec<u8>, visit: &mut Visit<'_>) -> Result<bool> {
    while reader.at < end {
        let start = reader.at;
        let Some(key) = reader.varint(end)? else { return Ok(false) };
        let field_end = match key & 7 {
            VARINT => reader.varint(end)?.map(|_| reader.at),
            FIXED_32 => reader.at.checked_add(4),
            FIXED_64 => reader.at.checked_add(8),
            DELIMITED => reader.varint(end)?.and_then(|bytes| reader.at.checked_add(bytes)),
            _ => None,
        };
        let Some(field_end) = field_end.filter(|e| *e <= end) else { return Ok(false) };
        if key & 7 == DELIMITED {
            match visit(reader, Field { number: key >> 3, end: field_end }, to)? {
                Some(true) => continue,
                Some(false) => return Ok(false),
                None => {}
            }
        }
        reader.at = start;
        reader.copy(field_end, to)?;
    }
    Ok(true)
}

/// Appends a field of delimited contents.
fn delimited(to: &mut Vec<u8>, number: u64, contents: &[u8]) {
    encode_varint(number << 3 | DELIMITED, to);
    encode_varint(contents.len() as u64, to);
    to.extend_from_slice(contents);
}

/// A place in a file.
struct Reader<'f> {
    file: &'f SourceFile,
    at: u64,
    /// Bytes that were read already.
    window: Vec<u8>,
    window_at: u64,
}

impl Reader<'_> {
    /// A number before `end`; `None` if there is none.
    fn varint(&mut self, end: u64) -> Result<Option<u64>> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Ok(None);
            }
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Ten bytes have room for more than 64 bits.
                return Ok((shift < 63 || byte <= 1).then_some(value));
            }
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8> {
        let in_window = |r: &Self| r.at.checked_sub(r.window_at).filter(|i| *i < r.window.len() as u64);
        let i = match in_window(self) {
            Some(i) => i as usize,
            None => {
                let bytes = (self.file.len() - self.at).min(WINDOW as u64);
                self.window.resize(bytes as usize, 0);
                self.window_at = self.at;
                self.file.read(self.at, &mut self.window)?;
                0
            }
        };
        self.at += 1;
        Ok(self.window[i])
    }

    /// Appends the bytes up to `end`.
    fn copy(&mut self, end: u64, to: &mut Vec<u8>) -> Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.window_at <= self.at && end <= window_end {
            let [from, until] = [self.at, end].map(|at| (at - self.window_at) as usize);
            to.extend_from_slice(&self.window[from..until]);
        } else {
            let before = to.len();
            grow(to, end - self.at)?;
            self.file.read(self.at, &mut to[before..])?;
        }
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};

    fn skim_bytes(bytes: &[u8]) -> Skimmed {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        skim(&SourceFile::open(file.path()).unwrap()).unwrap()
    }

    fn tensor_of(name: &str, bytes: usize) -> TensorProto {
        let raw_data = Some(vec![7u8; bytes].into());
        TensorProto { name: Some(name.to_owned()), dims: vec![bytes as i64], raw_data, ..Default::default() }
    }

    fn model_of(initializer: Vec<TensorProto>) -> ModelProto {
        let doc_string = Some("d".repeat(3 * WINDOW));
        let graph = GraphProto { name: Some("g".to_owned()), initializer, doc_string, ..Default::default() };
        ModelProto { ir_version: Some(8), graph: Some(graph), ..Default::default() }
    }

    #[test]
    fn what_is_left_is_the_message_and_what_is_not_is_known_by_its_place() {
        let sizes = [3, LATE, 10, 5 * WINDOW, LATE - 1, 0];
        let names = ["a", "b", "c", "d", "e", "f"];
        let model = model_of(names.iter().zip(sizes).map(|(n, s)| tensor_of(n, s)).collect());
        let bytes = model.encode_to_vec();
        let skimmed = skim_bytes(&bytes);
        let mut decoded = ModelProto::decode(skimmed.message).unwrap();
        assert_eq!(skimmed.raw_data.len(), 2);
        for (i, place) in skimmed.raw_data {
            let raw = bytes[place.start as usize..place.end as usize].to_vec();
            assert_eq!(raw.len(), sizes[i]);
            let tensor = &mut decoded.graph.as_mut().unwrap().initializer[i];
            assert_eq!(tensor.raw_data.replace(raw.into()), None);
        }
        assert_eq!(decoded, model);
    }

    #[test]
    fn damaged_messages_are_left_to_the_decoder() {
        let bytes = model_of(vec![tensor_of("a", LATE), tensor_of("b", 5)]).encode_to_vec();
        for end in (0..bytes.len()).step_by(97).chain(bytes.len() - 30..bytes.len()) {
            let skimmed = skim_bytes(&bytes[..end]);
            let (ours, theirs) = (ModelProto::decode(skimmed.message), ModelProto::decode(&bytes[..end]));
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{end}");
        }
    }

    #[test]
    fn data_that_is_there_twice_is_left_to_the_decoder() {
        let mut model = model_of(vec![]).encode_to_vec();
        let mut twice = tensor_of("a", LATE).encode_to_vec();
        delimited(&mut twice, TENSOR_RAW_DATA, &[1; LATE]);
        let mut graph = Vec::new();
        delimited(&mut graph, GRAPH_INITIALIZER, &twice);
        delimited(&mut model, MODEL_GRAPH, &graph);
        let skimmed = skim_bytes(&model);
        assert!(skimmed.raw_data.is_empty());
        assert_eq!(ModelProto::decode(skimmed.message), ModelProto::decode(&*model));
    }
}
