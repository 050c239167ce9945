//! Routing: which notices become one notification, which windows hold them back, and which
//! channels hear of them. Everything about one group happens in one transaction.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use rusqlite::Transaction;

use crate::base::ids::new_id;
use crate::base::limits::NOTIFICATION_EVENTS_MAX;
use crate::model::alert::{AlertEvent, AlertStatus};
use crate::model::severity::Severity;
use crate::server::control::notify::channels::{self, ChannelRow};
use crate::server::control::notify::logs::{self, LogRow, Status};
use crate::server::control::notify::outbox::{self, NotificationRow};
use crate::server::control::notify::pending::{self, Group, Pending};
use crate::server::control::notify::sent;
use crate::server::control::notify::silence;
use crate::server::notify::deliver::RETRY_LAST_MS;
use crate::server::notify::message::Kind;
use crate::server::notify::mute::SilenceWindow;

/// What routing needs to know besides the database.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    /// How long the first notice of a group waits for others; 0: none waits, none is merged.
    pub window_ms: i64,
    /// How long a notification is retried.
    pub deliver_within_ms: i64,
    /// The zone of windows that name none.
    pub zone: TimeZone,
}

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Routed {
    /// Notifications that went to the outbox, over all channels.
    pub queued: usize,
    /// Channel types, one for each channel and notification that a window held back.
    pub suppressed: Vec<String>,
}

impl Routing {
    /// Queues the notification of an alert that fires or has escalated, in the transaction of its
    /// state. Whoever was notified of the same and has not got an end gets nothing again.
    pub(super) fn fire(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        let (firing_due, recovery) = (pending::firing_due(tx, &key)?, pending::recovers(tx, &key)?);
        if let Some(sent) = sent::find(tx, &key)?
            && !outbox::told(tx, &key)?.is_empty()
            && (sent.event_id == event.id || (recovery && sent.severity >= event.severity))
        {
            // A recovery that is still pending no longer holds.
            return pending::remove_of(tx, &key).map(drop);
        }
        pending::remove_of(tx, &key)?;
        // It is notified with the newest event, but no later than it would have been.
        let due_ms = now_ms.saturating_add(self.window_ms).min(firing_due.unwrap_or(i64::MAX));
        self.queue(tx, event, Kind::Firing, due_ms)
    }

    /// An alert fires within the repeat interval of an earlier notification. It is notified when
    /// the interval since what was really sent has passed, unless it ends before.
    pub(super) fn hold(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        (repeat_ms, refire_ms): (i64, i64),
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        pending::remove_recoveries(tx, &key)?;
        if !outbox::told(tx, &key)?.is_empty() || pending::firing_due(tx, &key)?.is_some() {
            return Ok(());
        }
        let free_ms = sent::find(tx, &key)?.map_or(now_ms, |sent| {
            let repeat_ms = sent.sent_ms.saturating_add(repeat_ms);
            let refire_ms = sent.recovered_ms.map(|at_ms| at_ms.saturating_add(refire_ms));
            refire_ms.map_or(repeat_ms, |refire_ms| refire_ms.min(repeat_ms))
        });
        let held = free_ms > now_ms.saturating_add(self.window_ms);
        let due_ms = free_ms.max(now_ms.saturating_add(self.window_ms));
        pending::remove_of(tx, &key)?;
        self.queue(tx, event, Kind::Firing, due_ms)?;
        if held { pending::hold(tx, &key) } else { Ok(()) }
    }

    /// Queues the notification of a recovery, for those who were notified of the firing or will
    /// be.
    pub(super) fn recover(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        pending::remove_held(tx, &key)?;
        let firing_due = pending::firing_due(tx, &key)?;
        if firing_due.is_none() && outbox::told(tx, &key)?.is_empty() {
            return Ok(());
        }
        let due_ms = now_ms.saturating_add(self.window_ms).max(firing_due.unwrap_or(i64::MIN));
        self.queue(tx, event, Kind::Resolved, due_ms)
    }

    /// An alert has ended without a recovery. What is pending is dropped; whoever was notified
    /// hears of the end.
    pub(super) fn end(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        pending::remove_of(tx, &key)?;
        if outbox::told(tx, &key)?.is_empty() {
            return Ok(());
        }
        self.queue(tx, event, Kind::Resolved, now_ms.saturating_add(self.window_ms))
    }

    /// Another server has notified of an alert at `notified_ms`: its recovery goes to those who
    /// are notified of such alerts here, and its repeat interval goes on.
    pub(super) fn taken_over(
        tx: &Transaction<'_>,
        event: &AlertEvent,
        notified_ms: i64,
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        pending::remove_of(tx, &key)?;
        sent::put(tx, &key, event, notified_ms)?;
        if event.status == AlertStatus::Resolved {
            return sent::recovered(tx, &key, now_ms);
        }
        for channel in channels::list(tx, None)?.items {
            if hears(&channel, event.severity) {
                outbox::set_told(tx, &key, &channel.id)?;
                outbox::forget_missed(tx, &key, &channel.id)?;
            }
        }
        Ok(())
    }

    /// Another server goes on with an alert that fires: what is not sent yet is sent from there.
    pub(super) fn handed_over(
        tx: &Transaction<'_>,
        event: &AlertEvent,
    ) -> Result<(), rusqlite::Error> {
        let key = event.alert_key();
        pending::remove_of(tx, &key)?;
        outbox::forget_told(tx, &key, None)?;
        for (id, events) in outbox::firings_of(tx, &event.id)? {
            let mut left: Vec<AlertEvent> = serde_json::from_str(&events).unwrap_or_default();
            left.retain(|other| other.id != event.id);
            let json = serde_json::to_string(&left).unwrap_or_else(|_| "[]".to_owned());
            outbox::take_out(tx, &id, &event.id, (!left.is_empty()).then_some(&json))?;
        }
        Ok(())
    }

    fn queue(
        &self,
        tx: &Transaction<'_>,
        event: &AlertEvent,
        kind: Kind,
        due_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        let group = Group {
            rule_id: event.rule_id.clone(),
            severity: event.severity.name().to_owned(),
            kind: kind.name().to_owned(),
        };
        pending::add(tx, &group, &event.alert_key(), due_ms, &event.to_json())
    }

    /// Takes back what was planned with a clock that has been put back since, here or before the
    /// last start: nothing may wait for a time that was wrong.
    pub(super) fn put_back(
        &self,
        tx: &Transaction<'_>,
        now_ms: i64,
    ) -> Result<(), rusqlite::Error> {
        pending::put_back(tx, now_ms.saturating_add(self.window_ms), now_ms)?;
        let due_ms_max = now_ms.saturating_add(RETRY_LAST_MS);
        outbox::put_back(tx, due_ms_max, now_ms.saturating_add(self.deliver_within_ms))
    }

    /// Routes every group that is due.
    pub(super) fn route(
        &self,
        tx: &Transaction<'_>,
        now_ms: i64,
    ) -> Result<Routed, rusqlite::Error> {
        let mut routed = Routed::default();
        let groups = pending::due_groups(tx, now_ms)?;
        if groups.is_empty() {
            return Ok(routed);
        }
        let pass = Pass {
            routing: self,
            tx,
            now_ms,
            channels: channels::list(tx, None)?.items,
            windows: windows(tx)?,
        };
        for group in &groups {
            pass.group(group, &mut routed)?;
        }
        Ok(routed)
    }
}

fn windows(tx: &Transaction<'_>) -> Result<Vec<SilenceWindow>, rusqlite::Error> {
    let rows = silence::list(tx, None)?.items;
    let read = |row| match SilenceWindow::parse(row) {
        Ok(window) => Some(window),
        Err(why) => {
            log::warn!("silence window {} is not in force: {why}", row.id);
            None
        }
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Whether a channel is notified of alerts of a severity.
fn hears(channel: &ChannelRow, severity: Severity) -> bool {
    channel.enabled && channel.min_severity <= severity
}

struct Pass<'a> {
    routing: &'a Routing,
    tx: &'a Transaction<'a>,
    now_ms: i64,
    channels: Vec<ChannelRow>,
    windows: Vec<SilenceWindow>,
}

impl Pass<'_> {
    fn group(&self, group: &Group, routed: &mut Routed) -> Result<(), rusqlite::Error> {
        let limit = NOTIFICATION_EVENTS_MAX;
        let found = pending::group_notices(self.tx, group, self.now_ms, limit)?;
        let mut told = Vec::new();
        let mut held = Vec::new();
        for notice in found {
            let Ok(item) = serde_json::from_str::<AlertEvent>(&notice.event) else {
                log::error!("notice {} cannot be read and is dropped", notice.id);
                pending::remove(self.tx, notice.id)?;
                continue;
            };
            if group.kind == Kind::Resolved.name()
                && let Some(due_ms) = pending::firing_due(self.tx, &notice.alert_key)?
            {
                // The firing has not been notified yet: the recovery comes after it.
                pending::put_off(self.tx, notice.id, due_ms.max(self.now_ms + 1), false)?;
                continue;
            }
            match self.held_until(&item) {
                Some(until_ms) => {
                    pending::put_off(self.tx, notice.id, until_ms, true)?;
                    // That it is held back is in the log once.
                    if !notice.suppressed {
                        held.push((notice, item));
                    }
                }
                None => {
                    pending::remove(self.tx, notice.id)?;
                    told.push((notice, item));
                }
            }
        }
        // Without a window each event is a notification of its own.
        let size = if self.routing.window_ms == 0 { 1 } else { limit };
        for part in held.chunks(size) {
            self.suppress(group, part, routed)?;
        }
        for part in told.chunks(size) {
            self.tell(group, part, routed)?;
        }
        Ok(())
    }

    fn held_until(&self, item: &AlertEvent) -> Option<i64> {
        let about = self.windows.iter();
        let about = about.filter(|window| window.is_about(&item.agent_id, &item.metric_name));
        about.filter_map(|window| window.open_until(&self.routing.zone, self.now_ms)).max()
    }

    /// The channels that hear of a firing of this group.
    fn hearing(&self, group: &Group) -> impl Iterator<Item = &ChannelRow> {
        let severity = group.severity.parse().unwrap_or(Severity::Critical);
        self.channels.iter().filter(move |channel| hears(channel, severity))
    }

    fn tell(
        &self,
        group: &Group,
        told: &[(Pending, AlertEvent)],
        routed: &mut Routed,
    ) -> Result<(), rusqlite::Error> {
        let mut by_channel: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        if group.kind == Kind::Resolved.name() {
            for (index, (notice, _)) in told.iter().enumerate() {
                for channel in outbox::told(self.tx, &notice.alert_key)? {
                    by_channel.entry(channel).or_default().push(index);
                }
                outbox::forget_told(self.tx, &notice.alert_key, None)?;
                sent::recovered(self.tx, &notice.alert_key, self.now_ms)?;
            }
            // A channel that was switched off since hears nothing.
            by_channel.retain(|id, _| self.channels.iter().any(|row| row.id == *id && row.enabled));
        } else {
            let all: Vec<usize> = (0..told.len()).collect();
            for channel in self.hearing(group) {
                for (notice, _) in told {
                    outbox::set_told(self.tx, &notice.alert_key, &channel.id)?;
                    outbox::forget_missed(self.tx, &notice.alert_key, &channel.id)?;
                }
                by_channel.insert(channel.id.clone(), all.clone());
            }
        }
        if group.kind != Kind::Resolved.name() && !by_channel.is_empty() {
            for (notice, event) in told {
                sent::put(self.tx, &notice.alert_key, event, self.now_ms)?;
            }
        }
        // Channels that hear of the same events share one stored notification.
        let mut by_events: BTreeMap<Vec<usize>, Vec<String>> = BTreeMap::new();
        for (channel, events) in by_channel {
            by_events.entry(events).or_default().push(channel);
        }
        for (events, channels) in by_events {
            let items: Vec<&AlertEvent> =
                events.iter().filter_map(|index| Some(&told.get(*index)?.1)).collect();
            let row = self.store(group, &items)?;
            let deadline_ms = self.now_ms.saturating_add(self.routing.deliver_within_ms);
            for channel in &channels {
                outbox::enqueue(self.tx, channel, &row, self.now_ms, deadline_ms)?;
                routed.queued += 1;
            }
        }
        Ok(())
    }

    fn store(
        &self,
        group: &Group,
        items: &[&AlertEvent],
    ) -> Result<NotificationRow, rusqlite::Error> {
        let row = NotificationRow {
            id: new_id(),
            rule_id: group.rule_id.clone(),
            rule_name: items.first().map(|item| item.rule_name.clone()).unwrap_or_default(),
            severity: group.severity.clone(),
            kind: group.kind.clone(),
            events: serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned()),
            created_ms: self.now_ms,
        };
        let about = items.iter().map(|item| (item.id.as_str(), item.agent_id.as_str()));
        outbox::add_notification(self.tx, &row, about)?;
        Ok(row)
    }

    /// Writes into the delivery log what the channels would have heard.
    fn suppress(
        &self,
        group: &Group,
        held: &[(Pending, AlertEvent)],
        routed: &mut Routed,
    ) -> Result<(), rusqlite::Error> {
        let items: Vec<&AlertEvent> = held.iter().map(|(_, item)| item).collect();
        let channels: Vec<&ChannelRow> = self.hearing(group).collect();
        let (Some(first), false) = (items.first(), channels.is_empty()) else { return Ok(()) };
        let notification = self.store(group, &items)?;
        for channel in channels {
            let row = LogRow {
                id: new_id(),
                notification_id: Some(notification.id.clone()),
                alert_event_id: first.id.clone(),
                rule_id: group.rule_id.clone(),
                rule_name: first.rule_name.clone(),
                agent_id: first.agent_id.clone(),
                channel_id: channel.id.clone(),
                channel_name: channel.name.clone(),
                channel_type: channel.channel_type.clone(),
                severity: group.severity.clone(),
                status: Status::Suppressed.name().to_owned(),
                error_message: Some("held back by a silence window".to_owned()),
                created_at_ms: self.now_ms,
                ..LogRow::default()
            };
            logs::insert(self.tx, &row)?;
            routed.suppressed.push(channel.channel_type.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
