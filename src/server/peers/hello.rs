//! What a server says of itself, and the thread that asks a sister for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::cli::VERSION;
use crate::server::config::peers::is_name;
use crate::server::control::shared::Rank;
use crate::server::peers::{Peers, Sister};

/// How often a sister is asked.
const EVERY: Duration = Duration::from_secs(2);
/// Time for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The path.
pub(crate) const PATH: &str = "/v1/peers/hello";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Its name.
    pub(crate) name: String,
    /// The version of its program.
    pub(crate) program: String,
    /// The server that its configuration names as the first home.
    pub(crate) first: String,
    /// Who is home, as far as it knows.
    pub(crate) lead: Rank,
    /// Whose rows it has.
    pub(crate) of: Rank,
    /// Their version.
    pub(crate) version: i64,
}

/// What was last heard from a sister.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// What it said.
    pub(crate) hello: Option<Hello>,
    /// When, Unix milliseconds.
    pub(crate) at_ms: Option<i64>,
    /// Why it did not answer the last time; `None` where it did.
    pub(crate) fault: Option<String>,
}

impl Seen {
    /// Whether it answered the last time that it was asked.
    pub(crate) fn is_up(&self) -> bool {
        self.hello.is_some() && self.fault.is_none()
    }
}

impl Peers {
    /// What this server says of itself.
    pub(crate) fn hello(&self) -> Hello {
        let now = self.lead.state();
        Hello {
            name: self.name().to_owned(),
            program: VERSION.to_owned(),
            first: self.first.clone(),
            lead: now.lead,
            of: now.of,
            version: now.version,
        }
    }
}

/// Path and query of the request of a server that takes `lead` for home. Names need no escape.
pub(super) fn path(name: &str, lead: &Rank) -> String {
    format!("{PATH}?name={name}&epoch={}&home={}", lead.epoch, lead.home)
}

/// Asks a sister how it is until the room stops.
pub(super) fn run(room: &Arc<Peers>, sister: &Sister) {
    loop {
        let lead = room.lead.state().lead;
        let path = path(room.name(), &lead);
        let outcome: Result<Hello, _> = room.client().get(sister, &path, ANSWER_WITHIN);
        let outcome = outcome.map_err(|error| error.to_string());
        let outcome = outcome.and_then(|hello| check(room, sister, hello));
        if let Ok(hello) = &outcome {
            room.heard(&sister.name, &hello.lead, &hello.of, hello.version);
            let now = room.lead.state();
            let is_home = now.lead.home == sister.name && hello.of == now.lead;
            if is_home && hello.of == now.of && hello.version <= now.synced {
                room.following.lock().at = Some(Instant::now());
            }
        }
        note(room, sister, outcome);
        if room.stopping().wait(EVERY) {
            return;
        }
    }
}

/// Whether it is the server that the configuration says, and its own configuration agrees.
fn check(room: &Peers, sister: &Sister, hello: Hello) -> Result<Hello, String> {
    let shown = |text: &str| text.chars().take(64).collect::<String>();
    if hello.name != sister.name {
        let name = shown(&hello.name);
        return Err(format!("the server there calls itself `{name}`: correct peers.sisters"));
    }
    if hello.first != room.first {
        let first = shown(&hello.first);
        return Err(format!(
            "it has peers.home = `{first}`, which must be the same on all servers"
        ));
    }
    let ranks = [&hello.lead, &hello.of];
    let epochs = 0..=i64::from(u32::MAX);
    if ranks
        .iter()
        .any(|rank| !epochs.contains(&rank.epoch) || (rank.epoch > 0 && !is_name(&rank.home)))
    {
        return Err("its answer can't be used".to_owned());
    }
    Ok(hello)
}

fn note(room: &Peers, sister: &Sister, outcome: Result<Hello, String>) {
    let up = room.metrics.up.with_label_values(&[&sister.name]);
    up.set(i64::from(outcome.is_ok()));
    let mut seen = sister.seen.lock();
    match outcome {
        Ok(hello) => {
            if seen.fault.take().is_some() || seen.hello.is_none() {
                log::info!("the server `{}` answers at {}", sister.name, sister.base());
            }
            seen.hello = Some(hello);
            seen.at_ms = Some(room.clock.now_ms());
        }
        Err(why) => {
            if seen.fault.as_ref() != Some(&why) {
                log::warn!("the server `{}` at {}: {why}", sister.name, sister.base());
            }
            seen.fault = Some(why);
        }
    }
}
