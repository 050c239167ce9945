//! `oxmon-server sql`: read-only SQL over every day at once, beside a running server.
//!
//! One connection in memory holds a virtual table `metrics` over the points of all day files, a
//! copy of their `alert_events`, and `cert.db` attached for reading.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;

use lexopt::{Arg, Parser, ValueExt as _};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::base::cli::{print, usage};
use crate::base::exit::{Exit, Fatal};
use crate::server::config::{self, ServerConfig};
use crate::server::storage::day::file;

mod readonly;
mod render;
mod scan;
mod vtab;

const PROGRAM: &str = "oxmon-server";

/// The command's arguments, as the help shows them.
pub(crate) const ARGUMENTS: &str = "CONFIG \"SELECT …\" [--format table|csv|json]";

/// Runs the command: the first argument is a configuration, or its `data_dir`. `help` is what
/// `--help` prints.
///
/// # Errors
///
/// When the command line is wrong, the folder has no databases of a server, or the SQL fails.
pub(crate) fn main(args: &mut Parser, help: &str) -> Result<(), Fatal> {
    let wrong = |error: lexopt::Error| usage(PROGRAM, error);
    let mut words: Vec<OsString> = Vec::new();
    let mut format = render::Format::Table;
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Arg::Long("format") => {
                let name = args.value().and_then(|value| value.string()).map_err(wrong)?;
                format = render::Format::named(&name).ok_or_else(|| {
                    usage(PROGRAM, format!("unknown format `{name}`: table, csv or json"))
                })?;
            }
            Arg::Short('h') | Arg::Long("help") => {
                print(help);
                return Ok(());
            }
            Arg::Value(word) if words.len() < 2 => words.push(word),
            other => return Err(wrong(other.unexpected())),
        }
    }
    let [place, sql] = words.as_slice() else {
        let missing = if words.is_empty() { "CONFIG and a query" } else { "a query after CONFIG" };
        return Err(usage(PROGRAM, format!("sql needs {missing}: sql {ARGUMENTS}")));
    };
    let sql = sql.to_str().ok_or_else(|| usage(PROGRAM, "the SQL is not UTF-8"))?;
    let place = Path::new(place);
    let config = if place.is_dir() { None } else { Some(ServerConfig::load(place)?) };
    let data_dir = config.as_ref().map_or(place, |config| &config.data_dir);
    let connection = open(data_dir)?;
    run(connection, sql, format)
}

/// A connection that sees everything in `data_dir` and can change nothing of it.
///
/// # Errors
///
/// When the folder can't be read.
pub(crate) fn open(data_dir: &Path) -> Result<Connection, Fatal> {
    let fail = |why: String| {
        Fatal::new(Exit::DataDir, format!("cannot read {}: {why}", data_dir.display()))
    };
    let days = partition_days(data_dir).map_err(|error| fail(error.to_string()))?;
    let control = data_dir.join(config::CONTROL_FILE);
    if days.is_empty() && !control.is_file() {
        return Err(fail("there is no database of oxmon in it".to_owned()));
    }
    let make = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_in_memory_with_flags(flags)?;
        if control.is_file() {
            connection.execute("ATTACH ?1 AS control", [file::uri(&control, "mode=ro")])?;
        }
        copy_events(&connection, data_dir, &days)?;
        vtab::register(&connection, data_dir, &days)?;
        connection.pragma_update(None, "query_only", "ON")?;
        Ok(connection)
    };
    make().map_err(|error| fail(error.to_string()))
}

/// The days that have a file, oldest first.
fn partition_days(data_dir: &Path) -> std::io::Result<Vec<i64>> {
    let mut days = Vec::new();
    for entry in std::fs::read_dir(data_dir)? {
        days.extend(entry?.file_name().to_str().and_then(file::day_of_file));
    }
    days.sort_unstable();
    Ok(days)
}

/// Events are few, so they are copied: SQLite attaches only ten files at once.
fn copy_events(connection: &Connection, data_dir: &Path, days: &[i64]) -> rusqlite::Result<()> {
    let mut made = false;
    for day in days {
        let path = file::path_of(data_dir, *day);
        connection.execute("ATTACH ?1 AS day", [file::uri(&path, "mode=ro")])?;
        let copy = if made {
            "INSERT INTO main.alert_events SELECT * FROM day.alert_events"
        } else {
            "CREATE TABLE main.alert_events AS SELECT * FROM day.alert_events"
        };
        let copied = connection.execute(copy, []);
        connection.execute("DETACH day", [])?;
        match copied {
            Ok(_) => made = true,
            // A damaged day must not keep the others from being read.
            Err(error) => log::warn!("the events of {} are left out: {error}", path.display()),
        }
    }
    Ok(())
}

/// Columns of the terminal that standard output is; `None` when it is a file or a pipe.
fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out))?.ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn run(mut connection: Connection, sql: &str, format: render::Format) -> Result<(), Fatal> {
    let failed = |why: String| Fatal::new(Exit::Failed, format!("sql: {why}"));
    let guard = readonly::ReadOnly::set(&mut connection).map_err(|why| failed(why.to_string()))?;
    let fail = |error: rusqlite::Error| failed(guard.explain(error));
    let mut statement = connection.prepare(sql).map_err(fail)?;
    guard.check(sql, &statement).map_err(failed)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut out = render::Output::new(format, names, terminal_width());
    let mut rows = statement.query([]).map_err(fail)?;
    while let Some(row) = rows.next().map_err(fail)? {
        let count = row.as_ref().column_count();
        let values: Result<Vec<ValueRef<'_>>, _> = (0..count).map(|i| row.get_ref(i)).collect();
        print(&out.row(&values.map_err(fail)?));
    }
    print(&out.end());
    Ok(())
}

#[cfg(test)]
mod tests;
