//! Notifications: channels, silence windows, outbox, deliveries.
//!
//! An alert that must be notified becomes a notification in the transaction of its state change
//! ([`Tell`]). The dispatcher routes notices that are due (`router`), and hands what waits
//! in the outbox to the senders (`pool`), one for each channel at a time (`deliver`). Channels and
//! windows are read from the database whenever they are needed, so a change is in force at once.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use jiff::tz::TimeZone;
use parking_lot::{Mutex, RwLock};
use rusqlite::Transaction;

use crate::base::clock::{Clock, DAY_MS, SECOND_MS};
use crate::base::exit::{Exit, Fatal};
use crate::model::alert::AlertEvent;
use crate::rt::stop::StopSource;
use crate::server::alert::{Notify, NotifyKind};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::storage::StorageError;

mod attempts;
pub(crate) mod channels;
pub(crate) mod client;
mod deliver;
mod dispatcher;
mod lang;
pub(crate) mod manage;
pub(crate) mod message;
mod metrics;
pub(crate) mod mute;
mod processes;
mod router;
mod smtp;
pub(crate) mod template;
pub(crate) mod timed;
mod units;
pub(crate) mod voice;

use deliver::Deliverer;
use message::Notification;

/// Channels, silence windows and the outbox.
pub struct Notifier {
    control: Control,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    routing: router::Routing,
    deliverer: Arc<Deliverer>,
    /// Room for one: a second wake-up that something is new adds nothing.
    wake: Sender<()>,
    running: Mutex<Option<(StopSource, JoinHandle<()>)>>,
    /// Channels that are being tried, by id.
    testing: Mutex<HashSet<String>>,
    gate: Arc<OnceLock<Arc<dyn Gate>>>,
}

/// Who must know of a notification before it is sent, so that nobody else sends it as well.
pub(crate) trait Gate: Send + Sync {
    /// Notifications that were made until this time, Unix milliseconds, may be sent.
    fn made_to_ms(&self, now_ms: i64) -> i64;

    /// An attempt to notify of these events was recorded.
    fn attempted(&self, events: &[AlertEvent]);
}

/// Why a notifier's part could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Invalid(String),
    /// There is no such channel or window.
    #[error("{0} `{1}` not found")]
    NotFound(&'static str, String),
    /// It is there already, or is being done.
    #[error("{0}")]
    Conflict(String),
    /// Too much is being done at once.
    #[error("{0}")]
    Busy(String),
    /// The endpoint did not take a test message.
    #[error("{0}")]
    Refused(String),
    /// The storage failed.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl From<rusqlite::Error> for NotifyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error.into())
    }
}

fn client_of(config: &ServerConfig, mails: Arc<timed::Timed>) -> Result<client::Client, String> {
    let timeout = Duration::from_secs(config.notify.timeout_secs);
    client::Client::new(timeout, config.notify.ca_file.as_deref(), &config.outgoing, mails)
}

/// Tests of channels that run at once: each holds an HTTP worker for as long as an endpoint hangs.
const TESTS_MAX: usize = 2;

impl Notifier {
    /// Starts the dispatcher and the senders. What a crash left in the outbox is sent now.
    ///
    /// # Errors
    ///
    /// When the zone or the authorities' file can't be used.
    pub fn start(
        control: Control,
        clock: Arc<dyn Clock>,
        config: &ServerConfig,
        registry: &prometheus::Registry,
    ) -> Result<Arc<Self>, Fatal> {
        let fatal = |message: String| Fatal::new(Exit::Config, message);
        let zone = time_zone(config)?;
        let client = client_of(config, Arc::default()).map_err(fatal)?;
        let metrics = Arc::new(metrics::Metrics::register(registry)?);
        let routing = router::Routing {
            window_ms: millis(config.aggregation_window_secs),
            deliver_within_ms: millis(config.notify.deliver_within_secs),
            zone: zone.clone(),
        };
        let source = StopSource::new();
        let gate: Arc<OnceLock<Arc<dyn Gate>>> = Arc::default();
        let deliverer = Arc::new(Deliverer {
            control: control.clone(),
            clock: Arc::clone(&clock),
            client: RwLock::new(Arc::new(client)),
            zone: zone.clone(),
            language: lang::Language::from_name(&config.language).unwrap_or_default(),
            public_url: config.public_url.clone(),
            metrics,
            stop: source.stop(),
            gate: Arc::clone(&gate),
        });
        let (wake, woken) = bounded(1);
        let dispatcher = dispatcher::Dispatcher {
            deliverer: Arc::clone(&deliverer),
            routing: routing.clone(),
            workers: config.pools.notify_workers,
            keep_ms: i64::from(config.notify.log_retention_days) * DAY_MS,
            woken,
            gate: Arc::clone(&gate),
            is_gated: config.peers.is_on(),
        };
        let handle = crate::rt::thread::spawn("notify", move || {
            dispatcher.run();
            Ok(())
        });
        Ok(Arc::new(Self {
            control,
            clock,
            zone,
            routing,
            deliverer,
            wake,
            running: Mutex::new(Some((source, handle))),
            testing: Mutex::new(HashSet::new()),
            gate,
        }))
    }

    /// Takes the authorities, the time limit and the proxies of a configuration that was read
    /// again. What is being sent is finished as it was begun.
    ///
    /// # Errors
    ///
    /// When they can't be used: they stay what they were.
    pub(crate) fn reload(&self, config: &ServerConfig) -> Result<(), String> {
        let mails = self.deliverer.client().shared_mails();
        let client = client_of(config, mails)?;
        *self.deliverer.client.write() = Arc::new(client);
        Ok(())
    }

    /// Sets who must know of a notification before it is sent. Called once, at the start.
    pub(crate) fn set_gate(&self, gate: Arc<dyn Gate>) {
        if self.gate.set(gate).is_err() {
            log::error!("notifications have a gate already");
        }
    }

    /// Ends the senders; each finishes the message that it is at. What is left waits in the outbox.
    pub fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((source, handle)) = running {
            drop(source);
            // A dispatcher that panicked has ended the process already.
            let _ = handle.join();
        }
    }

    /// Has the dispatcher look at once for what is due.
    pub fn look_now(&self) {
        // A full queue says the same.
        let _ = self.wake.try_send(());
    }

    /// The zone of silence windows that name none.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Sends a real message to every recipient of a channel, enabled or not, and gives what the
    /// endpoints said. The attempt stands in the delivery log.
    ///
    /// # Errors
    ///
    /// When there is no such channel, a test of it runs, or an endpoint did not take the message.
    pub fn test(&self, key: &str) -> Result<String, NotifyError> {
        let channel = manage::channel(&self.control, key)?;
        let _running = Testing::begin(self, &channel.id)?;
        let notification = Notification::test(self.clock.now_ms(), &channel.name);
        let past = deliver::Past::default();
        let report = self.deliverer.attempt(&channel, &notification, past, &mut |_| {});
        let row = report.log_row(&channel, &notification, 0, self.clock.now_ms());
        self.deliverer.count(&channel.channel_type, &report);
        let saved = row.clone();
        self.control.write(move |tx| -> Result<(), NotifyError> {
            Ok(crate::server::control::notify::logs::insert(tx, &saved)?)
        })?;
        let answer = row.response_body.unwrap_or_default();
        match row.error_message {
            None => Ok(answer),
            Some(error) if answer.is_empty() => Err(NotifyError::Refused(error)),
            Some(error) => Err(NotifyError::Refused(format!("{error}; it answered: {answer}"))),
        }
    }
}

impl Notify for Notifier {
    fn notify(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        kind: NotifyKind,
    ) -> Result<(), rusqlite::Error> {
        let now_ms = self.clock.now_ms();
        match kind {
            NotifyKind::Firing => self.routing.fire(tx, event, now_ms),
            NotifyKind::Held { repeat_ms, refire_ms } => {
                self.routing.hold(tx, event, (repeat_ms, refire_ms), now_ms)
            }
            NotifyKind::Recovered { .. } => self.routing.recover(tx, event, now_ms),
            NotifyKind::Ended => self.routing.end(tx, event, now_ms),
            NotifyKind::TakenOver { notified_ms } => {
                router::Routing::taken_over(tx, event, notified_ms, now_ms)
            }
            NotifyKind::HandedOver => router::Routing::handed_over(tx, event),
        }
    }

    fn wake(&self) {
        self.look_now();
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A test under way; dropping it lets the next begin.
struct Testing<'a>(&'a Notifier, String);

impl<'a> Testing<'a> {
    fn begin(notifier: &'a Notifier, id: &str) -> Result<Self, NotifyError> {
        let mut testing = notifier.testing.lock();
        if testing.contains(id) {
            return Err(NotifyError::Conflict("a test of this channel is under way".to_owned()));
        }
        if testing.len() >= TESTS_MAX {
            let message = "other channels are being tested; try again in some seconds";
            return Err(NotifyError::Busy(message.to_owned()));
        }
        testing.insert(id.to_owned());
        Ok(Self(notifier, id.to_owned()))
    }
}

impl Drop for Testing<'_> {
    fn drop(&mut self) {
        self.0.testing.lock().remove(&self.1);
    }
}

fn millis(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(SECOND_MS)
}

/// The zone of the configuration, or the system's.
///
/// # Errors
///
/// When the system has no zone of that name.
pub(crate) fn time_zone(config: &ServerConfig) -> Result<TimeZone, Fatal> {
    let Some(name) = &config.time_zone else { return Ok(TimeZone::system()) };
    TimeZone::get(name)
        .map_err(|error| Fatal::new(Exit::Config, format!("time_zone: {name}: {error}")))
}

#[cfg(test)]
mod tests;
