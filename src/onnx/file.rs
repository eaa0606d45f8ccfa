//! Files that are read where and when their bytes are needed, without a map: a file that changes is an error, where a
//! map would end the process or change values that were checked.
//!
//! What lies where in a file is known to others ([`super::skim`], [`super::external`]).

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, failure};
use crate::tensor::{Foreign, Origin};

/// The times of changes are told apart if they are so far apart: systems count them in ticks of their clock.
const TICK: Duration = Duration::from_millis(20);

/// A regular file, as it was when it was opened.
#[derive(Debug)]
pub(super) struct SourceFile {
    path: PathBuf,
    stamp: Stamp,
    /// `None` for a file that is opened again whenever it is read.
    file: Option<File>,
}

/// By what a file is known again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    /// Device and number, where the system has them.
    identity: (u64, u64),
    bytes: u64,
    modified: Option<SystemTime>,
}

impl SourceFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> Result<SourceFile> {
        let (file, metadata) = files::open(path)?;
        // What is written later must have another time than what is there.
        let since = metadata.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
        if let Some(rest) = since.and_then(|since| TICK.checked_sub(since)) {
            std::thread::sleep(rest);
        }
        Ok(SourceFile { path: path.to_owned(), stamp: Stamp::of(&metadata), file: Some(file) })
    }

    /// The same file, opened again whenever it is read: the files that a process may have open are few.
    pub fn closed(self) -> SourceFile {
        SourceFile { file: None, ..self }
    }

    /// How long it was when it was opened.
    pub fn len(&self) -> u64 {
        self.stamp.bytes
    }

    /// What the system says of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it says nothing.
    pub fn metadata(&self) -> Result<Metadata> {
        let metadata = match &self.file {
            Some(file) => file.metadata(),
            None => std::fs::metadata(&self.path),
        };
        metadata.map_err(|e| failure(&self.path, e))
    }

    /// Fills `to` with the bytes from `at` on.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if they cannot be read, or the file was changed since it was opened.
    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<()> {
        let opened;
        let file = match &self.file {
            Some(file) => file,
            None => {
                opened = files::open(&self.path)?.0;
                &opened
            }
        };
        let read = read_exact_at(file, at, to);
        // Whoever changes a file sets its time before its bytes.
        let metadata = file.metadata().map_err(|e| failure(&self.path, e))?;
        if Stamp::of(&metadata) != self.stamp {
            let message = format!("'{}' has changed since it was opened", self.path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        read.map_err(|e| failure(&self.path, e))
    }

    /// Everything.
    ///
    /// # Errors
    /// As [`SourceFile::read`]; [`ErrorKind::Limit`] if there is not enough memory.
    pub fn read_all(&self) -> Result<Bytes> {
        let mut bytes = Vec::new();
        grow(&mut bytes, self.len())?;
        self.read(0, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }
}

/// A part of a file.
#[derive(Clone, Debug)]
pub(super) struct FilePart {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Where the part begins.
    pub at: u64,
    /// Its length; the part ends within the file.
    pub bytes: usize,
}

impl FilePart {
    /// The bytes.
    ///
    /// # Errors
    /// As [`SourceFile::read_all`].
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut bytes = Vec::new();
        grow(&mut bytes, self.bytes as u64)?;
        self.file.read(self.at, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }
}

impl Foreign for FilePart {
    fn size(&self) -> usize {
        self.bytes
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin::File { identity: self.file.stamp.words()?, at: self.at, bytes: self.bytes })
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read(&self, at: usize, to: &mut [u8]) -> Result<()> {
        self.file.read(self.at + at as u64, to)
    }
}

/// Bytes of a message that is in memory.
pub(super) struct InMemory(pub Bytes);

impl Foreign for InMemory {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn in_memory(&self) -> Option<&[u8]> {
        Some(&self.0)
    }

    fn read(&self, at: usize, to: &mut [u8]) -> Result<()> {
        to.copy_from_slice(&self.0[at..at + to.len()]);
        Ok(())
    }
}

/// Appends so many zeros.
///
/// # Errors
/// [`ErrorKind::Limit`] if there is not enough memory.
pub(super) fn grow(bytes: &mut Vec<u8>, by: u64) -> Result<()> {
    let fail = || Error::new(ErrorKind::Limit, format!("{by} bytes of memory cannot be allocated"));
    let by = usize::try_from(by).map_err(|_| fail())?;
    bytes.try_reserve(by).map_err(|_| fail())?;
    bytes.resize(bytes.len() + by, 0);
    Ok(())
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let identity = (0, 0);
        Stamp { identity, bytes: metadata.len(), modified: metadata.modified().ok() }
    }

    /// All of it in numbers, if that is enough to tell any two files apart.
    fn words(&self) -> Option<Vec<u64>> {
        let (device, number) = self.identity;
        let modified = self.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let time = [modified.as_secs(), u64::from(modified.subsec_nanos())];
        cfg!(unix).then(|| vec![device, number, self.bytes, time[0], time[1]])
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, at: u64, to: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut at: u64, mut to: &mut [u8]) -> std::io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (to, at) = (&mut to[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let changed = |change: &dyn Fn()| {
            std::fs::write(&path, [1u8; 100]).unwrap();
            let open = SourceFile::open(&path).unwrap();
            let closed = SourceFile::open(&path).unwrap().closed();
            let mut bytes = [0; 10];
            for file in [&open, &closed] {
                file.read(90, &mut bytes).unwrap();
                assert_eq!(bytes, [1; 10]);
            }
            change();
            [open, closed].map(|file| file.read(0, &mut bytes).err().map(|e| e.to_string()))
        };
        let message = Some(format!("'{}' has changed since it was opened", path.display()));
        let shorten = || std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(50).unwrap();
        assert_eq!(changed(&shorten), [message.clone(), message.clone()]);
        let rewrite = || std::fs::write(&path, [2u8; 100]).unwrap();
        assert_eq!(changed(&rewrite), [message.clone(), message.clone()]);
        // An open file stays what it is if another takes its name.
        let replace = || {
            std::fs::write(folder.path().join("g"), [2u8; 100]).unwrap();
            std::fs::rename(folder.path().join("g"), &path).unwrap();
        };
        assert_eq!(changed(&replace), [None, message]);
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1u8; 3]).unwrap();
        let error = SourceFile::open(file.path()).unwrap().read(2, &mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
