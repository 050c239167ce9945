//! Several servers with one home (`[peers]`). `docs/scaling.md` describes it for users.
//!
//! ```text
//! home ── rows that changed ──► servers that follow it ── in force at once
//!      ◄── a change, and who asks ──┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | calls of another server |
//! | `hello.rs` | what servers say of themselves, and the thread that asks each sister |
//! | `lead.rs` | who is home |
//! | `config.rs` | what the home gives to those that follow |
//! | `follow.rs` | the thread that follows it |
//! | `change.rs` | changes that are passed on to the home |
//! | `enroll.rs` | enrolment codes that are passed on to the home |
//! | `promote.rs` | `oxmon-server promote` |
//! | `metrics.rs` | the room's own figures |
//!
//! What is shared, and what is not, is in `control/shared`.
//!
//! The routes under `/v1/peers/` are in `api/routes/peers.rs`: they need the common token, and have
//! HTTP workers of their own, so that two servers which ask each other never wait for one another.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::clock::Clock;
use crate::base::exit::{Exit, Fatal};
use crate::base::ids::random_hex;
use crate::rt::stop::{Stop, StopSource};
use crate::rt::thread;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::shared::{self, Rank, State};
use crate::server::storage::StorageError;

pub(crate) mod change;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod enroll;
mod follow;
pub(crate) mod hello;
pub(crate) mod lead;
mod metrics;
pub(crate) mod promote;

use client::PeerClient;
use follow::Following;
use hello::Seen;
use lead::{Lead, Recorded, Role};
use metrics::Metrics;

/// HTTP workers for `/v1/peers/`: for each sister one that waits for changes and one that works,
/// and two more.
const LINES_PER_SISTER: usize = 2;
const LINES_MORE: usize = 2;
/// How often it is looked at who is home, which another program may have written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it is looked whether too many changed rows are remembered.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Puts in force what came from the home.
pub(crate) trait Publish: Send + Sync {
    /// Rows of these tables have changed, and these alert rules are new or changed.
    fn changed(&self, tables: &BTreeSet<&'static str>, rules: &[String]);

    /// Whether this server is home now.
    fn is_home(&self, is_home: bool);
}

/// Another server of `[peers]`.
pub(crate) struct Sister {
    /// Its name.
    pub(crate) name: String,
    /// Its base URL, without a slash at the end.
    base: String,
    seen: Mutex<Seen>,
}

impl Sister {
    fn new(name: &str, url: &str) -> Self {
        let base = url.trim_end_matches('/').to_owned();
        Self { name: name.to_owned(), base, seen: Mutex::default() }
    }

    /// The URL of one of its paths.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Its base URL.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What was last heard from it.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

/// The room: this server among its sisters.
pub(crate) struct Peers {
    name: String,
    /// `peers.home`.
    first: String,
    sisters: Vec<Arc<Sister>>,
    client: PeerClient,
    /// SHA-256 of the common token.
    token: RwLock<[u8; 32]>,
    control: Control,
    data_dir: PathBuf,
    clock: Arc<dyn Clock>,
    lead: Box<dyn Lead>,
    /// This process, for those that follow it.
    run: String,
    following: Mutex<Following>,
    /// Whose rows, and which version of them, are in force here since this process follows.
    in_force: Mutex<(Rank, i64)>,
    /// Wakes whoever waits for them.
    is_new: Condvar,
    metrics: Metrics,
    running: Mutex<Option<Running>>,
    stop: Stop,
}

struct Running {
    source: StopSource,
    threads: Vec<JoinHandle<()>>,
}

impl Peers {
    /// Makes the room; its threads start with [`Self::run`]. `None` without `[peers]`.
    ///
    /// # Errors
    ///
    /// When the file of authorities can't be used, or `cert.db` can't be written.
    pub(crate) fn open(
        config: &ServerConfig,
        control: &Control,
        clock: Arc<dyn Clock>,
        registry: &prometheus::Registry,
    ) -> Result<Option<Arc<Self>>, Fatal> {
        let peers = &config.peers;
        let fatal = |error: StorageError| {
            Fatal::new(Exit::DataDir, format!("cannot prepare [peers] in cert.db: {error}"))
        };
        if !peers.is_on() {
            let alone = |tx: &rusqlite::Transaction<'_>| Ok(shared::start_alone(tx)?);
            control.write(alone).map_err(fatal)?;
            return Ok(None);
        }
        let client = PeerClient::new(config).map_err(|why| Fatal::new(Exit::Config, why))?;
        let lead = Recorded::open(control.clone(), &peers.name, &peers.home).map_err(fatal)?;
        let sister = |(name, url): (&String, &String)| Arc::new(Sister::new(name, url));
        let source = StopSource::new();
        let stop = source.stop();
        Ok(Some(Arc::new(Self {
            name: peers.name.clone(),
            first: peers.home.clone(),
            sisters: peers.sisters.iter().map(sister).collect(),
            client,
            token: RwLock::new(hash(peers.token.as_deref().unwrap_or_default())),
            control: control.clone(),
            data_dir: config.data_dir.clone(),
            clock,
            lead: Box::new(lead),
            run: random_hex(8),
            following: Mutex::default(),
            in_force: Mutex::default(),
            is_new: Condvar::new(),
            metrics: Metrics::register(registry)?,
            running: Mutex::new(Some(Running { source, threads: Vec::new() })),
            stop,
        })))
    }

    /// Starts to ask the sisters how they are, and to follow the home.
    pub(crate) fn run(self: &Arc<Self>, publish: Arc<dyn Publish>) {
        publish.is_home(self.lead.role() == Role::Home);
        match self.lead.role() {
            Role::Home => log::info!("`{}` is home of the configuration", self.name),
            Role::Follower(lead) => log::info!("the configuration has its home at `{}`", lead.home),
            Role::Behind => self.say_behind(),
        }
        let mut threads = Vec::new();
        for sister in &self.sisters {
            let (room, sister) = (Arc::clone(self), Arc::clone(sister));
            threads.push(thread::spawn(&format!("peer-{}", sister.name), move || {
                hello::run(&room, &sister);
                Ok(())
            }));
        }
        let (room, puts) = (Arc::clone(self), Arc::clone(&publish));
        threads.push(thread::spawn("peers-follow", move || {
            follow::run(&room, puts.as_ref());
            Ok(())
        }));
        let room = Arc::clone(self);
        threads.push(thread::spawn("peers", move || {
            room.watch(publish.as_ref());
            Ok(())
        }));
        if let Some(running) = self.running.lock().as_mut() {
            running.threads = threads;
        }
    }

    /// Looks who is home until the room stops.
    fn watch(&self, publish: &dyn Publish) {
        let mut before = self.lead.role();
        let begun = Instant::now();
        let mut pruned = begun;
        loop {
            if pruned.elapsed() >= PRUNE_EVERY {
                pruned = Instant::now();
                self.control.offer("which configuration changed", |tx| Ok(shared::prune(tx)?));
            }
            self.look();
            let role = self.lead.role();
            if role != before {
                let home_of = |role: &Role| match role {
                    Role::Follower(lead) => lead.home.clone(),
                    Role::Home | Role::Behind => self.name.clone(),
                };
                if role == Role::Behind {
                    self.say_behind();
                } else if home_of(&role) != home_of(&before) || before == Role::Behind {
                    log::warn!("`{}` is home of the configuration now", home_of(&role));
                }
                publish.is_home(role == Role::Home);
                before = role.clone();
            }
            let lag = self.following().at.unwrap_or(begun).elapsed();
            self.metrics.show(&self.lead.state(), lag, role == Role::Home, &self.sisters);
            if self.stop.wait(LOOK_EVERY) {
                return;
            }
        }
    }

    fn say_behind(&self) {
        log::error!(
            "a sister has newer configuration of this home `{}`, whose own was put back or lost: no \
             changes are made. Run `oxmon-server promote` for that sister",
            self.name
        );
    }

    /// Looks where this server is.
    fn look(&self) {
        if let Err(error) = self.lead.look() {
            log::error!("failed to read who is home of the configuration: {error}");
        }
    }

    /// Wakes whoever waits for this version.
    fn put_in_force(&self, of: Rank, version: i64) {
        *self.in_force.lock() = (of, version);
        self.is_new.notify_all();
    }

    /// Takes what another server says.
    pub(crate) fn heard(&self, from: &str, lead: &Rank, of: &Rank, version: i64) {
        match self.lead.heard(lead, of, version) {
            Ok(false) => {}
            Ok(true) => {
                log::info!("`{from}` says: epoch {} of the home `{}`", lead.epoch, lead.home)
            }
            Err(error) => log::error!("failed to note that `{}` is home: {error}", lead.home),
        }
    }

    /// Where this server is.
    pub(crate) fn state(&self) -> State {
        self.lead.state()
    }

    /// What this server is.
    pub(crate) fn role(&self) -> Role {
        self.lead.role()
    }

    /// How this server follows the home.
    pub(crate) fn following(&self) -> Following {
        self.following.lock().clone()
    }

    /// Takes the token of a configuration that was read again.
    pub(crate) fn reload(&self, config: &ServerConfig) {
        let Some(token) = &config.peers.token else { return };
        *self.token.write() = hash(token);
        self.client.reload(token);
    }

    /// Ends the threads and every request that waits. A call that is under way ends by itself.
    pub(crate) fn stop(&self) {
        // Not joined: a call to a server that hangs must not hold up the stop.
        drop(self.running.lock().take().map(|running| (running.source, running.threads)));
        let _in_force = self.in_force.lock();
        self.is_new.notify_all();
    }

    /// Whether a token is the common one. Takes the same time whatever it is.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.token.read().ct_eq(&hash(token)).into()
    }

    /// This server's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The other servers, by name.
    pub(crate) fn sisters(&self) -> &[Arc<Sister>] {
        &self.sisters
    }

    /// The other server of this name.
    pub(crate) fn sister(&self, name: &str) -> Option<&Arc<Sister>> {
        self.sisters.iter().find(|sister| sister.name == name)
    }

    /// Makes calls of them.
    pub(crate) fn client(&self) -> &PeerClient {
        &self.client
    }

    /// The signal that ends whatever waits.
    pub(crate) fn stopping(&self) -> &Stop {
        &self.stop
    }
}

/// HTTP workers that `/v1/peers/` has for itself; none without `[peers]`.
pub(crate) fn lines(config: &ServerConfig) -> usize {
    match config.peers.sisters.len() {
        0 => 0,
        sisters => sisters * LINES_PER_SISTER + LINES_MORE,
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
