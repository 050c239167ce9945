//! What people read of a notification: its title, a sentence for each alert, and a link, in the
//! language and the time zone of the reader.

use jiff::tz::TimeZone;

use crate::model::alert::{AlertEvent, Cause, End, Facts, Relation};
use crate::model::severity::Severity;
use crate::server::alert::evaluate::promql::QUERY_AGENT;
use crate::server::alert::rule::CERT_AGENT;
use crate::server::notify::lang::{self, Words, fill, find};
use crate::server::notify::message::{
    Kind, Notification, TITLE_BYTES_MAX, about, cut, domain, escaped, local_time, one_line,
};
use crate::server::notify::processes;
use crate::server::notify::units::{amount, amounts, days, span, unit};

/// The language, the zone and the address of the server for one channel's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice<'a> {
    /// The language.
    pub words: &'static Words,
    /// The zone in which people read times.
    pub zone: &'a TimeZone,
    /// Where people reach the dashboard.
    pub public_url: Option<&'a str>,
}

/// Hosts that a title names before it counts the rest.
const HOSTS_SHOWN: usize = 3;
/// Labels that a sentence shows, and bytes of each.
const LABELS_SHOWN: usize = 3;
const LABEL_BYTES: usize = 64;
/// Bytes of `… and 1000000 more` with its line's end, rounded up.
const MORE_BYTES: usize = 48;

impl Voice<'_> {
    /// One line: what happened, by which rule, to which host and what of it.
    pub(crate) fn title(&self, notification: &Notification) -> String {
        let words = self.words;
        let tag = match (notification.kind, notification.severity) {
            (Kind::Resolved, _) => words.resolved,
            (Kind::Test, _) => words.test,
            (_, Severity::Critical) => words.critical,
            (_, Severity::Warning) => words.warning,
            (_, Severity::Info) => words.info,
        };
        let what = match notification.items.as_slice() {
            [one] => about(one),
            many => {
                let (count, hosts) = (many.len().to_string(), self.hosts(many));
                fill(words.many, &[("count", &count), ("hosts", &hosts)])
            }
        };
        let rule = one_line(&notification.rule_name);
        let title = fill(words.title, &[("tag", tag), ("rule", &rule), ("what", &what)]);
        // A query over all hosts may have nothing but the rule's name.
        let title =
            if what.is_empty() { title.trim_end_matches([':', '：', ' ']) } else { &title };
        cut(title, TITLE_BYTES_MAX).to_owned()
    }

    fn hosts(&self, items: &[AlertEvent]) -> String {
        let mut hosts: Vec<String> = items
            .iter()
            .map(|item| domain(item).unwrap_or_else(|| item.agent_id.clone()))
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        let shown: Vec<&str> = hosts.iter().take(HOSTS_SHOWN).map(String::as_str).collect();
        let shown = one_line(&shown.join(self.words.list));
        match hosts.len().saturating_sub(HOSTS_SHOWN) {
            0 => shown,
            more => {
                let more = more.to_string();
                fill(self.words.and_more, &[("hosts", &shown), ("count", &more)])
            }
        }
    }

    /// A sentence for each alert, as many as fit into `bytes_max` bytes, and then how many more
    /// there are. `escape` makes each safe for where it goes.
    pub(crate) fn text(
        &self,
        notification: &Notification,
        escape: fn(&str) -> String,
        bytes_max: usize,
    ) -> String {
        let mut text = String::new();
        let count = notification.items.len();
        let mark = if count > 1 { "- " } else { "" };
        for (index, item) in notification.items.iter().enumerate() {
            let plain = self.sentence(item, notification.kind);
            let line = format!("{mark}{}\n", escape(&plain));
            let rest = count - index - 1;
            let room = if rest > 0 { MORE_BYTES } else { 0 };
            if text.len() + line.len() + room > bytes_max {
                let mut left = rest + 1;
                if index == 0 {
                    let keep = bytes_max.saturating_sub(room + mark.len() + "…\n".len());
                    text = format!("{mark}{}…\n", escaped(&plain, escape, keep));
                    left = rest;
                }
                if left > 0 {
                    let left = left.to_string();
                    text.push_str(&fill(self.words.more, &[("count", &left)]));
                }
                break;
            }
            text.push_str(&line);
        }
        text.trim_end().to_owned()
    }

    /// Where an alert is shown.
    pub(crate) fn event_link(&self, event: &AlertEvent) -> Option<String> {
        let base = self.public_url?.trim_end_matches('/');
        Some(format!("{base}/#/alert/{}", event.id))
    }

    /// Where a notification's alerts are shown, and the words of a link to there.
    pub(crate) fn link(&self, notification: &Notification) -> Option<(String, &'static str)> {
        let base = self.public_url?.trim_end_matches('/');
        match (notification.kind, notification.items.as_slice()) {
            (Kind::Firing | Kind::Resolved, [one]) => {
                Some((self.event_link(one)?, self.words.open_alert))
            }
            _ => Some((format!("{base}/#/alerts"), self.words.open_alerts)),
        }
    }

    /// One sentence: who, what, how much, since when, and why.
    pub(crate) fn sentence(&self, event: &AlertEvent, kind: Kind) -> String {
        let sentence = match (&event.facts, kind) {
            (Some(facts), Kind::Resolved) => self.resolved(event, facts),
            (Some(facts), _) => {
                let mut text = self.firing(event, &facts.cause);
                if let Some(process) = &facts.process {
                    text.push_str(&processes::most(process, self.words));
                }
                text
            }
            (None, kind) => {
                let words = self.words;
                let over = kind == Kind::Resolved;
                let template = if over { words.plain_ended } else { words.plain };
                self.filled(template, event, &[("message", &event.message)])
            }
        };
        one_line(&sentence)
    }

    /// The template with what every sentence may name, and `more`.
    fn filled(&self, template: &str, event: &AlertEvent, more: &[(&str, &str)]) -> String {
        let (subject, metric) = (self.subject(event), self.metric(event));
        let since = local_time(event.first_triggered_at_ms, self.zone);
        let until = local_time(event.timestamp_ms, self.zone);
        let lasted_ms = event.timestamp_ms.saturating_sub(event.first_triggered_at_ms);
        let lasted = span(lasted_ms, self.words);
        let domain = domain(event).unwrap_or_else(|| event.agent_id.clone());
        let (value, threshold) =
            amounts(event.value, event.threshold, unit(&event.metric_name), self.words);
        let common = [
            ("subject", subject.as_str()),
            ("metric", &metric),
            ("host", &event.agent_id),
            ("domain", &domain),
            ("since", &since),
            ("until", &until),
            ("span", &lasted),
            ("value", &value),
            ("threshold", &threshold),
        ];
        // What a caller names goes before what every sentence has.
        let values: Vec<(&str, &str)> = more.iter().chain(&common).copied().collect();
        fill(template, &values)
    }

    fn firing(&self, event: &AlertEvent, cause: &Cause) -> String {
        let words = self.words;
        let cause = own_cause(event, cause);
        let lasts = event.timestamp_ms - event.first_triggered_at_ms >= 1_000;
        match cause {
            Cause::Threshold { relation } => {
                let template = if lasts { words.breach_for } else { words.breach };
                self.filled(template, event, &[("relation", self.relation(*relation))])
            }
            Cause::Change { .. } => self.change(event, cause),
            Cause::Trend => match event.predicted_breach_ms {
                None => self.filled(words.reached, event, &[]),
                Some(when) => {
                    // To the second: a forecast is not better than that.
                    let when = local_time(when - when.rem_euclid(1_000), self.zone);
                    self.filled(words.will_reach, event, &[("when", &when)])
                }
            },
            Cause::CertExpiry => {
                let left = days(event.value.abs(), words);
                let bound = days(event.threshold, words);
                let template = if event.value < 0.0 { words.expired } else { words.expires };
                self.filled(template, event, &[("days", &left), ("threshold", &bound)])
            }
            Cause::CertInvalid { reason } => {
                let reason = lang::fault::worded(reason, words, self.zone);
                self.filled(words.invalid, event, &[("reason", &reason)])
            }
            Cause::NoData { clock_ahead_ms } => {
                let whole = event.metric_name == "*";
                let template = if whole { words.not_reporting } else { words.metric_not_reported };
                // Seconds fit an i64 by far.
                let silent = span((event.value * 1_000.0) as i64, words);
                let bound = span((event.threshold * 1_000.0) as i64, words);
                let mut text =
                    self.filled(template, event, &[("value", &silent), ("threshold", &bound)]);
                if let Some(ahead_ms) = clock_ahead_ms {
                    let clock = if *ahead_ms > 0 { words.clock_ahead } else { words.clock_behind };
                    let by = span(ahead_ms.saturating_abs(), words);
                    text.push_str(&fill(clock, &[("span", &by)]));
                }
                text
            }
            Cause::Query { text: Some(text), .. } => {
                self.filled(words.own_message, event, &[("text", text)])
            }
            Cause::Query { expr, text: None } => {
                let template = if lasts { words.matches_for } else { words.matches };
                self.filled(template, event, &[("expr", expr)])
            }
            Cause::Test { channel } => self.filled(words.trial, event, &[("channel", channel)]),
        }
    }

    fn change(&self, event: &AlertEvent, cause: &Cause) -> String {
        let Cause::Change { from, window_ms } = cause else { return String::new() };
        let change = (event.value - from) / from.abs() * 100.0;
        let template = if change < 0.0 { self.words.fell } else { self.words.rose };
        let (change, bound) = amounts(change.abs(), event.threshold, "%", self.words);
        let (value, from) = amounts(event.value, *from, unit(&event.metric_name), self.words);
        let window = span(*window_ms, self.words);
        let values = [
            ("change", change.as_str()),
            ("threshold", &bound),
            ("value", &value),
            ("from", &from),
            ("window", &window),
        ];
        self.filled(template, event, &values)
    }

    fn resolved(&self, event: &AlertEvent, facts: &Facts) -> String {
        let words = self.words;
        match &facts.end {
            Some(End::Because(reason)) => {
                let reason = find(words.reasons, reason).unwrap_or(reason);
                return self.filled(words.ended, event, &[("reason", reason)]);
            }
            Some(End::By(who)) => return self.filled(words.resolved_by, event, &[("who", who)]),
            None => {}
        }
        match own_cause(event, &facts.cause) {
            Cause::Threshold { relation } => {
                self.filled(words.back, event, &[("relation", self.relation(*relation))])
            }
            Cause::Change { window_ms, .. } => {
                let value = amount(event.value, unit(&event.metric_name), words);
                let bound = amount(event.threshold, "%", words);
                let window = span(*window_ms, words);
                let values =
                    [("value", value.as_str()), ("threshold", &bound), ("window", &window)];
                self.filled(words.changes_less, event, &values)
            }
            Cause::Trend => self.filled(words.no_longer_on_its_way, event, &[]),
            Cause::CertExpiry => {
                self.filled(words.renewed, event, &[("days", &days(event.value, words))])
            }
            Cause::CertInvalid { .. } => self.filled(words.valid_again, event, &[]),
            Cause::NoData { .. } if event.metric_name == "*" => {
                self.filled(words.reports_again, event, &[])
            }
            Cause::NoData { .. } => self.filled(words.metric_reported_again, event, &[]),
            Cause::Query { expr, .. } => {
                self.filled(words.no_longer_matches, event, &[("expr", expr)])
            }
            Cause::Test { channel } => self.filled(words.trial, event, &[("channel", channel)]),
        }
    }

    fn relation(&self, relation: Relation) -> &'static str {
        match relation {
            Relation::Over => self.words.over,
            Relation::AtLeast => self.words.at_least,
            Relation::Under => self.words.under,
            Relation::AtMost => self.words.at_most,
        }
    }

    /// What the metric is called.
    fn metric(&self, event: &AlertEvent) -> String {
        let name = find(self.words.metrics, &event.metric_name).unwrap_or(&event.metric_name);
        let gap = |letter: Option<char>| {
            if letter.is_some_and(|letter| letter.is_ascii()) { self.words.gap } else { "" }
        };
        format!("{}{name}{}", gap(name.chars().next()), gap(name.chars().last()))
    }

    /// A name with what parts it from the word behind it.
    fn parted(&self, name: &str) -> String {
        let gap = if name.ends_with(|c: char| c.is_ascii()) { self.words.gap } else { "" };
        format!("{name}{gap}")
    }

    /// What the alert is about: `disk usage of / on web-1`, `the certificate of example.com`.
    fn subject(&self, event: &AlertEvent) -> String {
        let words = self.words;
        if let Some(domain) = domain(event) {
            if [DAYS_LEFT, "certificate.is_valid"].contains(&event.metric_name.as_str()) {
                return fill(words.subject_domain, &[("domain", &domain)]);
            }
            let metric = self.metric(event);
            return fill(words.subject, &[("metric", &metric), ("host", &domain)]);
        }
        let labels: Vec<&str> = event
            .labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .take(LABELS_SHOWN)
            .map(|(_, value)| cut(value, LABEL_BYTES))
            .collect();
        let labels = labels.join(words.list);
        let host = event.agent_id.as_str();
        let whole = event.metric_name == "*";
        match (host == CERT_AGENT || host == QUERY_AGENT, whole, labels.is_empty()) {
            // Of a query over all hosts: what its result is called, or the rule.
            (true, true, true) => return self.parted(&event.rule_name),
            (true, true, false) => return self.parted(&labels),
            (true, false, _) => return self.parted(&event.series()),
            (false, true, true) => return self.parted(host),
            (false, true, false) => return self.parted(&format!("{host} {labels}")),
            (false, false, _) => {}
        }
        let template = if labels.is_empty() { words.subject } else { words.subject_labels };
        let metric = self.metric(event);
        fill(template, &[("metric", &metric), ("labels", &labels), ("host", host)])
    }
}

/// The metric of the days that a certificate has left.
const DAYS_LEFT: &str = "certificate.days_until_expiry";

/// The cause, as it is worded: days that a certificate has left are no mere number, whichever rule
/// compares them.
fn own_cause<'a>(event: &AlertEvent, cause: &'a Cause) -> &'a Cause {
    let is_threshold = matches!(cause, Cause::Threshold { .. });
    if is_threshold && event.metric_name == DAYS_LEFT && domain(event).is_some() {
        return &Cause::CertExpiry;
    }
    cause
}

#[cfg(test)]
mod tests;
