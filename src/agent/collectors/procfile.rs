//! A file of /proc or /sys that is opened once and read again for every collection.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Error, ErrorKind, Read as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::collectors::CollectError;

/// Most of what a file may hold: more than any host's, so that a strange file can't fill memory.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const BYTES_FIRST: usize = 4 * 1024;
/// A file that does not exist is looked for again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Longest line of a file of records that is known to be short.
const RECORD_BYTES_MAX: usize = 512;
/// Bytes of a file of one value.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// A larger buffer is not kept for the next file.
const SPARE_BYTES_MAX: usize = 256 * 1024;
/// Most buffers that a thread keeps: as many as texts that a collector holds at once.
const SPARES_MAX: usize = 4;

thread_local! {
    /// Buffers that no text uses now. All files of a thread share them, since a buffer for each
    /// was a fifth of the agent's memory.
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The text of a file, in a buffer that goes to the next file of the thread afterwards.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0).into_bytes();
        if (BYTES_FIRST..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            // A thread that ends has no buffers any more.
            let _ = SPARES.try_with(|spares| {
                let mut spares = spares.borrow_mut();
                if spares.len() < SPARES_MAX {
                    spares.push(buffer);
                }
            });
        }
    }
}

/// How the kernel gives a file's text (fs/seq_file.c).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// In one read, however long it is (`single_open`).
    Whole,
    /// In several reads of whole lines, each of a page at the most.
    Pieces,
    /// As `Pieces`, with short lines: a read that leaves room in a page for one more was the last.
    Records,
}

/// An open file. Reading it again costs one `pread` where the kernel gives the
/// whole text at once, and no `open` or `close`.
pub(crate) struct ProcFile {
    path: PathBuf,
    file: Option<File>,
    shape: Shape,
    missing_since: Option<Instant>,
}

impl ProcFile {
    fn new(path: PathBuf, shape: Shape) -> Self {
        Self { path, file: None, shape, missing_since: None }
    }

    /// A file that the kernel gives in pieces (one for each record), read until its end.
    pub(crate) fn pieces(path: PathBuf) -> Self {
        Self::new(path, Shape::Pieces)
    }

    /// A file that the kernel gives in one piece, so that a read which leaves room in the buffer
    /// was the last.
    pub(crate) fn whole(path: PathBuf) -> Self {
        Self::new(path, Shape::Whole)
    }

    /// A file of lines of at most 512 bytes, which needs no read to see its end where it is short.
    pub(crate) fn records(path: PathBuf) -> Self {
        Self::new(path, Shape::Records)
    }

    /// The open file, to wait for its changes; `None` before the first read.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The file's text now. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// When it can't be opened or read, or is over 4 MiB; the next call opens it again.
    pub(crate) fn read(&mut self) -> Result<Text, CollectError> {
        self.load().map_err(|error| failed(&self.path, error))
    }

    /// As [`Self::read`], for a file that not every kernel has: `None` where there is none. It is
    /// looked for again a minute later.
    ///
    /// # Errors
    ///
    /// When it exists and can't be opened or read.
    pub(crate) fn read_optional(&mut self, now: Instant) -> Result<Option<Text>, CollectError> {
        if self.missing_since.is_some_and(|since| now.duration_since(since) < LOOK_AGAIN) {
            return Ok(None);
        }
        match self.load() {
            Ok(text) => {
                self.missing_since = None;
                Ok(Some(text))
            }
            Err(error) if is_missing(&error) => {
                self.missing_since = Some(now);
                Ok(None)
            }
            Err(error) => Err(failed(&self.path, error)),
        }
    }

    fn load(&mut self) -> std::io::Result<Text> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let mut buffer = SPARES.with(|spares| spares.borrow_mut().pop()).unwrap_or_default();
        self.fill(&file, &mut buffer)?;
        self.file = Some(file);
        Ok(Text(
            String::from_utf8(buffer)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }

    /// Reads `file` into `buffer`, whose length is the text's afterwards.
    fn fill(&self, file: &File, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        let mut length = 0;
        buffer.resize(buffer.capacity().max(BYTES_FIRST), 0);
        loop {
            if length == buffer.len() {
                if length >= BYTES_MAX {
                    return Err(Error::new(ErrorKind::InvalidData, "the file is over 4 MiB"));
                }
                buffer.resize(length * 2, 0);
            }
            let room = buffer.len() - length;
            let read = match file.read_at(&mut buffer[length..], length as u64) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            length += read;
            let last = match self.shape {
                Shape::Whole => read < room,
                Shape::Pieces => false,
                Shape::Records => read + RECORD_BYTES_MAX < room.min(BYTES_FIRST),
            };
            if read == 0 || last {
                buffer.truncate(length);
                return Ok(());
            }
        }
    }
}

fn failed(path: &Path, error: Error) -> CollectError {
    CollectError::Read { path: path.to_owned(), error }
}

/// Whether a file, or the device that it is about, does not exist.
fn is_missing(error: &Error) -> bool {
    // ENODEV, EOPNOTSUPP and EINVAL: what sysfs says of attributes that a device does not have.
    error.kind() == ErrorKind::NotFound || matches!(error.raw_os_error(), Some(19 | 95 | 22))
}

/// The text of a small file that is read once in a while, without white space around it; `None`
/// when it can't be read.
pub(crate) fn value(path: &Path) -> Option<String> {
    // The kernel gives a small file in one read, so none is needed to see its end.
    let mut buffer = [0; VALUE_BYTES_MAX];
    let mut file = File::open(path).ok()?;
    let length = loop {
        match file.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other.ok()?,
        }
    };
    Some(str::from_utf8(&buffer[..length]).ok()?.trim().to_owned())
}

/// The number in a small file; `None` when there is none.
pub(crate) fn number(path: &Path) -> Option<f64> {
    value(path)?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The names in a folder, sorted, `most` at the most; empty when it can't be read.
pub(crate) fn names(dir: &Path, most: usize) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(most).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_whole_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for lines in [0, 1, 50, 5_000] {
            let text = "some text of one line\n".repeat(lines);
            std::fs::write(&path, &text).unwrap();
            for mut file in [
                ProcFile::whole(path.clone()),
                ProcFile::pieces(path.clone()),
                ProcFile::records(path.clone()),
            ] {
                assert_eq!(*file.read().unwrap(), text);
                assert_eq!(*file.read().unwrap(), text, "again");
            }
        }
    }

    #[test]
    fn a_file_that_no_kernel_here_has_is_looked_for_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ProcFile::whole(dir.path().join("later"));
        let now = Instant::now();
        assert!(file.read_optional(now).unwrap().is_none());
        std::fs::write(&file.path, "1").unwrap();
        assert!(file.read_optional(now).unwrap().is_none());
        assert_eq!(&*file.read_optional(now + LOOK_AGAIN).unwrap().unwrap(), "1");
    }

    #[test]
    fn files_share_a_buffer_and_never_each_others_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            ProcFile::whole(dir.path().join(name))
        };
        let mut long = file("long", "long ".repeat(2_000).as_bytes());
        let (mut short, mut broken) = (file("short", b"short"), file("broken", b"a\xff"));
        for _ in 0..3 {
            assert_eq!(long.read().unwrap().len(), 10_000);
            let held = short.read().unwrap();
            assert_eq!(&*broken.read().unwrap(), "a\u{fffd}");
            assert_eq!(&*held, "short");
        }
        assert_eq!(SPARES.with(|spares| spares.borrow().len()), 1);
    }
}
