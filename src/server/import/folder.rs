//! The data folder of the first release: how it is recognised, and how its files are read without
//! changing any of them.
//!
//! Its `cert.db` and its day files have `PRAGMA user_version` 0 and tables of their own; this
//! program's files have another version from their first transaction on.

use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use crate::base::exit::{Exit, Fatal};
use crate::base::ids::random_hex;
use crate::server::control;
use crate::server::storage::{StorageError, companions, day_of_file, uri};

/// Key of the whitelist's encrypted tokens.
const TOKEN_KEY: &str = "token.key";
/// Bytes of an SQLite file's header (sqlite.org/fileformat2.html#the_database_header).
const HEADER_BYTES: usize = 100;

/// A database of one day of the first oxmon.
#[derive(Debug)]
pub(crate) struct DayFile {
    /// File name.
    pub name: String,
    /// Whole path.
    pub path: PathBuf,
    /// Day that the name says, counted from 1970.
    pub day: i64,
}

/// The files of the first release in a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The folder.
    pub dir: PathBuf,
    /// `cert.db`, where there is one.
    pub control: Option<PathBuf>,
    /// Day files, oldest first.
    pub days: Vec<DayFile>,
}

impl Folder {
    /// The first release's files in `dir`. Day files that an earlier version of this program took
    /// for damaged ones of its own are among them.
    ///
    /// # Errors
    ///
    /// When the folder can't be listed.
    pub(crate) fn find(dir: &Path) -> std::io::Result<Self> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let original = name.split_once(".damaged-").map_or(name.as_str(), |(first, _)| first);
            let beside = name.ends_with("-wal") || name.ends_with("-shm");
            let Some(day) = day_of_file(original).filter(|_| !beside) else { continue };
            if is_day(&entry.path()) {
                days.push(DayFile { name, path: entry.path(), day });
            }
        }
        days.sort_by(|a, b| (a.day, &a.name).cmp(&(b.day, &b.name)));
        let control = dir.join(control::FILE);
        let control = is_control(&control).then_some(control);
        Ok(Self { dir: dir.to_owned(), control, days })
    }

    /// Whether there is no file of the first release.
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_none() && self.days.is_empty()
    }

    /// The key of the whitelist's tokens; `None` when there is none, or of another length.
    pub(crate) fn token_key(&self) -> Option<[u8; 32]> {
        std::fs::read(self.dir.join(TOKEN_KEY)).ok()?.try_into().ok()
    }

    /// Name of a file that a running program has open, as the system's list of locks says. SQLite
    /// keeps a lock on `NAME-shm` for as long as a connection is open. Always `None` where the
    /// system has no `/proc/locks`.
    pub(crate) fn in_use(&self) -> Option<String> {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        let files = self.days.iter().map(|day| &day.path).chain(&self.control);
        for file in files {
            let [_, shared, _] = companions(file);
            let Ok(meta) = std::fs::metadata(&shared) else { continue };
            let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
            let place = format!(" {major:02x}:{minor:02x}:{} ", meta.ino());
            if locks.lines().any(|line| line.contains(&place)) {
                return file.file_name().map(|name| name.to_string_lossy().into_owned());
            }
        }
        None
    }
}

/// Whether `dir` holds data of the first release, under the names that this program would use.
pub(crate) fn is_first_release(dir: &Path) -> bool {
    if is_control(&dir.join(control::FILE)) {
        return true;
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| day_of_file(&entry.file_name().to_string_lossy()).is_some())
        .any(|entry| is_day(&entry.path()))
}

/// Refuses to work on a folder of the first release.
///
/// # Errors
///
/// Says how its data comes over.
pub(crate) fn refuse(dir: &Path, config: &Path) -> Result<(), Fatal> {
    if !is_first_release(dir) {
        return Ok(());
    }
    let (shown, config) = (dir.display(), config.display());
    Err(Fatal::new(
        Exit::DataDir,
        format!(
            "data_dir {shown} holds data of the first oxmon, which stays as it is: rename the \
             folder, such as to {shown}.first, and run `oxmon-server import {shown}.first \
             {config}` (docs/upgrade-from-first-oxmon.md)"
        ),
    ))
}

/// Whether a day file is one of the first release.
pub(crate) fn is_day(path: &Path) -> bool {
    let has = |tables: &[String], name: &str| tables.iter().any(|table| table == name);
    is_unversioned(path) && tables(path).is_some_and(|tables| has(&tables, "metrics"))
}

fn is_control(path: &Path) -> bool {
    let own = ["certificate_details", "cert_check_results"];
    let is_own = |tables: Vec<String>| tables.iter().any(|table| own.contains(&table.as_str()));
    is_unversioned(path) && tables(path).is_some_and(is_own)
}

/// Whether a file is an SQLite database with `user_version` 0 in its header. Read without SQLite,
/// which would make files beside it.
fn is_unversioned(path: &Path) -> bool {
    let mut header = [0; HEADER_BYTES];
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    match file.read_exact(&mut header) {
        Ok(()) => header.starts_with(b"SQLite format 3\0") && header[60..64] == [0; 4],
        // All of it may still be in the log.
        Err(_) => has_log(path),
    }
}

fn has_log(path: &Path) -> bool {
    let [log, ..] = companions(path);
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Names of a database's tables, without views; `None` when it can't be read. What is in the file
/// suffices where there is something: the tables were made at its beginning.
fn tables(path: &Path) -> Option<Vec<String>> {
    let names = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        let mut query =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        query.query_map([], |row| row.get(0))?.collect()
    };
    let found = immutable(path).and_then(|connection| names(&connection)).unwrap_or_default();
    if !found.is_empty() || !has_log(path) {
        return Some(found);
    }
    let scratch = Scratch::make(&std::env::temp_dir()).ok()?;
    names(&scratch.open(path).ok()?).ok()
}

fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri(path, "immutable=1"), flags)
}

/// A folder for copies, removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder in `parent`, for its owner alone.
    ///
    /// # Errors
    ///
    /// When it can't be made.
    pub(crate) fn make(parent: &Path) -> std::io::Result<Self> {
        let path = parent.join(format!(".oxmon-import-{}", random_hex(8)));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Opens a database for a glance at what is in its file, without what is only in its log.
    ///
    /// # Errors
    ///
    /// When it can't be opened.
    pub(crate) fn glance(&self, path: &Path) -> Result<Connection, StorageError> {
        Ok(immutable(path)?)
    }

    /// Opens a database for reading. One whose log holds something is copied with its log first:
    /// SQLite can't read a log without writing beside it.
    ///
    /// # Errors
    ///
    /// When it can't be copied or opened.
    pub(crate) fn open(&self, path: &Path) -> Result<Connection, StorageError> {
        if !has_log(path) {
            return Ok(immutable(path)?);
        }
        let copy = self.0.join("copy.db");
        for (from, to) in companions(path).iter().zip(companions(&copy)) {
            let _ = std::fs::remove_file(&to);
            if !from.to_string_lossy().ends_with("-shm") {
                std::fs::copy(from, &to)?;
            }
        }
        Ok(Connection::open(&copy)?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays is a hidden folder that nothing reads.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The columns of a table, empty when there is no such table.
pub(crate) fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    query.query_map([table], |row| row.get(0))?.collect()
}

/// A SELECT over a table whose columns depend on the release: each of `wanted` is a column and
/// what stands for it where the table lacks it. `None` when there is no such table.
pub(crate) fn select(
    connection: &Connection,
    table: &str,
    wanted: &[(&str, &str)],
) -> rusqlite::Result<Option<String>> {
    let there = columns(connection, table)?;
    if there.is_empty() {
        return Ok(None);
    }
    let list: Vec<&str> = wanted
        .iter()
        .map(|(name, other)| if there.iter().any(|column| column == name) { name } else { other })
        .copied()
        .collect();
    Ok(Some(format!("SELECT {} FROM {table}", list.join(", "))))
}

/// Rows of a table; none when the release has no such table.
pub(crate) fn rows<T>(
    db: &Connection,
    table: &str,
    columns: &[(&str, &str)],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StorageError> {
    let Some(sql) = select(db, table, columns)? else { return Ok(Vec::new()) };
    let mut query = db.prepare(&format!("{sql} ORDER BY rowid"))?;
    let found = query.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(found)
}
