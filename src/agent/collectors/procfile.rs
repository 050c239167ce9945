//! A file of /proc that is opened once and read again for every collection.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::agent::collectors::CollectError;

/// Most of what a file may hold: more than any host's, so that a strange file can't fill memory.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const BYTES_FIRST: usize = 4 * 1024;

/// An open file with its buffer. Reading it again costs one `pread` where the kernel gives the
/// whole text at once, and no `open` or `close`.
pub struct ProcFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    whole: bool,
}

impl ProcFile {
    /// A file that the kernel gives in pieces (one for each record), read until its end.
    pub fn pieces(path: PathBuf) -> Self {
        Self { path, file: None, buffer: Vec::new(), whole: false }
    }

    /// A file that the kernel gives in one piece (`single_open` of seq_file), so that a read
    /// which leaves room in the buffer was the last.
    pub fn whole(path: PathBuf) -> Self {
        Self { path, file: None, buffer: Vec::new(), whole: true }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, to wait for its changes; `None` before the first read.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The file's text now. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// When it can't be opened or read; the next call opens it anew.
    pub fn read(&mut self) -> Result<std::borrow::Cow<'_, str>, CollectError> {
        let failed = |path: &Path, error| CollectError::Read { path: path.to_owned(), error };
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path).map_err(|error| failed(&self.path, error))?,
        };
        let length = self.fill(&file).map_err(|error| failed(&self.path, error))?;
        self.file = Some(file);
        Ok(String::from_utf8_lossy(&self.buffer[..length]))
    }

    fn fill(&mut self, file: &File) -> std::io::Result<usize> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                if length >= BYTES_MAX {
                    return Err(std::io::Error::new(ErrorKind::InvalidData, "it is too large"));
                }
                self.buffer.resize((length * 2).max(BYTES_FIRST), 0);
            }
            let read = match file.read_at(&mut self.buffer[length..], length as u64) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            length += read;
            if read == 0 || (self.whole && length < self.buffer.len()) {
                return Ok(length);
            }
        }
    }
}
