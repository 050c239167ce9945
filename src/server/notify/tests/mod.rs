//! The notifier against real endpoints on loopback. The clock is moved by hand, so that no test
//! waits for an hour to pass.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod channels;
mod documented;
mod endpoint;
mod flow;
mod mail;
mod mail_server;
mod muted;
mod order;
mod retries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::clock::{ManualClock, parse_rfc3339};
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::alert::{Notify as _, NotifyKind};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::notify::channels::ChannelRow;
use crate::server::control::notify::logs::{self, LogFilter, LogRow};
use crate::server::control::notify::outbox;
use crate::server::notify::manage::{self, ChannelInput};
use crate::server::notify::{Notifier, NotifyError};
use crate::server::storage::Page;

/// 2026-02-09 is a Monday.
pub(super) const START: &str = "2026-02-09T08:30:00Z";

/// A notifier with its database.
pub(super) struct Rig {
    pub control: Control,
    pub clock: Arc<ManualClock>,
    pub notifier: Arc<Notifier>,
    pub config: ServerConfig,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::default();
        config.notify.timeout_secs = 2;
        config.time_zone = Some("UTC".to_owned());
        change(&mut config);
        let control = Control::open(dir.path()).unwrap();
        let clock = ManualClock::at(parse_rfc3339(START).unwrap());
        let notifier = start(&control, &clock, &config);
        Self { control, clock, notifier, config, _dir: dir }
    }

    /// Stops the notifier and starts another on the same database.
    pub(super) fn restart(&mut self) {
        self.notifier.stop();
        self.notifier = start(&self.control, &self.clock, &self.config);
    }

    pub(super) fn channel(&self, kind: &str, config: serde_json::Value, to: &[&str]) -> ChannelRow {
        self.channel_with(kind, config, to, Severity::Info)
    }

    pub(super) fn channel_with(
        &self,
        kind: &str,
        config: serde_json::Value,
        to: &[&str],
        min_severity: Severity,
    ) -> ChannelRow {
        let input = ChannelInput {
            name: Some(format!("{kind}-{}", crate::base::ids::random_hex(4))),
            channel_type: Some(kind.to_owned()),
            config_json: Some(config),
            recipients: Some(to.iter().map(|to| (*to).to_owned()).collect()),
            min_severity: Some(min_severity),
            ..ChannelInput::default()
        };
        manage::create(&self.control, input, 0).unwrap()
    }

    pub(super) fn tell(&self, events: Vec<AlertEvent>, recovered: bool) {
        let notifier = Arc::clone(&self.notifier);
        self.control
            .write(move |tx| -> Result<(), NotifyError> {
                for event in &events {
                    let kind = if recovered {
                        NotifyKind::Recovered { firing_id: event.id.replace("-over", "") }
                    } else {
                        NotifyKind::Firing
                    };
                    notifier.notify(tx, event, kind)?;
                }
                Ok(())
            })
            .unwrap();
        self.notifier.look_now();
    }

    pub(super) fn fire(&self, agent: &str) {
        self.tell(vec![event(agent, Severity::Critical)], false);
    }

    pub(super) fn recover(&self, agent: &str) {
        self.tell(vec![recovery(agent, Severity::Critical)], true);
    }

    /// Moves the clock and has the dispatcher look.
    pub(super) fn advance_secs(&self, secs: i64) {
        self.clock.advance(secs * 1_000);
        self.notifier.look_now();
    }

    /// Rows of the delivery log, oldest first.
    pub(super) fn logs(&self) -> Vec<LogRow> {
        let page = Page { limit: 1_000, offset: 0 };
        let found = self.control.read(|db| logs::list(db, &LogFilter::default(), page));
        let mut items = found.unwrap().items;
        items.reverse();
        items
    }

    /// Waits for so many rows of the delivery log.
    pub(super) fn wait_logs(&self, count: usize) -> Vec<LogRow> {
        wait_for(&format!("{count} log rows"), || {
            Some(self.logs()).filter(|rows| rows.len() >= count)
        })
    }

    /// Rows of the outbox, and notices that wait.
    pub(super) fn waiting(&self) -> (i64, i64) {
        let (rows, notices, _) = self.control.read(outbox::depth).unwrap();
        (rows, notices)
    }

    pub(super) fn wait_empty(&self) {
        wait_for("an empty outbox", || (self.waiting() == (0, 0)).then_some(()));
    }
}

fn start(control: &Control, clock: &Arc<ManualClock>, config: &ServerConfig) -> Arc<Notifier> {
    let clock: Arc<dyn crate::base::clock::Clock> = Arc::clone(clock) as _;
    let registry = prometheus::Registry::new();
    Notifier::start(control.clone(), clock, config, &registry).unwrap()
}

pub(super) fn event(agent: &str, severity: Severity) -> AlertEvent {
    AlertEvent {
        id: format!("event-{agent}"),
        rule_id: "rule-1".to_owned(),
        rule_name: "Disk full".to_owned(),
        agent_id: agent.to_owned(),
        metric_name: "disk.used_percent".to_owned(),
        severity,
        message: format!("96.5 % of / on {agent} is used"),
        labels: Labels::one("mount", "/"),
        value: 96.5,
        threshold: 90.0,
        timestamp_ms: parse_rfc3339(START).unwrap(),
        predicted_breach_ms: None,
        first_triggered_at_ms: parse_rfc3339(START).unwrap() - 60_000,
        status: AlertStatus::Firing,
        resolved_at_ms: None,
        facts: None,
    }
}

pub(super) fn recovery(agent: &str, severity: Severity) -> AlertEvent {
    let fired = event(agent, severity);
    AlertEvent {
        id: format!("{}-over", fired.id),
        message: "it has ended".to_owned(),
        status: AlertStatus::Resolved,
        resolved_at_ms: Some(fired.timestamp_ms + 600_000),
        timestamp_ms: fired.timestamp_ms + 600_000,
        ..fired
    }
}

/// Waits until `ready` gives a value; fails after 20 s.
pub(super) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
