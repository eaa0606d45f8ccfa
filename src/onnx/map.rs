//! Files as bytes without a copy: what the operating system maps stays on disk until it is read.

use std::fs::File;
use std::path::Path;

use prost::bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The contents of a file.
pub(super) fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|e| failure(path, &e))?;
    map_file(path, &file)
}

/// The contents of a file that is open already; `path` is for messages.
pub(super) fn map_file(path: &Path, file: &File) -> Result<Bytes> {
    let metadata = file.metadata().map_err(|e| failure(path, &e))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Io, format!("'{}' is not a file", path.display())));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and private to this process. That nobody shortens or rewrites the file
    // while its model is being loaded is a condition that `Model::from_onnx` states.
    let map = unsafe { memmap2::Mmap::map(file) }.map_err(|e| failure(path, &e))?;
    Ok(Bytes::from_owner(map))
}

/// An error of the operating system, with the file's name.
pub(super) fn failure(path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read '{}': {e}", path.display()))
}
