//! What an attempt gave, and the delivery log's row of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::base::ids::new_id;
use crate::base::limits::RESPONSE_BYTES_KEPT_MAX;
use crate::server::control::notify::channels::ChannelRow;
use crate::server::control::notify::logs::{LogRow, Status};
use crate::server::notify::client::Attempt;
use crate::server::notify::message::{Notification, cut};

/// What an attempt gave, by recipient. Nothing in it is a secret any more.
pub(super) struct Attempts {
    /// Each recipient that had a turn.
    pub outcomes: Vec<(String, Attempt)>,
    /// Recipients that had no turn.
    pub left: usize,
    /// How long it took.
    pub took: Duration,
}

impl Attempts {
    /// An attempt that ended before any recipient had a turn.
    pub(super) fn refused(error: &str) -> Self {
        let outcomes = vec![(String::new(), Attempt::not_sent(error))];
        Self { outcomes, left: 0, took: Duration::ZERO }
    }

    /// Whether everyone who had a turn has the message.
    pub(super) fn is_success(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| outcome.error.is_none())
    }

    /// Whether every failure is one that trying again can't help.
    pub(super) fn is_permanent(&self) -> bool {
        let mut failed = self.outcomes.iter().filter(|(_, outcome)| outcome.error.is_some());
        failed.all(|(_, outcome)| outcome.permanent)
    }

    /// The longest time that an endpoint asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.outcomes.iter().filter_map(|(_, outcome)| outcome.retry_after).max()
    }

    /// Whether no endpoint answered at all.
    pub(super) fn is_unreachable(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|(_, outcome)| outcome.unreachable)
    }

    /// The row of the delivery log.
    pub(super) fn log_row(
        &self,
        channel: &ChannelRow,
        notification: &Notification,
        attempts: u32,
        now_ms: i64,
    ) -> LogRow {
        let failed = self.outcomes.iter().find(|(_, outcome)| outcome.error.is_some());
        let shown = failed.or(self.outcomes.last()).map(|(_, outcome)| outcome);
        let first = notification.items.first();
        let error = shown.and_then(|outcome| outcome.error.clone());
        let text = |of: fn(&Attempt) -> &str| {
            let text = shown.map(of).filter(|text| !text.is_empty());
            text.map(|text| cut(text, RESPONSE_BYTES_KEPT_MAX).to_owned())
        };
        LogRow {
            id: new_id(),
            notification_id: Some(notification.id.clone()),
            alert_event_id: first.map(|item| item.id.clone()).unwrap_or_default(),
            rule_id: notification.rule_id.clone(),
            rule_name: notification.rule_name.clone(),
            agent_id: first.map(|item| item.agent_id.clone()).unwrap_or_default(),
            channel_id: channel.id.clone(),
            channel_name: channel.name.clone(),
            channel_type: channel.channel_type.clone(),
            severity: notification.severity.name().to_owned(),
            status: if self.is_success() { Status::Success } else { Status::Failed }
                .name()
                .to_owned(),
            error_message: error.map(|error| cut(&error, RESPONSE_BYTES_KEPT_MAX).to_owned()),
            duration_ms: i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX),
            recipient_count: self.outcomes.len() as i64,
            retry_count: i64::from(attempts),
            http_status_code: shown.and_then(|outcome| outcome.http_status).map(i64::from),
            request_body: text(|outcome| &outcome.request),
            response_body: text(|outcome| &outcome.response),
            recipient_details: Some(self.details()),
            api_message_id: shown.and_then(|outcome| outcome.message_id.clone()),
            api_error_code: shown.and_then(|outcome| outcome.error_code.clone()),
            created_at_ms: now_ms,
        }
    }

    fn details(&self) -> String {
        let one = |(recipient, outcome): &(String, Attempt)| -> Value {
            let status = if outcome.error.is_none() { Status::Success } else { Status::Failed };
            let error = outcome.error.as_deref().map(|error| cut(error, DETAIL_BYTES_MAX));
            json!({
                "recipient": recipient,
                "status": status.name(),
                "error": error,
                "http_status_code": outcome.http_status,
            })
        };
        Value::Array(self.outcomes.iter().map(one).collect()).to_string()
    }
}

/// Bytes of a recipient's error in `recipient_details`.
const DETAIL_BYTES_MAX: usize = 256;
