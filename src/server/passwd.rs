//! `oxmon-server passwd CONFIG USER`: sets the password of a user who has lost it, beside a running
//! server or without one. The password is asked for without echo, or is the first line of standard
//! input.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::base::cli::{print, say};
use crate::base::clock::{Clock as _, DAY_MS, SECOND_MS, SystemClock};
use crate::base::exit::{Exit, Fatal};
use crate::base::ids::new_id;
use crate::base::limits::{AUDIT_DAYS_MAX, PASSWORD_BYTES_MAX, USERS_MAX};
use crate::server::api::auth::password;
use crate::server::api::reply::ApiError;
use crate::server::config::ServerConfig;
use crate::server::control::audit::{self, AuditRow};
use crate::server::control::{self, Control, users};
use crate::server::import::folder::refuse;
use crate::server::storage::Page;

/// Runs the command. Every login of the user ends; API tokens stay.
///
/// # Errors
///
/// When there is no such user, the password can't be one, or `cert.db` can't be written.
pub(crate) fn run(config_file: &Path, user: &Path) -> Result<(), Fatal> {
    let config = ServerConfig::load(config_file)?;
    let dir = &config.data_dir;
    refuse(dir, config_file)?;
    let fatal = |why: String| Fatal::new(Exit::DataDir, format!("{}: {why}", dir.display()));
    if !dir.join(control::FILE).exists() {
        return Err(fatal(
            "holds no cert.db: start the server once, then set passwords".to_owned(),
        ));
    }
    let control = Control::open(dir).map_err(|error| fatal(error.to_string()))?;
    let name = user.to_string_lossy().into_owned();
    let failed = |error: ApiError| Fatal::new(Exit::Failed, error.to_string());
    let found =
        control.read(|db| users::by_name(db, &name)).map_err(|error| fatal(error.to_string()))?;
    let Some(row) = found else {
        let page = Page { limit: USERS_MAX as usize, offset: 0 };
        let known = control.read(|db| users::list(db, page));
        let known = known.map_err(|error| fatal(error.to_string()))?.items;
        let names: Vec<String> = known.into_iter().map(|user| user.username).collect();
        let message = format!("no user `{name}`; there are: {}", names.join(", "));
        return Err(Fatal::new(Exit::Failed, message));
    };
    let new = ask(&name)?;
    let known = &config.auth.default_password;
    password::check_new("password", &new, &name, known).map_err(failed)?;
    let hash = password::Hasher::new(1).and_then(|hasher| hasher.hash(&new)).map_err(failed)?;
    let now_ms = SystemClock.now_ms();
    let entry = AuditRow {
        id: new_id(),
        at_ms: now_ms,
        username: "-".to_owned(),
        address: "-".to_owned(),
        action: "oxmon-server passwd".to_owned(),
        target: name.clone(),
        outcome: 200,
        trace_id: new_id(),
    };
    let written = control.write(move |tx| -> Result<(), ApiError> {
        users::set_password(tx, &row.id, &hash, now_ms / SECOND_MS)?;
        Ok(audit::insert(tx, &entry, now_ms.saturating_sub(AUDIT_DAYS_MAX * DAY_MS))?)
    });
    written.map_err(failed)?;
    print(&format!("the password of `{name}` is set; earlier logins have ended\n"));
    Ok(())
}

/// The new password: typed twice without echo, or the first line of standard input.
fn ask(name: &str) -> Result<String, Fatal> {
    if !std::io::stdin().is_terminal() {
        return line();
    }
    let first = typed(&format!("New password for {name}: "))?;
    if typed("Again: ")? != first {
        return Err(Fatal::new(Exit::Failed, "the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

fn typed(prompt: &str) -> Result<String, Fatal> {
    let failed = |error: rustix::io::Errno| Fatal::new(Exit::Failed, format!("terminal: {error}"));
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    // The prompt comes after the echo ends, so that nothing that answers it is shown or lost.
    tcsetattr(&stdin, OptionalActions::Now, &silent).map_err(failed)?;
    say(prompt);
    let text = line();
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(failed)?;
    text
}

/// A line of standard input without its end.
fn line() -> Result<String, Fatal> {
    let mut text = String::new();
    let most = PASSWORD_BYTES_MAX as u64 + 2;
    let read = std::io::stdin().lock().take(most).read_line(&mut text);
    read.map_err(|error| Fatal::new(Exit::Failed, format!("standard input: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
