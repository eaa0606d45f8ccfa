//! External data: tensors in files next to the model, and the rule that nothing outside the model's folder is
//! ever read.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::file::{FilePart, SourceFile};
use super::proto::TensorProto;
use crate::error::{Error, Result};
use crate::files::failure;

/// The most files that stay open. Some models have one for each weight, and a process may have a thousand or so.
const OPEN_FILES: usize = 64;

/// The folder that external data may come from, and the files that were opened already.
#[derive(Debug, Default)]
pub(super) struct External {
    /// `None` for a model that was not read from a file: it has no external data.
    folder: Option<PathBuf>,
    files: Mutex<HashMap<String, Arc<SourceFile>>>,
}

impl External {
    /// Of a model in this folder.
    pub fn new(folder: Option<&Path>) -> External {
        External { folder: folder.map(Path::to_owned), files: Mutex::default() }
    }

    /// Where the bytes of a tensor lie whose data is external. `expected` is how many its type and shape ask for.
    pub fn find(&self, tensor: &TensorProto, expected: usize) -> Result<FilePart> {
        let (mut location, mut offset, mut length) = (None, 0u64, None);
        for entry in &tensor.external_data {
            let value = entry.value();
            match entry.key() {
                "location" => location = Some(value),
                "offset" => offset = parse("offset", value)?,
                "length" => length = Some(parse("length", value)?),
                // The checksum is optional, and its only specified form (SHA-1) protects against nothing.
                "checksum" => {}
                key => {
                    return Err(Error::unsupported(format!(
                        "the entry '{}' of external data is not supported",
                        key.escape_debug()
                    )));
                }
            }
        }
        let location = location.ok_or_else(|| Error::invalid("the external data has no location"))?;
        if let Some(length) = length.filter(|l| *l != expected as u64) {
            return Err(Error::invalid(format!(
                "the external data has {length} bytes, but type and shape ask for {expected}"
            )));
        }
        let file = self.file(location)?;
        if offset.checked_add(expected as u64).is_none_or(|end| end > file.len()) {
            return Err(Error::invalid(format!(
                "the external data is {expected} bytes at offset {offset} of '{}', which has {} bytes",
                location.escape_debug(),
                file.len()
            )));
        }
        Ok(FilePart { file, at: offset, bytes: expected })
    }

    fn file(&self, location: &str) -> Result<Arc<SourceFile>> {
        let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(file) = files.get(location) {
            return Ok(Arc::clone(file));
        }
        let folder = self.folder.as_deref().ok_or_else(|| {
            Error::unsupported(
                "the model has external data, but was not read from a file: its folder is unknown",
            )
        })?;
        let mut file = open_below(folder, location)?;
        if files.len() >= OPEN_FILES {
            file = file.closed();
        }
        let file = Arc::new(file);
        files.insert(location.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

fn parse(what: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|e| {
        Error::invalid(format!(
            "the {what} of the external data is '{}', which is not a number",
            value.escape_debug()
        ))
        .caused_by(e)
    })
}

/// Opens a regular file below `folder`. Whatever could lead elsewhere is refused: `..`, absolute paths, symbolic
/// links anywhere in `location`, and files that have a second name somewhere (hard links).
fn open_below(folder: &Path, location: &str) -> Result<SourceFile> {
    let refuse = |why: &str| {
        Error::invalid(format!("the external data '{}' is refused: {why}", location.escape_debug()))
    };
    if location.is_empty() {
        return Err(refuse("the location is empty"));
    }
    if location.contains(['\\', '\0']) {
        return Err(refuse("it contains a backslash or a NUL"));
    }
    let mut path = folder.to_owned();
    for component in Path::new(location).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => continue,
            Component::ParentDir => return Err(refuse("it leaves the model's folder by '..'")),
            Component::RootDir | Component::Prefix(_) => return Err(refuse("the path is absolute")),
        }
        let metadata = std::fs::symlink_metadata(&path).map_err(|e| failure(&path, e))?;
        if metadata.file_type().is_symlink() {
            return Err(refuse("it is, or is reached by, a symbolic link"));
        }
    }
    let before = std::fs::symlink_metadata(&path).map_err(|e| failure(&path, e))?;
    if !before.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    let file = SourceFile::open(&path)?;
    let opened = file.metadata()?;
    if !same_file(&before, &opened) {
        return Err(refuse("it changed while it was opened"));
    }
    if has_other_names(&opened) {
        return Err(refuse("it has other names elsewhere (hard links): copy it"));
    }
    Ok(file)
}

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.dev() == b.dev() && a.ino() == b.ino()
}

#[cfg(unix)]
fn has_other_names(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(file) != 1
}

#[cfg(not(unix))]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    a.len() == b.len() && a.file_type() == b.file_type()
}

#[cfg(not(unix))]
fn has_other_names(_: &std::fs::Metadata) -> bool {
    false
}
