//! One attempt to deliver one notification to one channel, and what becomes of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::base::clock::{Clock, SECOND_MS};
use crate::model::alert::AlertEvent;
use crate::rt::stop::Stop;
use crate::server::control::Control;
use crate::server::control::notify::channels::ChannelRow;
use crate::server::control::notify::logs::{self, LogRow};
use crate::server::control::notify::outbox::{Ahead, Waiting};
use crate::server::control::notify::{channels as rows, outbox};
use crate::server::notify::attempts::Attempts;
use crate::server::notify::channels::config::{Config, by_length, scrub, secrets, some_text};
use crate::server::notify::channels::url::{mask_path, recipient_secrets};
use crate::server::notify::channels::{self, ChannelType, Sending};
use crate::server::notify::client::{Attempt, Client};
use crate::server::notify::lang::Language;
use crate::server::notify::message::{Kind, Notification};
use crate::server::notify::metrics::Metrics;
use crate::server::notify::processes;
use crate::server::notify::voice::Voice;
use crate::server::notify::{Gate, NotifyError};
use jiff::tz::TimeZone;
use parking_lot::RwLock;

/// What the senders share.
pub(super) struct Deliverer {
    /// `cert.db`.
    pub control: Control,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How endpoints are reached.
    pub client: RwLock<Arc<Client>>,
    /// The zone in which people read times.
    pub zone: TimeZone,
    /// The language of channels that name none.
    pub language: Language,
    /// Where people reach the dashboard.
    pub public_url: Option<String>,
    /// What is notified of all this.
    pub metrics: Arc<Metrics>,
    /// The end: no new message is begun after it.
    pub stop: Stop,
    /// Learns what was sent.
    pub gate: Arc<OnceLock<Arc<dyn Gate>>>,
}

/// What has become of a notification so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past<'a> {
    /// Recipients that have it already.
    pub served: &'a [String],
    /// What comes before it and has not reached everyone.
    pub ahead: &'a [Ahead],
    /// Recipients that never got the firing: they get no recovery either.
    pub missed: &'a [String],
    /// Attempts that were made.
    pub attempts: u32,
}

impl<'a> Past<'a> {
    fn of(waiting: &'a Waiting) -> Self {
        let Waiting { served, ahead, attempts, .. } = waiting;
        Self { served, ahead, missed: &[], attempts: *attempts }
    }

    /// Whether nothing more is sent to a recipient.
    fn is_done(&self, target: &str) -> bool {
        let refused = refused_mark(target);
        self.served.iter().any(|mark| *mark == target || *mark == refused)
            || self.missed.iter().any(|missed| missed == target)
    }

    /// How many alerts of a notification in parts a recipient has.
    fn progress(&self, target: &str) -> usize {
        let count = |mark: &String| {
            let (count, of) = mark.strip_prefix(PART)?.split_once(PART)?;
            (of == target).then(|| count.parse().ok())?
        };
        self.served.iter().filter_map(count).max().unwrap_or(0)
    }
}

/// Begins and parts a mark among the served: how many alerts of a notification one has.
const PART: char = '\u{1}';

/// The mark of a recipient that was given up at once.
fn refused_mark(target: &str) -> String {
    format!("\u{2}{target}")
}

/// The longest time that an endpoint may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// An attempt goes on to no further recipient after this many time limits.
const TURNS_MAX: u32 = 3;
/// The first wait after a failure; each one after it is twice as long.
const RETRY_FIRST_MS: i64 = SECOND_MS;
/// The longest wait after a failure, give or take a quarter.
pub(super) const RETRY_LAST_MS: i64 = 300 * SECOND_MS;
/// How soon a row is looked at again that waits for another, at the least.
const AHEAD_AGAIN_MS: i64 = SECOND_MS;
/// The wait after the database took no result.
const RECORD_AGAIN: Duration = Duration::from_secs(5);

impl Deliverer {
    /// How endpoints are called now.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read())
    }

    /// Sends to every recipient of the channel who is not in `past.served`, and calls `on_served`
    /// after each who has it. Who has not got what comes before it waits for that. The number of
    /// attempts moves the order, so that a slow first recipient keeps nobody from their turn for
    /// ever.
    pub(super) fn attempt(
        &self,
        channel: &ChannelRow,
        notification: &Notification,
        past: Past<'_>,
        on_served: &mut dyn FnMut(String),
    ) -> Attempts {
        let Some(spec) = channels::find(&channel.channel_type) else {
            return Attempts::refused(&format!("unknown channel type `{}`", channel.channel_type));
        };
        let config: Config = serde_json::from_str(&channel.config_json).unwrap_or_default();
        let mut targets = (spec.targets)(&config, &channel.recipients);
        if targets.is_empty() {
            return Attempts::refused("the channel has no recipients");
        }
        targets.retain(|target| !past.is_done(target));
        let unserved = targets.len();
        targets.retain(|target| past.ahead.iter().all(|ahead| ahead.served.contains(target)));
        if let Some(turns) = (past.attempts as usize).checked_rem(targets.len()) {
            targets.rotate_left(turns);
        }
        let is_url = spec.recipient == channels::RecipientKind::Url;
        let mut secrets = secrets(spec.fields, &config);
        if is_url {
            secrets.extend(targets.iter().flat_map(|target| recipient_secrets(target)));
        }
        let secrets = by_length(secrets);
        let (client, begun) = (self.client(), Instant::now());
        let mut outcomes = Vec::new();
        for target in &targets {
            let over = begun.elapsed() >= client.timeout() * TURNS_MAX;
            if !outcomes.is_empty() && (over || self.stop.is_stopped()) {
                break;
            }
            let now_ms = self.clock.now_ms();
            let sending = Sending {
                config: &config,
                notification,
                voice: self.voice(&config),
                client: &client,
                now_ms,
            };
            let outcome = self.send_parts(spec, &sending, target, past.progress(target), on_served);
            if outcome.error.is_none() {
                on_served(target.clone());
            } else if outcome.permanent {
                on_served(refused_mark(target));
            }
            // One mail server serves all recipients: when it is away, it is for all of them.
            let away = outcome.unreachable && !is_url;
            let shown = if is_url { mask_path(target) } else { scrub(target, &secrets) };
            outcomes.push((shown, outcome.masked(&secrets)));
            if away {
                break;
            }
        }
        let left = unserved - outcomes.len();
        Attempts { outcomes, left, took: begun.elapsed() }
    }

    fn voice(&self, config: &Config) -> Voice<'_> {
        let language = some_text(config, "language").and_then(Language::from_name);
        Voice {
            words: language.unwrap_or(self.language).words(),
            zone: &self.zone,
            public_url: self.public_url.as_deref(),
        }
    }

    /// Sends a notification from an alert on, in as many parts as the endpoint's limit makes.
    fn send_parts(
        &self,
        spec: &ChannelType,
        whole: &Sending<'_>,
        target: &str,
        mut from: usize,
        on_served: &mut dyn FnMut(String),
    ) -> Attempt {
        let count = whole.notification.items.len();
        let mut size = count.saturating_sub(from).max(1);
        loop {
            let part = whole.notification.part(from, size);
            let attempt = (spec.send)(&Sending { notification: &part, ..*whole }, target);
            if attempt.too_large && size > 1 {
                size = size.div_ceil(2);
                continue;
            }
            from += size;
            if attempt.error.is_some() || from >= count {
                return attempt;
            }
            on_served(format!("{PART}{from}{PART}{target}"));
            size = size.min(count - from);
            if self.stop.is_stopped() {
                return Attempt::not_sent("the server stops; the rest is sent after its start");
            }
        }
    }

    /// Counts an attempt.
    pub(super) fn count(&self, channel_type: &str, report: &Attempts) {
        let metrics = &self.metrics;
        let outcome = if report.is_success() { &metrics.sent } else { &metrics.failed };
        outcome.with_label_values(&[channel_type]).inc();
        metrics.seconds.with_label_values(&[channel_type]).observe(report.took.as_secs_f64());
    }

    /// Delivers a row of the outbox; gives how long the endpoint took.
    pub(super) fn deliver(&self, id: i64) -> Duration {
        match self.try_deliver(id) {
            Ok(took) => took,
            Err(error) => {
                log::error!("failed to read a notification from the outbox: {error}");
                self.stop.wait(RECORD_AGAIN);
                Duration::ZERO
            }
        }
    }

    fn try_deliver(&self, id: i64) -> Result<Duration, NotifyError> {
        let loaded = self.control.read(|db| -> Result<_, NotifyError> {
            let Some(waiting) = outbox::load(db, id)? else { return Ok(None) };
            let channel = rows::find(db, &waiting.channel_id)?;
            let missed = missed(db, &waiting)?;
            Ok(channel.map(|channel| (waiting, channel, missed)))
        })?;
        // A channel that was deleted took its rows with it.
        let Some((waiting, channel, missed)) = loaded else { return Ok(Duration::ZERO) };
        let Some(mut notification) = Notification::read(&waiting.notification) else {
            log::error!("notification {} cannot be read and is dropped", waiting.notification.id);
            self.control
                .write(move |tx| -> Result<(), NotifyError> { Ok(outbox::remove(tx, id)?) })?;
            return Ok(Duration::ZERO);
        };
        processes::add(&self.control, &mut notification);
        let mut served = waiting.served.clone();
        let report = if channel.enabled {
            let past = Past { missed: &missed, ..Past::of(&waiting) };
            self.attempt(&channel, &notification, past, &mut |mark| {
                served.push(mark);
                self.save_served(id, &served);
            })
        } else {
            Attempts::refused("the channel was disabled before delivery")
        };
        let now_ms = self.clock.now_ms();
        if report.outcomes.is_empty() && report.left > 0 {
            self.wait_for_those_ahead(&waiting, now_ms)?;
            return Ok(Duration::ZERO);
        }
        if report.outcomes.is_empty() && report.left == 0 {
            // Nobody is left: they have it, were given up, or never got the firing.
            self.control
                .write(move |tx| -> Result<(), NotifyError> { Ok(outbox::remove(tx, id)?) })?;
            return Ok(Duration::ZERO);
        }
        let settled = report.left == 0 && report.is_permanent();
        let last = now_ms >= waiting.deadline_ms || !channel.enabled || settled;
        let mut row = report.log_row(&channel, &notification, waiting.attempts, now_ms);
        let given_up = last && !report.is_success();
        if settled
            && !report.is_success()
            && let Some(error) = &mut row.error_message
        {
            error.push_str("; not retried");
        } else if given_up && let Some(error) = &mut row.error_message {
            error.push_str(&format!(" (given up after {} attempts)", waiting.attempts + 1));
        }
        self.count(&channel.channel_type, &report);
        if let Some(error) = &row.error_message {
            log::warn!("failed to notify over channel {}: {error}", channel.name);
        }
        if given_up {
            self.metrics.given_up.with_label_values(&[&channel.channel_type]).inc();
        }
        let next = match (report.is_success(), given_up) {
            (true, _) if report.left > 0 => Next::GoOn,
            (true, _) => Next::Sent,
            (_, true) => Next::GivenUp(missing(&channel, &notification, &served)),
            _ => Next::Retry {
                due_ms: now_ms.saturating_add(wait_ms(&report, waiting.attempts)),
                // Where some recipients are reached, the others hold up only themselves.
                hold: (report.is_unreachable() || report.retry_after().is_some())
                    && served.is_empty(),
            },
        };
        self.record(Record { id, channel_id: channel.id, now_ms, row, next });
        self.gate.get().into_iter().for_each(|gate| gate.attempted(&notification.items));
        Ok(report.took)
    }

    /// Everyone who has not got it has not got an earlier message about the same alerts either.
    fn wait_for_those_ahead(&self, waiting: &Waiting, now_ms: i64) -> Result<(), NotifyError> {
        let next_ms = waiting.ahead.iter().map(|ahead| ahead.due_ms).min().unwrap_or(now_ms);
        let (id, due_ms) = (waiting.id, next_ms.max(now_ms.saturating_add(AHEAD_AGAIN_MS)));
        self.control
            .write(move |tx| -> Result<(), NotifyError> { Ok(outbox::put_off(tx, id, due_ms)?) })
    }

    fn save_served(&self, id: i64, served: &[String]) {
        let served = served.to_vec();
        let saved = self.control.write(move |tx| -> Result<(), NotifyError> {
            Ok(outbox::set_served(tx, id, &served)?)
        });
        if let Err(error) = saved {
            log::error!(
                "failed to record a delivery, the recipient may be notified twice: {error}"
            );
        }
    }

    /// Writes the result, again and again until it stands: what was sent must not be sent again
    /// because the disk was full for a while.
    fn record(&self, record: Record) {
        loop {
            let record = record.clone();
            let written =
                self.control.write(move |tx| -> Result<(), NotifyError> { Ok(record.write(tx)?) });
            let Err(error) = written else { return };
            log::error!("failed to record a delivery, retrying: {error}");
            if self.stop.wait(RECORD_AGAIN) {
                return;
            }
        }
    }
}

/// Recipients of a channel who never got the firing that a recovery is about.
fn missed(db: &rusqlite::Connection, waiting: &Waiting) -> Result<Vec<String>, rusqlite::Error> {
    let kind = Kind::from_name(&waiting.notification.kind);
    let notification =
        (kind == Kind::Resolved).then(|| Notification::read(&waiting.notification)).flatten();
    let mut all: Option<Vec<String>> = None;
    for item in notification.iter().flat_map(|notification| &notification.items) {
        let missed = outbox::missed(db, &item.alert_key(), &waiting.channel_id)?;
        all = Some(match all {
            None => missed,
            Some(all) => all.into_iter().filter(|target| missed.contains(target)).collect(),
        });
        if all.as_ref().is_some_and(Vec::is_empty) {
            break;
        }
    }
    Ok(all.unwrap_or_default())
}

/// Who misses a firing that is given up.
#[derive(Clone)]
struct Missing {
    /// Its alerts; none for a recovery.
    keys: Vec<String>,
    /// The recipients that have not got it; `None` when nobody has.
    recipients: Option<Vec<String>>,
}

fn missing(channel: &ChannelRow, notification: &Notification, served: &[String]) -> Missing {
    let keys = match notification.kind {
        Kind::Firing => notification.items.iter().map(AlertEvent::alert_key).collect(),
        Kind::Resolved | Kind::Test => Vec::new(),
    };
    let config: Config = serde_json::from_str(&channel.config_json).unwrap_or_default();
    let targets = channels::find(&channel.channel_type)
        .map(|spec| (spec.targets)(&config, &channel.recipients))
        .unwrap_or_default();
    let (got, not): (Vec<String>, Vec<String>) =
        targets.into_iter().partition(|target| served.contains(target));
    Missing { keys, recipients: (!got.is_empty()).then_some(not) }
}

#[derive(Clone)]
enum Next {
    /// Everyone has it.
    Sent,
    /// Some had no turn yet: the row stays due.
    GoOn,
    Retry {
        due_ms: i64,
        hold: bool,
    },
    GivenUp(Missing),
}

#[derive(Clone)]
struct Record {
    id: i64,
    channel_id: String,
    now_ms: i64,
    row: LogRow,
    next: Next,
}

impl Record {
    fn write(&self, tx: &rusqlite::Transaction<'_>) -> Result<(), rusqlite::Error> {
        logs::insert(tx, &self.row)?;
        match &self.next {
            Next::Sent => {
                outbox::remove(tx, self.id)?;
                outbox::release_channel(tx, &self.channel_id, self.now_ms)
            }
            Next::GoOn => Ok(()),
            Next::Retry { due_ms, hold } => {
                outbox::retry(tx, self.id, *due_ms)?;
                if *hold { outbox::hold_channel(tx, &self.channel_id, *due_ms) } else { Ok(()) }
            }
            Next::GivenUp(missing) => {
                outbox::remove(tx, self.id)?;
                for key in &missing.keys {
                    let Some(recipients) = &missing.recipients else {
                        outbox::forget_told(tx, key, Some(&self.channel_id))?;
                        continue;
                    };
                    for recipient in recipients {
                        outbox::set_missed(tx, key, &self.channel_id, recipient)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The wait before the next attempt: what the endpoint asks for, within bounds, or the usual one.
fn wait_ms(report: &Attempts, attempts: u32) -> i64 {
    let asked = report.retry_after().map(|asked| asked.min(RETRY_AFTER_MAX).as_millis());
    let asked_ms = asked.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0);
    retry_after_ms(attempts).max(asked_ms)
}

/// The wait after the failure that follows `attempts` others: twice as long each time, with up to
/// a quarter more or less, so that channels do not come back all at once.
fn retry_after_ms(attempts: u32) -> i64 {
    let wait = RETRY_FIRST_MS.saturating_mul(1 << attempts.min(16)).min(RETRY_LAST_MS);
    wait - wait / 4 + fastrand::i64(0..=wait / 2)
}
