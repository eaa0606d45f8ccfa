//! Files given by a user: opened only if they are regular files. A pipe may never be written to, a device never end.
//!
//! What is in a file, and that it stays as it is, is left to those who read it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::path::Path;

use crate::budget;
use crate::error::{Error, ErrorKind, Result};

/// Opens a regular file for reading, with what the system says of it. What is none is not waited for.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be opened, or is no regular file.
pub fn open(path: &Path) -> Result<(File, Metadata)> {
    let fail = |e| failure(path, e);
    expect_regular(path, &std::fs::metadata(path).map_err(fail)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // What took the file's place meanwhile is not waited for.
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    expect_regular(path, &metadata)?;
    Ok((file, metadata))
}

/// All bytes of a regular file.
///
/// # Errors
/// As [`open`]; [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Limit`] if there is not enough memory.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (mut file, metadata) = open(path)?;
    let mut bytes = Vec::new();
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    budget::check(size).map_err(|e| e.in_file(path))?;
    file.read_to_end(&mut bytes).map_err(|e| failure(path, e))?;
    Ok(bytes)
}

/// A regular file of text.
///
/// # Errors
/// As [`read`]; [`ErrorKind::Io`] if it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|e| failure(path, std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error())))
}

/// An error of the operating system, with the file's name.
pub(crate) fn failure(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {}: {e}", show(path))).caused_by(e)
}

/// A path as part of a message: printable, in one line.
fn show(path: &Path) -> String {
    format!("'{}'", path.display().to_string().escape_debug())
}

fn expect_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = what_it_is(metadata);
    Err(Error::new(ErrorKind::Io, format!("cannot read {}: it is {what}, not a file", show(path))))
}

fn what_it_is(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        return "a directory";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    "something else"
}
