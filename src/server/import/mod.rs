//! `oxmon-server import OLD_DATA CONFIG`: brings everything over from a `data_dir` of the first
//! release into that of a configuration, with the server off. The old folder is only read. A run
//! that is repeated, or goes on after one that was ended, adds what is missing and changes nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::cli::print;
use crate::base::clock::{Clock as _, DAY_MS, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::logging;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::import::folder::{Folder, Scratch};
use crate::server::import::points::Importer;
use crate::server::import::progress::Progress;
use crate::server::import::report::Report;
use crate::server::import::settings::Settings;
use crate::server::ingest::admit::AcceptedTimes;
use crate::server::notify::NotifyError;
use crate::server::storage::engine::Engine;
use crate::server::storage::{StorageError, Store, day_of};

mod catalog;
mod channels;
mod events;
pub(crate) mod folder;
mod marks;
mod points;
mod progress;
mod report;
mod settings;
pub(crate) mod shapes;

/// How long an import's writer gathers before it commits.
const COMMIT_MAX_MS: u64 = 200;
/// Bytes of one of its transactions.
const COMMIT_MAX_BYTES: u64 = 32 << 20;
/// Memory of points that are not packed yet.
const HEAD_MAX_BYTES: u64 = 64 << 20;

/// Runs the command and says what came over.
///
/// # Errors
///
/// When the folders can't be used; with status 1 when something did not come over.
pub(crate) fn run(old: &Path, config_file: &Path) -> Result<(), Fatal> {
    let mut config = ServerConfig::load(config_file)?;
    logging::init(log::LevelFilter::Warn);
    let folder = checked_folder(old, &config, config_file)?;
    config.storage.commit_max_ms = COMMIT_MAX_MS;
    config.storage.commit_max_bytes = COMMIT_MAX_BYTES.max(config.storage.commit_max_bytes);
    config.storage.head_max_bytes = HEAD_MAX_BYTES.max(config.storage.head_max_bytes);
    let dir = &config.data_dir;
    let failed = |error: StorageError| match error {
        StorageError::Locked(_) => Fatal::new(
            Exit::Locked,
            format!("{}: stop the oxmon-server that uses it, then import", dir.display()),
        ),
        error => {
            Fatal::new(Exit::DataDir, format!("cannot import into {}: {error}", dir.display()))
        }
    };
    let store = Engine::open(&config, Arc::new(SystemClock), &prometheus::Registry::new())
        .map_err(failed)?;
    store.take_history();
    let mut job = Job::new(&folder, &config, store.as_ref()).map_err(failed)?;
    let outcome = job.run();
    job.progress.end();
    store.stop();
    outcome.map_err(failed)?;
    let Job { report, .. } = job;
    give_to_owner(dir).map_err(|error| failed(error.into()))?;
    print(&report.text());
    if report.skipped.is_empty() {
        return Ok(());
    }
    let message = format!("{} things did not come over, named above", report.skipped.len());
    Err(Fatal::new(Exit::Failed, message))
}

/// The old folder, when it is one and nothing stands in the way.
fn checked_folder(old: &Path, config: &ServerConfig, config_file: &Path) -> Result<Folder, Fatal> {
    let shown = old.display();
    let failed = |why: String| Fatal::new(Exit::Failed, format!("{shown}: {why}"));
    let real = old.canonicalize().map_err(|error| failed(error.to_string()))?;
    let found = Folder::find(&real).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        let why = "holds no data of the first oxmon: no cert.db and no day file of its tables";
        return Err(failed(why.to_owned()));
    }
    if let Some(file) = found.in_use() {
        return Err(failed(format!("{file} is open: stop the first oxmon's server, then import")));
    }
    folder::refuse(&config.data_dir, config_file)?;
    let nearest = config.data_dir.ancestors().find_map(|path| path.canonicalize().ok());
    if nearest.is_some_and(|new| new.starts_with(&real)) {
        let new = config.data_dir.display();
        return Err(failed(format!("data_dir {new} lies in it; it must be another folder")));
    }
    Ok(found)
}

/// One import.
struct Job<'a> {
    folder: &'a Folder,
    config: &'a ServerConfig,
    store: &'a dyn Store,
    control: Control,
    scratch: Scratch,
    window: AcceptedTimes,
    first_day: i64,
    report: Report,
    progress: Progress,
}

impl<'a> Job<'a> {
    fn new(
        folder: &'a Folder,
        config: &'a ServerConfig,
        store: &'a dyn Store,
    ) -> Result<Self, StorageError> {
        let now_ms = SystemClock.now_ms();
        let first_day = day_of(now_ms) - i64::from(config.retention_days);
        let window = AcceptedTimes::at((first_day.saturating_mul(DAY_MS), now_ms), 0);
        let control = Control::open(&config.data_dir)?;
        let scratch = Scratch::make(&config.data_dir)?;
        let (report, progress) = (Report::default(), Progress::new(0));
        Ok(Self { folder, config, store, control, scratch, window, first_day, report, progress })
    }

    fn run(&mut self) -> Result<(), StorageError> {
        let names = self.settings()?;
        self.count_points()?;
        let mut counts = points::Counts::default();
        let mut events = events::Counts::default();
        let mut importer = Importer::new(self.store, self.window);
        for file in &self.folder.days {
            if file.day + 1 < self.first_day {
                let days = self.config.retention_days;
                self.report.notes.push(format!(
                    "{} is older than retention_days = {days}: its points are left out",
                    file.name
                ));
                continue;
            }
            let connection = self.scratch.open(&file.path)?;
            connection.pragma_update(None, "mmap_size", 1_i64 << 32)?;
            let from = marks::of(&self.control, self.folder, file, &connection)?;
            let before = rows_to(&connection, from)?;
            self.progress.skip(before);
            let (control, folder) = (&self.control, self.folder);
            let mut note = |mark| marks::keep(control, folder, file, &mark);
            let source = (file.name.as_str(), &connection);
            let mut read = importer.run(source, from, &mut self.progress, &mut note)?;
            read.duplicates += before;
            read.rows += before;
            counts.add(&read);
            events::run(self.store, &self.window, &connection, &names, &mut events)?;
            if read.rows > 0 {
                self.progress.end();
                print(&format!("{}: {} points\n", file.name, read.rows));
            }
        }
        self.report.notes.extend(std::mem::take(&mut importer.catalog.refused));
        self.sum_up(&counts, &events);
        Ok(())
    }

    /// Brings `cert.db` over; gives the rules' names by their ids.
    fn settings(&mut self) -> Result<HashMap<String, String>, StorageError> {
        let Some(path) = &self.folder.control else { return Ok(HashMap::new()) };
        let db = self.scratch.open(path)?;
        let mut report = std::mem::take(&mut self.report);
        let settings = Settings::read(self.folder, &db, self.config, &mut report)?;
        let names = settings.rule_names.clone();
        let written = self.control.write(move |tx| settings.write(tx, report));
        self.report = written.map_err(|error: NotifyError| match error {
            NotifyError::Storage(error) => error,
            other => StorageError::Invalid(other.to_string()),
        })?;
        Ok(names)
    }

    fn count_points(&mut self) -> Result<(), StorageError> {
        let mut total = 0;
        for file in self.folder.days.iter().filter(|file| file.day + 1 >= self.first_day) {
            // Good enough for progress: what is only in the log, a few thousand rows, is missing,
            // or all of a file that has just been made.
            let seen = self.scratch.glance(&file.path).and_then(|file| rows_to(&file, i64::MAX));
            total += seen.unwrap_or(0);
        }
        self.progress = Progress::new(total);
        Ok(())
    }

    fn sum_up(&mut self, counts: &points::Counts, events: &events::Counts) {
        let kind = self.report.kind("alert events");
        kind.new = events.new;
        kind.existing = events.existing;
        kind.skipped = events.too_old;
        let rejected = counts.rejected;
        let kind = self.report.kind("points");
        kind.new = counts.new;
        kind.existing = counts.duplicates;
        kind.skipped = u64::from(rejected.total());
        for (reason, count) in rejected.counts() {
            self.report.notes.push(format!("{count} points were rejected: {}", reason.words()));
        }
        let (seconds, rate) = (self.progress.seconds(), self.progress.rate());
        self.report.notes.push(format!("{} points read in {seconds:.1} s, {rate}/s", counts.rows));
    }
}

/// Rows of points up to a row.
fn rows_to(connection: &rusqlite::Connection, rowid: i64) -> Result<u64, StorageError> {
    if rowid == 0 {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM metrics WHERE rowid <= ?1";
    let count: i64 = connection.query_row(sql, [rowid], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Gives what the administrator's import made to the owner of the folder, so that the service's
/// user can write it.
fn give_to_owner(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(dir)?;
    for entry in std::fs::read_dir(dir)? {
        chown(entry?.path(), Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}
