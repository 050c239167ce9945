//! Following the home: its rows are taken as they change, and put in force.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::limits::PEERS_WAIT_SECS_MAX;
use crate::server::control::shared::{self, Applied, Delta, Rank};
use crate::server::peers::config::{Asked, Given};
use crate::server::peers::lead::Role;
use crate::server::peers::{Peers, Publish, Sister};
use crate::server::storage::StorageError;

/// Time for an answer beyond the wait for a change: a whole configuration may be large.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How often the home is tried again while it is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often a home looks whether it is one still.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How this server follows the home.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following {
    /// When it was last known that nothing of the home's is missing here.
    pub(crate) at: Option<Instant>,
    /// Why it does not follow.
    pub(crate) fault: Option<String>,
}

/// Follows whoever is home until the room stops.
pub(super) fn run(room: &Arc<Peers>, publish: &dyn Publish) {
    let mut run = String::new();
    loop {
        let pause = match room.lead.role() {
            Role::Home | Role::Behind => {
                run.clear();
                LOOK_EVERY
            }
            Role::Follower(lead) => match room.sister(&lead.home) {
                Some(home) => match follow(room, home, &mut run, publish) {
                    Ok(()) => {
                        note(room, home, None);
                        Duration::ZERO
                    }
                    Err(why) => {
                        note(room, home, Some(why));
                        RETRY_EVERY
                    }
                },
                None => {
                    let why = format!("the home `{}` is not in peers.sisters", lead.home);
                    say(room, Some(why));
                    RETRY_EVERY
                }
            },
        };
        if room.stop.wait(pause) {
            return;
        }
    }
}

fn note(room: &Peers, home: &Sister, fault: Option<String>) {
    say(room, fault.map(|why| format!("the home `{}` at {}: {why}", home.name, home.base())));
}

/// Logs what has changed, once.
fn say(room: &Peers, fault: Option<String>) {
    let mut following = room.following.lock();
    if fault.is_none() {
        following.at = Some(Instant::now());
    }
    if following.fault == fault {
        return;
    }
    match &fault {
        Some(why) => log::warn!("the configuration is not followed: {why}"),
        None => log::info!("the configuration is followed again"),
    }
    following.fault = fault;
}

/// One request, and what is in its answer.
fn follow(
    room: &Peers,
    home: &Sister,
    run: &mut String,
    publish: &dyn Publish,
) -> Result<(), String> {
    let now = room.lead.state();
    // Whatever was changed here, and rows of another home, are compared as a whole.
    let is_clean = now.version == now.synced && now.of == now.lead;
    let asked = Asked {
        name: room.name().to_owned(),
        of: now.of.clone(),
        version: now.synced,
        run: if is_clean { run.clone() } else { String::new() },
        wait_secs: PEERS_WAIT_SECS_MAX,
    };
    let within = Duration::from_secs(PEERS_WAIT_SECS_MAX) + ANSWER_WITHIN;
    let given: Given =
        room.client().get(home, &asked.target(), within).map_err(|error| error.to_string())?;
    room.heard(&home.name, &given.lead, &Rank::default(), 0);
    let Some(delta) = given.delta else {
        // A server that is not home gives nothing at once.
        return if given.lead.home == home.name {
            Ok(())
        } else {
            Err(format!("it follows `{}`", given.lead.home))
        };
    };
    if delta.of == now.of && delta.version < now.synced {
        return Err(format!(
            "it has version {} of epoch {}, and this server has version {}: it was put back from a \
             backup. Run `oxmon-server promote` for the server with the highest version",
            delta.version, delta.of.epoch, now.synced
        ));
    }
    let (of, version) = (delta.of.clone(), delta.version);
    let applied = take(room, delta)?;
    *run = given.run;
    if !applied.tables.is_empty() {
        log::info!("took over changes of the home `{}`: {}", home.name, listed(&applied.tables));
    }
    publish.changed(&applied.tables, &applied.rules);
    room.put_in_force(of, version);
    Ok(())
}

fn listed(tables: &BTreeSet<&'static str>) -> String {
    tables.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Writes what the home gave.
fn take(room: &Peers, delta: Delta) -> Result<Applied, String> {
    let folder = room.data_dir.clone();
    let from = room.lead.state().of;
    let applied = room.control.write(move |tx| -> Result<Applied, StorageError> {
        let mut applied = shared::apply(tx, &delta)?;
        if let Some(lost) = applied.lost.take() {
            // Before the rows are gone for good.
            let path = keep(&folder, &from, &delta, &lost)?;
            let count = count(&lost);
            log::error!(
                "{count} of this server's own changes to the configuration are not known to the \
                 home `{}`; they no longer count and are in {}",
                delta.of.home,
                path.display()
            );
        }
        Ok(applied)
    });
    let applied = applied.map_err(|error| format!("its configuration can't be used: {error}"))?;
    room.look();
    Ok(applied)
}

fn count(lost: &Value) -> usize {
    let tables = lost.as_object().into_iter().flat_map(|tables| tables.values());
    let lists = tables.flat_map(|table| [&table["rows"], &table["removed"]]);
    lists.filter_map(Value::as_array).map(Vec::len).sum()
}

/// Writes changes that nobody else has to a file for its owner alone.
fn keep(folder: &Path, from: &Rank, delta: &Delta, lost: &Value) -> Result<PathBuf, StorageError> {
    let text = json!({ "epoch": from.epoch, "home": from.home, "tables": lost });
    let text = format!("{text:#}\n");
    for number in 1..1_000 {
        let name = format!("config-lost-epoch-{}-{number}.json", delta.of.epoch);
        let path = folder.join(name);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StorageError::Invalid(format!("{} holds too many files of lost changes", folder.display())))
}
