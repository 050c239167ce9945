//! What is notified: a notification with its events, and how people read it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::ids::new_id;
use crate::model::alert::{AlertEvent, AlertStatus, Cause, Facts};
use crate::model::series::Labels;
use crate::model::severity::Severity;
use crate::server::alert::evaluate::promql::QUERY_AGENT;
use crate::server::alert::rule::CERT_AGENT;
use crate::server::control::notify::outbox::NotificationRow;

/// What a notification says of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They fire.
    Firing,
    /// They have ended.
    Resolved,
    /// Nothing happened: someone tries the channel.
    Test,
}

impl Kind {
    /// The name in the database, in bodies and for `{{status}}`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }

    /// The kind with this name; firing for any other.
    pub(crate) fn from_name(name: &str) -> Self {
        [Self::Resolved, Self::Test]
            .into_iter()
            .find(|kind| kind.name() == name)
            .unwrap_or(Self::Firing)
    }
}

/// What one channel is notified at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notification {
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
    pub items: Vec<AlertEvent>,
    /// When it was made, Unix milliseconds.
    pub created_ms: i64,
}

impl Notification {
    /// A stored notification; `None` when its events can't be read or there are none.
    pub(crate) fn read(row: &NotificationRow) -> Option<Self> {
        let items: Vec<AlertEvent> = serde_json::from_str(&row.events).ok()?;
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
    pub(crate) fn test(now_ms: i64, channel: &str) -> Self {
        let item = AlertEvent {
            id: "test".to_owned(),
            rule_id: TEST_RULE.to_owned(),
            rule_name: "Test message".to_owned(),
            agent_id: "oxmon-server".to_owned(),
            metric_name: "test.message".to_owned(),
            severity: Severity::Info,
            message: format!("A test of the channel \"{channel}\". Nothing is wrong."),
            labels: Labels::none(),
            value: 1.0,
            threshold: 0.0,
            timestamp_ms: now_ms,
            predicted_breach_ms: None,
            first_triggered_at_ms: now_ms,
            status: AlertStatus::Firing,
            resolved_at_ms: None,
            facts: Some(Box::new(Facts {
                cause: Cause::Test { channel: channel.to_owned() },
                end: None,
                process: None,
            })),
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
    pub(crate) fn title(&self) -> String {
        let tag = match self.kind {
            Kind::Firing => self.severity.name().to_uppercase(),
            Kind::Resolved => "RESOLVED".to_owned(),
            Kind::Test => "TEST".to_owned(),
        };
        let whom = match self.items.as_slice() {
            [one] => about(one),
            many => format!("{} alerts", many.len()),
        };
        let title = format!("[{tag}] {}: {whom}", one_line(&self.rule_name));
        cut(title.trim_end_matches(": "), TITLE_BYTES_MAX).to_owned()
    }

    /// So many of its events from one on, as a notification of its own.
    pub(crate) fn part(&self, from: usize, count: usize) -> Self {
        let items: Vec<AlertEvent> = self.items.iter().skip(from).take(count).cloned().collect();
        // A receiver tells a repeat by the id, so parts have their own.
        let whole = items.len() == self.items.len();
        let id = if whole { self.id.clone() } else { format!("{}-{from}", self.id) };
        Self {
            id,
            items,
            rule_id: self.rule_id.clone(),
            rule_name: self.rule_name.clone(),
            ..*self
        }
    }

    /// One sentence: the event's own, or how many there are and of which agents.
    pub(crate) fn summary(&self) -> String {
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
}

/// As much of a text as has at most `bytes_max` bytes once it is escaped: an entity or an escape is
/// never cut in its middle.
pub(crate) fn escaped(text: &str, escape: fn(&str) -> String, bytes_max: usize) -> String {
    let mut kept = cut(text, bytes_max);
    loop {
        let out = escape(kept);
        if out.len() <= bytes_max || kept.is_empty() {
            return out;
        }
        let excess = out.len() - bytes_max;
        kept = cut(kept, kept.len() - excess.div_ceil(ESCAPE_BYTES_MAX).min(kept.len()));
    }
}

/// Bytes that an escape makes of one at the most: `&quot;`.
const ESCAPE_BYTES_MAX: usize = 6;
/// Bytes of a title: a mail's line has 998 at the most (RFC 5322), also when it is encoded.
pub(crate) const TITLE_BYTES_MAX: usize = 240;
/// Agents that a summary names before it counts the rest.
const AGENTS_SHOWN: usize = 5;
/// The domain of a certificate's alert, with its port where that is not the usual one.
pub(crate) fn domain(event: &AlertEvent) -> Option<String> {
    let domain = event.labels.get("domain").filter(|_| event.agent_id == CERT_AGENT)?;
    let port = event.labels.get("port").map(|port| format!(":{port}"));
    Some(one_line(&format!("{domain}{}", port.unwrap_or_default())))
}

/// What an event is about, for a title: `web-1`, `web-1 /data`, or the domain of a certificate.
pub(crate) fn about(event: &AlertEvent) -> String {
    if let Some(domain) = domain(event) {
        return domain;
    }
    let labels = event.labels.iter().filter(|(_, value)| !value.is_empty()).take(TITLE_LABELS);
    let labels = labels.map(|(_, value)| format!(" {}", cut(value, TITLE_LABEL_BYTES)));
    // The result of a query over all hosts is of none of them.
    let host = if event.agent_id == QUERY_AGENT { "" } else { &event.agent_id };
    one_line(format!("{host}{}", labels.collect::<String>()).trim_start())
}

/// A line of a chat's Markdown, of which nothing is markup: neither in it, as
/// [`plain_in_markdown`] has it, nor at its beginning, as `- ` of a list or `---` of a rule.
pub(crate) fn plain_line_in_markdown(text: &str) -> String {
    let line = &plain_in_markdown(text);
    match line.chars().next() {
        Some('-') => format!("－{}", &line[1..]),
        Some('+') => format!("＋{}", &line[1..]),
        Some('=') => format!("＝{}", &line[1..]),
        _ => line.clone(),
    }
}

/// Labels that a title shows, and bytes of each.
const TITLE_LABELS: usize = 3;
const TITLE_LABEL_BYTES: usize = 64;

/// What an alert is called by receivers that hold it until it is resolved: the same for its firing
/// and its end, and different for every test.
pub(crate) fn dedup_key(event: &AlertEvent) -> String {
    if event.rule_id == TEST_RULE {
        return format!("oxmon-test-{}", event.timestamp_ms);
    }
    event.alert_key()
}

/// The rule's id in a test message.
const TEST_RULE: &str = "test";

/// A time for people, in the server's zone: `2026-02-09 16:30:00 +08:00`.
pub(crate) fn local_time(ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        Err(_) => crate::base::clock::rfc3339(ms),
    }
}

/// At most `bytes_max` bytes of `text`, cut between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The text without line breaks, other control characters, and those that turn its direction.
pub(crate) fn one_line(text: &str) -> String {
    let plain = |c: char| match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' => ' ',
        '\u{2066}'..='\u{2069}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// What comes from hosts must not become links, images, mentions, headings or tags of a chat's
/// Markdown. Robots know no escapes, so that what would be markup is replaced by letters that look
/// alike, and sequences are broken up.
pub(crate) fn plain_in_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        let after = letters.peek().copied().unwrap_or(' ');
        match c {
            '<' => out.push('‹'),
            '>' => out.push('›'),
            '`' => out.push('\''),
            '@' => out.push('＠'),
            '#' => out.push('＃'),
            '*' => out.push('＊'),
            '~' => out.push('～'),
            // Within a word it is none: `used_percent`.
            '_' if !before.is_alphanumeric() || !after.is_alphanumeric() => out.push('＿'),
            // Of a link, a reference or an image: `](`, `][`, `]:`, `![`.
            '(' | '[' | ':' if before == ']' => out.extend([' ', c]),
            '[' if before == '!' => out.extend([' ', c]),
            // An address that a chat would make a link.
            '/' if before == ':' && after == '/' => out.extend([' ', c]),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Text inside HTML.
pub(crate) fn escape_html(text: &str) -> String {
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
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use crate::model::alert::Relation;

    pub(crate) fn item(agent: &str, message: &str) -> AlertEvent {
        AlertEvent {
            id: format!("event-{agent}"),
            rule_id: "rule-1".to_owned(),
            rule_name: "Disk full".to_owned(),
            agent_id: agent.to_owned(),
            metric_name: "disk.used_percent".to_owned(),
            severity: Severity::Critical,
            message: message.to_owned(),
            labels: Labels::one("mount", "/"),
            value: 96.5,
            threshold: 90.0,
            timestamp_ms: 1_770_625_800_000,
            predicted_breach_ms: None,
            first_triggered_at_ms: 1_770_625_740_000,
            status: AlertStatus::Firing,
            resolved_at_ms: None,
            facts: Some(Box::new(Facts {
                cause: Cause::Threshold { relation: Relation::Over },
                end: None,
                process: None,
            })),
        }
    }

    pub(crate) fn notification(items: Vec<AlertEvent>) -> Notification {
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
        assert_eq!(one.title(), "[CRITICAL] Disk full: web-1 /");
        assert_eq!(one.summary(), "96.5 % of / is used");
        let items = (0..8).map(|index| item(&format!("web-{index}"), "full")).collect();
        let many = notification(items);
        assert_eq!(many.title(), "[CRITICAL] Disk full: 8 alerts");
        assert_eq!(
            many.summary(),
            "8 alerts of Disk full on web-0, web-1, web-2, web-3, web-4 and 3 more"
        );
    }

    #[test]
    fn what_hosts_send_is_no_markup() {
        assert_eq!(
            plain_in_markdown("see [here](http://evil) <font>"),
            "see [here] (http: //evil) ‹font›"
        );
        for (sent, shown) in [
            ("@all <@everyone>", "＠all ‹＠everyone›"),
            ("![x](https://evil/x.png)", "! [x] (https: //evil/x.png)"),
            ("[x][1] [1]: //evil", "[x] [1] [1] : //evil"),
            ("# big **bold** _slanted_ ~~gone~~", "＃ big ＊＊bold＊＊ ＿slanted＿ ～～gone～～"),
            ("disk.used_percent{mount=\"/\"}", "disk.used_percent{mount=\"/\"}"),
        ] {
            assert_eq!(plain_in_markdown(sent), shown);
        }
        assert_eq!(plain_line_in_markdown("- a"), "－ a");
        assert_eq!(one_line("a\u{202e}b\u{2028}c\td"), "a b c d");
        assert_eq!(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
