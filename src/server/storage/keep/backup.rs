//! `oxmon-server backup` and `restore`: every database, copied while the server runs (SQLite's
//! online backup), and put back after a check.

use std::fs;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::base::cli::{print, say};
use crate::base::exit::{Exit, Fatal};
use crate::rt::stop::Stop;
use crate::server::config;
use crate::server::config::ServerConfig;
use crate::server::storage::StorageError;
use crate::server::storage::day::file;
use crate::server::storage::keep::open;

/// Pages copied before a writer gets its turn.
const STEP_PAGES: i32 = 2_000;
const PAUSE: Duration = Duration::from_millis(2);

/// Copies every database of a configuration's `data_dir` into the folder `dest`, which must hold
/// none yet. The copies get their names once all of them are whole.
///
/// # Errors
///
/// When a file can't be read or written; nothing is left of the copies then.
pub(crate) fn backup(config: &Path, dest: &Path) -> Result<(), Fatal> {
    let source = ServerConfig::load(config)?.data_dir;
    copy_all(&source, dest)
}

/// Checks every database of the folder `source` and copies it into the `data_dir` of a
/// configuration, which must hold none yet.
///
/// # Errors
///
/// When a file is damaged, or `data_dir` is in use or not empty; nothing is changed then.
pub(crate) fn restore(config: &Path, source: &Path) -> Result<(), Fatal> {
    let dest = ServerConfig::load(config)?.data_dir;
    let files = databases(source)?;
    // Held until the end, so that no server starts on half of it.
    let _lock = open::lock_folder(&dest).map_err(|error| match error {
        StorageError::Locked(_) => Fatal::new(Exit::Locked, error.to_string()),
        error => failed(&dest, error),
    })?;
    for (index, file) in files.iter().enumerate() {
        progress(&format!("checking {} of {}: {file}", index + 1, files.len()));
        check(&source.join(file))?;
    }
    copy_all(source, &dest)
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Fatal {
    Fatal::new(Exit::Failed, format!("{}: {why}", path.display()))
}

/// The databases' file names: the control file, then the days, oldest first.
fn databases(dir: &Path) -> Result<Vec<String>, Fatal> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let entry = entry.map_err(|error| failed(dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == config::CONTROL_FILE || file::day_of_file(&name).is_some() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(failed(dir, "there is no database of oxmon in it"));
    }
    names.sort_by_key(|name| (name != config::CONTROL_FILE, name.clone()));
    Ok(names)
}

fn copy_all(source: &Path, dest: &Path) -> Result<(), Fatal> {
    let files = databases(source)?;
    fs::create_dir_all(dest).map_err(|error| failed(dest, error))?;
    if databases(dest).is_ok() {
        return Err(failed(dest, "it holds databases already; name an empty folder"));
    }
    let part = |file: &String| dest.join(format!("{file}.part"));
    let mut copied = Vec::new();
    let outcome = files.iter().enumerate().try_for_each(|(index, file)| {
        let what = format!("copying {} of {}: {file}", index + 1, files.len());
        match copy(&source.join(file), &part(file), &what) {
            // A day that the retention took meanwhile is missed by nobody.
            Err(_) if !source.join(file).exists() => return Ok(()),
            outcome => outcome?,
        }
        copied.push(file);
        Ok(())
    });
    progress_end();
    if let Err(error) = outcome {
        // What was copied is of no use without the rest; the first error is the one reported.
        files.iter().map(part).for_each(|part| drop(fs::remove_file(part)));
        return Err(error);
    }
    let mut bytes = 0;
    for file in &copied {
        let whole = dest.join(file);
        let name = || fs::rename(part(file), &whole).and_then(|()| fs::metadata(&whole));
        bytes += name().map_err(|error| failed(&whole, error))?.len();
    }
    let names = || fs::File::open(dest).and_then(|folder| folder.sync_all());
    names().map_err(|error| failed(dest, error))?;
    print(&format!("{} databases, {bytes} bytes: {}\n", copied.len(), dest.display()));
    Ok(())
}

/// Copies one database as it is at one moment, and checks the copy.
fn copy(source: &Path, part: &Path, what: &str) -> Result<(), Fatal> {
    copy_into(source, part, what).map_err(|error| failed(source, error))?;
    let sync = || fs::File::open(part).and_then(|file| file.sync_all());
    sync().map_err(|error| failed(part, error))
}

fn copy_into(source: &Path, part: &Path, what: &str) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(source, flags)?;
    from.busy_timeout(Duration::from_secs(30))?;
    // A snapshot: without it a writer would make the copy begin again and again.
    from.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
    let mut to = Connection::open(part)?;
    {
        let copying = Backup::new(&from, &mut to)?;
        let wait = Stop::never();
        loop {
            let step = copying.step(STEP_PAGES)?;
            let pages = copying.progress();
            let done = i64::from(pages.pagecount - pages.remaining) * 100;
            progress(&format!("{what}, {} %", done / i64::from(pages.pagecount.max(1))));
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => {
                    wait.wait(PAUSE);
                }
            }
        }
    }
    to.pragma_update(None, "journal_mode", "DELETE")?;
    drop(to);
    check_open(part)
}

/// Whether SQLite finds a file whole.
fn check(path: &Path) -> Result<(), Fatal> {
    check_open(path).map_err(|error| {
        failed(path, format!("it is damaged and was not restored: {error}; nothing was changed"))
    })
}

fn check_open(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::ModuleError(verdict))
}

/// One line that is rewritten, on a terminal.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        say(&format!("\r\x1b[K{what}"));
    }
}

fn progress_end() {
    if std::io::stderr().is_terminal() {
        say("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    fn config(dir: &Path, data: &str) -> PathBuf {
        let path = dir.join(format!("{data}.toml"));
        let data = dir.join(data).display().to_string();
        fs::write(&path, format!("data_dir = {data:?}\n")).unwrap();
        path
    }

    fn database(path: &Path, rows: i64) {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch("CREATE TABLE IF NOT EXISTS t (x)").unwrap();
        for row in 0..rows {
            db.execute("INSERT INTO t VALUES (?1)", [row]).unwrap();
        }
    }

    #[test]
    fn a_copy_is_whole_while_a_writer_goes_on_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let config_of = config(dir.path(), "data");
        fs::create_dir(dir.path().join("data")).unwrap();
        database(&dir.path().join("data/cert.db"), 10);
        let day = dir.path().join("data/2026-02-09.db");
        database(&day, 500);
        // A writer in the middle of a transaction neither waits nor is seen.
        let writer = Connection::open(&day).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (-1);").unwrap();
        let dest = dir.path().join("copy");
        backup(&config_of, &dest).unwrap();
        writer.execute_batch("COMMIT").unwrap();

        let restored = config(dir.path(), "restored");
        restore(&restored, &dest).unwrap();
        let db = Connection::open(dir.path().join("restored/2026-02-09.db")).unwrap();
        let count: i64 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 500);
        assert!(backup(&config_of, &dest).unwrap_err().message.contains("already"));
    }

    #[test]
    fn a_damaged_copy_is_not_restored() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("copy");
        fs::create_dir(&dest).unwrap();
        database(&dest.join("cert.db"), 2_000);
        let mut bytes = fs::read(dest.join("cert.db")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 3_000].fill(0x5a);
        fs::write(dest.join("cert.db"), bytes).unwrap();
        let restored = config(dir.path(), "restored");
        let error = restore(&restored, &dest).unwrap_err();
        assert!(error.message.contains("cert.db"), "{}", error.message);
        assert!(!dir.path().join("restored/cert.db").exists());
    }
}
