//! Certificate checks of domains.
//!
//! The scheduler hands domains that are due, or that people ask for, to the checkers. A check
//! looks at every address of the name (`probe`), evaluates what is served (`verdict`), and stores
//! the result: points of the agent [`AGENT`], which alert rules evaluate like any other's, the
//! history and the newest certificate in `cert.db`. Domains are read from the database whenever
//! they are needed, so a change is in force at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::base::clock::{Clock, DAY_MS};
use crate::base::exit::{Exit, Fatal};
use crate::base::limits::CERT_WAIT_SECS_MAX;
use crate::rt::stop::StopSource;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::certs::checks::{self, CheckRow, Counts};
use crate::server::control::certs::{self, DomainRow};
use crate::server::storage::{StorageError, Store, submit_batch};

mod assess;
mod board;
mod checker;
mod fault;
mod link;
mod lookup;
pub(crate) mod manage;
mod metrics;
pub(crate) mod name;
pub(crate) mod parse;
mod probe;
mod scheduler;
mod starttls;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use board::{Board, Ended};
pub(crate) use checker::{Explain, labels};

/// The agent by whose name the results are stored.
pub(crate) const AGENT: &str = "cert-checker";
/// A certificate that ends within these days ends soon.
pub(crate) const SOON_DAYS: i64 = 30;
/// Look-ups that may hang, for each checker.
const LOOKUPS_PER_CHECKER: usize = 2;

/// What is kept of a certificate besides what it is searched by.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the contract's Certificate documents the fields")]
pub(crate) struct Details {
    pub leaf: parse::Leaf,
    pub tls_version: Option<String>,
    pub cipher_suite: Option<String>,
    pub chain_depth: i64,
}

/// Why something about domains could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// There is no such domain.
    #[error("domain `{0}` not found")]
    NotFound(String),
    /// The domain is configured already.
    #[error("the domain `{0}` is configured already")]
    Exists(String),
    /// The domain is not a valid host name.
    #[error("{0}")]
    BadDomain(String),
    /// The port is none.
    #[error("{0}")]
    BadPort(String),
    /// The batch is empty.
    #[error("`domains` must name at least one domain")]
    EmptyBatch,
    /// Another field can't be taken.
    #[error("{0}")]
    Invalid(String),
    /// The domain has not been checked yet.
    #[error("the domain `{0}` has not been checked yet")]
    NoCheckYet(String),
    /// Too much is being done at once.
    #[error("{0}")]
    Busy(String),
    /// The result could not be stored.
    #[error("the result of the check could not be stored; see the server's log")]
    NotStored,
    /// The storage failed.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for CertError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Domains and their checks.
pub struct Certs {
    control: Control,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    checker: Arc<checker::Checker>,
    /// Room for one: a second wake-up that something is new adds nothing.
    wake: Sender<()>,
    running: Mutex<Option<(StopSource, JoinHandle<()>)>>,
    /// Calls that wait for a check, and how many may.
    waiting: AtomicUsize,
    waiting_max: usize,
    is_active: Arc<AtomicBool>,
}

impl Certs {
    /// Starts the scheduler and the checkers.
    ///
    /// # Errors
    ///
    /// When the authorities' file can't be used.
    pub fn start(
        store: Arc<dyn Store>,
        control: Control,
        clock: Arc<dyn Clock>,
        config: &ServerConfig,
        registry: &prometheus::Registry,
        explain: Explain,
    ) -> Result<Arc<Self>, Fatal> {
        let settings = &config.cert_check;
        let trust = trust::Trust::new(settings.ca_file.as_deref())
            .map_err(|error| Fatal::new(Exit::Config, error))?;
        let source = StopSource::new();
        let most = settings.max_concurrent.saturating_mul(LOOKUPS_PER_CHECKER);
        let checker = Arc::new(checker::Checker {
            prober: probe::Prober {
                trust,
                lookups: lookup::Lookups::new(lookup::system(), most),
                timeout: Duration::from_secs(settings.connect_timeout_secs),
                denied: config.outgoing.denied(),
                stop: source.stop(),
            },
            submit: Arc::new(move |batch, ack| submit_batch(&*store, batch, ack)),
            explain,
            control: control.clone(),
            clock: Arc::clone(&clock),
            keep_ms: i64::from(config.retention_days).saturating_mul(DAY_MS),
            metrics: metrics::Metrics::register(registry)?,
        });
        let board = Arc::new(Board::default());
        // Among several servers, one of them does.
        let is_active = Arc::new(AtomicBool::new(!config.peers.is_on()));
        let (wake, woken) = bounded(1);
        let scheduler = scheduler::Scheduler {
            schedule: scheduler::Schedule {
                control: control.clone(),
                clock: Arc::clone(&clock),
                board: Arc::clone(&board),
                enabled: settings.enabled,
                is_active: Arc::clone(&is_active),
                default_secs: i64::try_from(settings.default_interval_secs).unwrap_or(i64::MAX),
                max_concurrent: settings.max_concurrent,
            },
            checker: Arc::clone(&checker),
            tick: Duration::from_secs(settings.tick_secs),
            woken,
            wake: wake.clone(),
        };
        let handle = crate::rt::thread::spawn("certs", move || {
            scheduler.run();
            Ok(())
        });
        Ok(Arc::new(Self {
            control,
            clock,
            board,
            checker,
            wake,
            running: Mutex::new(Some((source, handle))),
            waiting: AtomicUsize::new(0),
            // Each holds an HTTP worker for as long as an endpoint hangs; the others go on.
            waiting_max: (config.pools.http_workers / 2).max(1),
            is_active,
        }))
    }

    /// Reads the authorities of the system and of `cert_check.ca_file` again.
    ///
    /// # Errors
    ///
    /// When the file can't be used; the checks go on with what they had.
    pub fn reload(&self, config: &ServerConfig) -> Result<(), String> {
        self.checker.prober.trust.reload(config.cert_check.ca_file.as_deref())
    }

    /// Ends the checks: those under way are cut short, and their domains stay due.
    pub fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((source, handle)) = running {
            drop(source);
            // A scheduler that panicked has ended the process already.
            let _ = handle.join();
        }
    }

    /// Whether this server makes the checks, or another one does.
    pub(crate) fn set_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Release);
        self.look_now();
    }

    /// Has the scheduler look at once for what is due.
    pub(crate) fn look_now(&self) {
        self.board.look_again();
        self.wake();
    }

    fn wake(&self) {
        // A full queue says the same.
        let _ = self.wake.try_send(());
    }

    /// The domain with this id or of this name, in whatever way it is written.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn domain(&self, key: &str) -> Result<DomainRow, CertError> {
        let found = self.control.read(|db| certs::get(db, key))?;
        let found = match (found, name::normalise(key)) {
            (None, Ok(named)) => {
                let port = named.port.map(|port| format!(":{port}")).unwrap_or_default();
                self.control.read(|db| certs::get(db, &format!("{}{port}", named.host)))?
            }
            (found, _) => found,
        };
        found.ok_or_else(|| CertError::NotFound(key.to_owned()))
    }

    /// The newest check of a domain.
    ///
    /// # Errors
    ///
    /// When there is no such domain, or it has not been checked yet.
    pub fn status(&self, key: &str) -> Result<CheckRow, CertError> {
        let row = self.domain(key)?;
        let newest = self.control.read(|db| checks::newest(db, &row.id))?;
        newest.ok_or(CertError::NoCheckYet(row.domain))
    }

    /// How the domains stand.
    pub fn counts(&self) -> Result<Counts, CertError> {
        let soon_ms = self.clock.now_ms().saturating_add(SOON_DAYS.saturating_mul(DAY_MS));
        Ok(self.control.read(|db| checks::counts(db, soon_ms))?)
    }

    /// Checks a domain now, enabled or not, and gives the result once it is stored.
    ///
    /// # Errors
    ///
    /// When there is no such domain, too many calls wait for checks, or the result could not be
    /// stored.
    pub fn check_one(&self, key: &str) -> Result<CheckRow, CertError> {
        let row = self.domain(key)?;
        let results = self.wait_for(&[row.id], true)?;
        results.into_iter().next().ok_or(CertError::NotFound(row.domain))
    }

    /// Checks every enabled domain now, and gives the results, by name.
    ///
    /// # Errors
    ///
    /// When too many calls wait for checks, it takes too long, or a result could not be stored.
    /// The checks go on all the same.
    pub fn check_all(&self) -> Result<Vec<CheckRow>, CertError> {
        let ids = self.control.read(certs::enabled)?;
        let mut results = self.wait_for(&ids, false)?;
        results.sort_by(|a, b| a.domain.cmp(&b.domain));
        Ok(results)
    }

    fn wait_for(&self, ids: &[String], first: bool) -> Result<Vec<CheckRow>, CertError> {
        let _turn = Waiting::begin(self)?;
        let (waiter, results) = bounded(ids.len());
        for id in ids {
            self.board.ask(id, first, waiter.clone());
        }
        drop(waiter);
        self.wake();
        let deadline = Instant::now() + Duration::from_secs(CERT_WAIT_SECS_MAX);
        let mut checks = Vec::new();
        let mut not_stored = false;
        for done in 0..ids.len() {
            match results.recv_deadline(deadline) {
                Ok(Ended::Done(check)) => checks.push(Arc::unwrap_or_clone(check)),
                Ok(Ended::Gone) => {}
                Ok(Ended::NotStored) => not_stored = true,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(CertError::Busy(format!(
                        "{done} of {} checks are done, the others go on: read their results \
                         with GET /v1/certs/status",
                        ids.len()
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(StorageError::Stopping.into()),
            }
        }
        if not_stored { Err(CertError::NotStored) } else { Ok(checks) }
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A call that waits for checks; dropping it lets the next wait.
struct Waiting<'a>(&'a Certs);

impl<'a> Waiting<'a> {
    fn begin(certs: &'a Certs) -> Result<Self, CertError> {
        if certs.waiting.fetch_add(1, Ordering::SeqCst) >= certs.waiting_max {
            certs.waiting.fetch_sub(1, Ordering::SeqCst);
            let message = "other calls wait for checks already; try again in some seconds";
            return Err(CertError::Busy(message.to_owned()));
        }
        Ok(Self(certs))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
