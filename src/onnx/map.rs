//! Files as bytes without a copy: what the operating system maps stays on disk until it is read.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use prost::bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The contents of a file, all of which is about to be read.
pub(super) fn map(path: &Path) -> Result<Bytes> {
    let file = File::open(path).map_err(|e| failure(path, e))?;
    let Some(map) = pages(path, &file)? else { return Ok(Bytes::new()) };
    // One call instead of many faults. Where the system does not know it, reading takes a little longer.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::PopulateRead);
    Ok(Bytes::from_owner(map))
}

/// The contents of a file that is open already; `path` is for messages.
pub(super) fn map_file(path: &Path, file: &File) -> Result<Bytes> {
    Ok(pages(path, file)?.map_or_else(Bytes::new, Bytes::from_owner))
}

/// The map of a file, unless it is empty.
fn pages(path: &Path, file: &File) -> Result<Option<Mmap>> {
    let metadata = file.metadata().map_err(|e| failure(path, e))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Io, format!("'{}' is not a file", path.display())));
    }
    if metadata.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the map is read-only and private to this process. That nobody shortens or rewrites the file
    // while its model exists is a condition that `Model::from_onnx` states.
    unsafe { Mmap::map(file) }.map(Some).map_err(|e| failure(path, e))
}

/// An error of the operating system, with the file's name.
pub(super) fn failure(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read '{}': {e}", path.display())).caused_by(e)
}
