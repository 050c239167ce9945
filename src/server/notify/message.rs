//! What is told: a notification with its events, and how people read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::base::ids::{new_id, stable_id};
use crate::model::alert::AlertEvent;
use crate::model::severity::Severity;
use crate::server::control::notify::outbox::NotificationRow;

/// What a notification says of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They fire.
    Firing,
    /// They are over.
    Resolved,
    /// Nothing happened: someone tries the channel.
    Test,
}

impl Kind {
    /// The name in the database, in bodies and for `{{status}}`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }

    /// The kind with this name; firing for any other.
    pub fn from_name(name: &str) -> Self {
        [Self::Resolved, Self::Test]
            .into_iter()
            .find(|kind| kind.name() == name)
            .unwrap_or(Self::Firing)
    }
}

/// One event of a notification. Also the row that waits in the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of model::alert::AlertEvent, times in Unix ms")]
pub struct Item {
    pub id: String,
    pub rule_id: String,
    pub rule_name: String,
    pub agent_id: String,
    pub metric_name: String,
    pub severity: Severity,
    pub message: String,
    pub labels: BTreeMap<String, String>,
    /// None where it is no finite number, which JSON does not have.
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub timestamp_ms: i64,
    pub predicted_breach_ms: Option<i64>,
    pub first_triggered_at_ms: i64,
}

impl From<&AlertEvent> for Item {
    fn from(event: &AlertEvent) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            id: event.id.clone(),
            rule_id: event.rule_id.clone(),
            rule_name: event.rule_name.clone(),
            agent_id: event.agent_id.clone(),
            metric_name: event.metric_name.clone(),
            severity: event.severity,
            message: event.message.clone(),
            labels: event.labels.to_map(),
            value: finite(event.value),
            threshold: finite(event.threshold),
            timestamp_ms: event.timestamp_ms,
            predicted_breach_ms: event.predicted_breach_ms,
            first_triggered_at_ms: event.first_triggered_at_ms,
        }
    }
}

/// What one channel is told at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The same for all channels and all attempts, so that a receiver can tell a repeat.
    pub id: String,
    /// What is said of the events.
    pub kind: Kind,
    /// The severity of all of them.
    pub severity: Severity,
    /// The rule of all of them.
    pub rule_id: String,
    /// Its name.
    pub rule_name: String,
    /// The events, oldest first; never empty.
    pub items: Vec<Item>,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
}

/// How a text is marked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Not at all.
    Plain,
    /// The little Markdown that chat robots take.
    Markdown,
}

impl Notification {
    /// A stored notification; `None` when its events can't be read or there are none.
    pub fn read(row: &NotificationRow) -> Option<Self> {
        let items: Vec<Item> = serde_json::from_str(&row.events).ok()?;
        (!items.is_empty()).then(|| Self {
            id: row.id.clone(),
            kind: Kind::from_name(&row.kind),
            severity: row.severity.parse().unwrap_or(Severity::Critical),
            rule_id: row.rule_id.clone(),
            rule_name: row.rule_name.clone(),
            items,
            created_ms: row.created_ms,
        })
    }

    /// The message that `test` sends.
    pub fn test(now_ms: i64, channel: &str) -> Self {
        let item = Item {
            id: "test".to_owned(),
            rule_id: "test".to_owned(),
            rule_name: "Test message".to_owned(),
            agent_id: "oxmon-server".to_owned(),
            metric_name: "test.message".to_owned(),
            severity: Severity::Info,
            message: format!("A test of the channel \"{channel}\". Nothing is wrong."),
            labels: BTreeMap::new(),
            value: Some(1.0),
            threshold: Some(0.0),
            timestamp_ms: now_ms,
            predicted_breach_ms: None,
            first_triggered_at_ms: now_ms,
        };
        Self {
            id: new_id(),
            kind: Kind::Test,
            severity: Severity::Info,
            rule_id: item.rule_id.clone(),
            rule_name: item.rule_name.clone(),
            items: vec![item],
            created_ms: now_ms,
        }
    }

    /// One line: `[CRITICAL] Disk full: web-1`, or `[CRITICAL] Disk full: 12 alerts`.
    pub fn title(&self) -> String {
        let tag = match self.kind {
            Kind::Firing => self.severity.name().to_uppercase(),
            Kind::Resolved => "RESOLVED".to_owned(),
            Kind::Test => "TEST".to_owned(),
        };
        let whom = match self.items.as_slice() {
            [one] => one_line(&one.agent_id),
            many => format!("{} alerts", many.len()),
        };
        format!("[{tag}] {}: {whom}", one_line(&self.rule_name))
    }

    /// One sentence: the event's own, or how many there are and of which agents.
    pub fn summary(&self) -> String {
        if let [one] = self.items.as_slice() {
            return one.message.clone();
        }
        let mut agents: Vec<&str> = self.items.iter().map(|item| item.agent_id.as_str()).collect();
        agents.sort_unstable();
        agents.dedup();
        let count = agents.len();
        let shown = agents.iter().take(AGENTS_SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = count.saturating_sub(AGENTS_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} alerts of {} on {shown}{more}", self.items.len(), self.rule_name)
    }

    /// The title's details: a line for each event, as many as fit into `bytes_max` bytes, and then
    /// how many more there are. The whole text never has more bytes than that.
    pub fn lines(&self, markup: Markup, zone: &TimeZone, bytes_max: usize) -> String {
        let mut text = String::new();
        for (index, item) in self.items.iter().enumerate() {
            let mut line = item.line(self.kind, zone);
            if markup == Markup::Markdown {
                line = plain_in_markdown(&line);
            }
            line = if self.items.len() > 1 { format!("- {line}\n") } else { format!("{line}\n") };
            let rest = self.items.len() - index - 1;
            let room = if rest > 0 { MORE_BYTES } else { 0 };
            if text.len() + line.len() + room > bytes_max {
                let more = format!("… and {} more\n", rest + 1);
                if index == 0 {
                    let keep = bytes_max.saturating_sub(room + 4);
                    text = format!("{}…\n", cut(&line, keep));
                    if rest > 0 {
                        text.push_str(&format!("… and {rest} more\n"));
                    }
                } else {
                    text.push_str(&more);
                }
                break;
            }
            text.push_str(&line);
        }
        text
    }
}

/// Agents that a summary names before it counts the rest.
const AGENTS_SHOWN: usize = 5;
/// Bytes of `… and 1000000 more` with its line's end, rounded up.
const MORE_BYTES: usize = 32;

impl Item {
    /// The alert that the event is of: rule, agent, metric and labels. Severity is no part of it:
    /// an alert that grew worse is still the same one when it is over.
    pub fn key(&self) -> String {
        let labels = serde_json::to_string(&self.labels).unwrap_or_default();
        stable_id(&[&self.rule_id, &self.agent_id, &self.metric_name, &labels])
    }

    /// `disk.used_percent{mount="/"}` of the event.
    pub fn series(&self) -> String {
        if self.labels.is_empty() {
            return self.metric_name.clone();
        }
        let labels: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{}{{{}}}", self.metric_name, labels.join(","))
    }

    fn line(&self, kind: Kind, zone: &TimeZone) -> String {
        let times = match kind {
            Kind::Firing | Kind::Test => {
                format!("since {}", local_time(self.first_triggered_at_ms, zone))
            }
            Kind::Resolved => format!(
                "{} to {}",
                local_time(self.first_triggered_at_ms, zone),
                local_time(self.timestamp_ms, zone)
            ),
        };
        one_line(&format!("{} {}: {} ({times})", self.agent_id, self.series(), self.message))
    }
}

/// A time for people, in the server's zone: `2026-02-09 16:30:00 +08:00`.
pub fn local_time(ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        Err(_) => crate::base::clock::rfc3339(ms),
    }
}

/// At most `bytes_max` bytes of `text`, cut between characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text without line breaks or other control characters.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What comes from hosts must not become links, images or tags of a chat's Markdown. Robots know
/// no escapes, so the sequences are broken up.
fn plain_in_markdown(text: &str) -> String {
    text.replace("](", "] (").replace('<', "‹").replace('>', "›").replace('`', "'")
}

/// Text inside HTML.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    pub fn item(agent: &str, message: &str) -> Item {
        Item {
            id: format!("event-{agent}"),
            rule_id: "rule-1".to_owned(),
            rule_name: "Disk full".to_owned(),
            agent_id: agent.to_owned(),
            metric_name: "disk.used_percent".to_owned(),
            severity: Severity::Critical,
            message: message.to_owned(),
            labels: BTreeMap::from([("mount".to_owned(), "/".to_owned())]),
            value: Some(96.5),
            threshold: Some(90.0),
            timestamp_ms: 1_770_625_800_000,
            predicted_breach_ms: None,
            first_triggered_at_ms: 1_770_625_740_000,
        }
    }

    pub fn notification(items: Vec<Item>) -> Notification {
        Notification {
            id: "n-1".to_owned(),
            kind: Kind::Firing,
            severity: Severity::Critical,
            rule_id: "rule-1".to_owned(),
            rule_name: "Disk full".to_owned(),
            items,
            created_ms: 1_770_625_800_000,
        }
    }

    #[test]
    fn one_event_is_named_and_many_are_counted() {
        let one = notification(vec![item("web-1", "96.5 % of / is used")]);
        assert_eq!(one.title(), "[CRITICAL] Disk full: web-1");
        assert_eq!(one.summary(), "96.5 % of / is used");
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(
            one.lines(Markup::Plain, &zone, 1_000),
            "web-1 disk.used_percent{mount=\"/\"}: 96.5 % of / is used \
             (since 2026-02-09 16:29:00 +08:00)\n"
        );
        let items = (0..8).map(|index| item(&format!("web-{index}"), "full")).collect();
        let many = notification(items);
        assert_eq!(many.title(), "[CRITICAL] Disk full: 8 alerts");
        assert_eq!(
            many.summary(),
            "8 alerts of Disk full on web-0, web-1, web-2, web-3, web-4 and 3 more"
        );
    }

    #[test]
    fn a_text_never_grows_over_its_limit() {
        let long = "磁盘已满".repeat(200);
        for count in [1, 2, 50] {
            let items = (0..count).map(|index| item(&format!("主机-{index}"), &long)).collect();
            let many = notification(items);
            for limit in [100, 333, 2_048, 4_000] {
                let text = many.lines(Markup::Markdown, &TimeZone::UTC, limit);
                assert!(text.len() <= limit, "{} > {limit}", text.len());
                assert!(count == 1 || text.contains("more"), "{text}");
            }
        }
    }

    #[test]
    fn what_hosts_send_is_no_markup() {
        let mut bad = item("web-1", "see [here](http://evil) <font>\nnext");
        bad.labels.clear();
        let text = notification(vec![bad]).lines(Markup::Markdown, &TimeZone::UTC, 1_000);
        assert!(text.contains("[here] (http://evil) ‹font› next"), "{text}");
        assert_eq!(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
