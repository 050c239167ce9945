//! `oxmon-server promote CONFIG`: makes this server the home.

use std::path::Path;
use std::time::Duration;

use crate::base::cli::{print, say};
use crate::base::exit::{Exit, Fatal};
use crate::server::config::ServerConfig;
use crate::server::control::shared::{self, Rank, State};
use crate::server::control::{self, Control};
use crate::server::peers::Sister;
use crate::server::peers::client::PeerClient;
use crate::server::peers::hello::{self, Hello};
use crate::server::storage::StorageError;

/// Time for the answer of each sister.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Runs the command, beside a running server or without one: that takes note within a second.
///
/// # Errors
///
/// When `[peers]` is not configured, this server never had the configuration of the home, or
/// `cert.db` can't be written.
pub(crate) fn run(path: &Path) -> Result<(), Fatal> {
    let config = ServerConfig::load(path)?;
    let peers = &config.peers;
    if !peers.is_on() {
        let message = format!("{}: [peers] is not configured: there is one server", path.display());
        return Err(Fatal::new(Exit::Config, message));
    }
    let dir = &config.data_dir;
    let fatal = |why: String| Fatal::new(Exit::DataDir, format!("{}: {why}", dir.display()));
    if !dir.join(control::FILE).exists() {
        return Err(fatal("holds no cert.db: start the server once".to_owned()));
    }
    let control = Control::open(dir).map_err(|error| fatal(error.to_string()))?;
    let now = control.read(shared::state).map_err(|error| fatal(error.to_string()))?;
    let known = ask(&config, &now)?;
    let name = peers.name.clone();
    let outcome = control.write(move |tx| -> Result<Outcome, StorageError> {
        let now = shared::state(tx)?;
        let is_first = now.lead.epoch == 0 && now.lead.home == name;
        if now.of.epoch == 0 && !is_first {
            return Ok(Outcome::Empty);
        }
        let has = |of: &Rank, version: i64| (of.epoch, of.home == now.of.home, version);
        let mine = has(&now.of, now.version);
        let newer = known.iter().find(|hello| {
            let theirs = has(&hello.of, hello.version);
            theirs.0 > mine.0 || (theirs.0 == mine.0 && theirs.1 && theirs.2 > mine.2)
        });
        if let Some(hello) = newer {
            return Ok(Outcome::Older(now, hello.clone()));
        }
        let heard = known.iter().map(|hello| hello.lead.epoch).max().unwrap_or(0);
        let epoch = heard.max(now.lead.epoch).max(now.of.epoch).saturating_add(1);
        shared::begin_epoch(tx, &Rank { epoch, home: name })?;
        Ok(Outcome::Begun(now, epoch))
    });
    match outcome.map_err(|error| fatal(error.to_string()))? {
        Outcome::Begun(before, epoch) => {
            let name = &peers.name;
            print(&format!(
                "`{name}` is home of the configuration from now on: epoch {epoch}, going on from \
                 version {} of epoch {} (`{}`)\n",
                before.version, before.of.epoch, before.of.home
            ));
            Ok(())
        }
        Outcome::Older(now, hello) => {
            let message = format!(
                "`{}` has newer configuration, version {} of epoch {}; `{}` has version {} of epoch \
                 {}: promote that one, or wait until this one has followed",
                hello.name, hello.version, hello.of.epoch, peers.name, now.version, now.of.epoch
            );
            Err(Fatal::new(Exit::Failed, message))
        }
        Outcome::Empty => {
            let message = format!(
                "`{}` never had the configuration of the home `{}`: as home, it would give its own \
                 to all others. Promote a server that followed it",
                peers.name, peers.home
            );
            Err(Fatal::new(Exit::Failed, message))
        }
    }
}

enum Outcome {
    /// An epoch has begun; where this server was before.
    Begun(State, i64),
    /// A sister has more; where this server is.
    Older(State, Hello),
    /// It has nothing to go on from.
    Empty,
}

/// What the sisters that answer say. Says which do not.
fn ask(config: &ServerConfig, now: &State) -> Result<Vec<Hello>, Fatal> {
    let client = PeerClient::new(config).map_err(|why| Fatal::new(Exit::Config, why))?;
    let mut known = Vec::new();
    for (name, url) in &config.peers.sisters {
        let sister = Sister::new(name, url);
        let path = hello::path(&config.peers.name, &now.lead);
        match client.get::<Hello>(&sister, &path, ANSWER_WITHIN) {
            Ok(hello) => known.push(hello),
            Err(why) => say(&format!(
                "oxmon-server: warning: `{name}` at {url} does not answer ({why}); it learns of \
                 this once it does\n"
            )),
        }
    }
    Ok(known)
}
