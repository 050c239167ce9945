//! `oxmon-server import-rules CONFIG RULES.yml`: `promql` rules of a rule file of Prometheus.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::base::cli::print;
use crate::base::clock::{Clock as _, SECOND_MS, SystemClock};
use crate::base::configfile::Source;
use crate::base::exit::{Exit, Fatal};
use crate::base::ids::new_id;
use crate::server::alert::load_config;
use crate::server::alert::manage::to_row;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::control::alerts::RuleRow;
use crate::server::promql::parse::parse_duration;
use crate::server::seed::not_made;
use crate::server::seed::rules::write_rows;

/// Prometheus' own interval where neither rule nor group names one.
const INTERVAL_SECS: i64 = 60;

/// What a rule of a file became.
#[derive(Debug)]
struct Taken {
    row: RuleRow,
    line: usize,
    /// What of it was left out.
    notes: Vec<String>,
}

/// The rules of a file.
#[derive(Debug, Default)]
struct Checked {
    taken: Vec<Taken>,
    /// Rules that can't be taken, each with its line, and why.
    wrong: Vec<String>,
}

/// Runs the command: writes the alerting rules that can be taken in one transaction, and says of
/// each rule what became of it. A running server takes them at its next reload or start. With
/// `dry_run` nothing is written.
///
/// # Errors
///
/// Names file and line of every rule that can't be taken; the others are made. A file that is not
/// a rule file changes nothing.
pub(crate) fn run(config_file: &Path, rules: &Path, dry_run: bool) -> Result<(), Fatal> {
    let config = load_config(config_file)?;
    let source = Source::read(rules)?;
    let name = rules.display().to_string();
    let now_secs = SystemClock.now_ms() / SECOND_MS;
    let checked = check(&name, source.text(), now_secs)
        .map_err(|why| Fatal::new(Exit::Config, format!("{name}:{why}")))?;
    for Taken { row, line, notes } in &checked.taken {
        for note in notes {
            print(&format!("{name}:{line}: rule `{}`: {note}\n", row.name));
        }
        if dry_run {
            print(&format!("{name}:{line}: would make rule `{}`\n", row.name));
        }
    }
    if !dry_run {
        let rows = checked.taken.into_iter().map(|taken| taken.row).collect();
        print(&write_rows(&config, config_file, rows)?);
    }
    not_made(rules, &checked.wrong)
}

/// The rules of a file's text.
///
/// # Errors
///
/// Line and reason where it is not a rule file at all.
fn check(file: &str, text: &str, now_secs: i64) -> Result<Checked, String> {
    let parsed: Value = yaml_serde::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line());
        format!("{line}: {error}")
    })?;
    let groups = parsed.get("groups").and_then(Value::as_array);
    let groups = groups.ok_or("1: a rule file has a list of `groups`")?;
    let mut lines = Lines::of(text);
    let mut names = HashSet::new();
    let mut checked = Checked::default();
    for group in groups {
        let Some(rules) = group.get("rules").and_then(Value::as_array) else { continue };
        for rule in rules {
            let (kind, name) = match (words(rule, "alert"), words(rule, "record")) {
                (Some(name), _) => ("alert", name),
                (None, Some(name)) => ("record", name),
                _ => ("alert", String::new()),
            };
            let line = lines.next(kind, &name);
            let made = match kind {
                "record" => Err("recording rules are not supported; write its expression into \
                                 the rules that use it"
                    .to_owned()),
                _ => made(group, rule, &name, &mut names, now_secs),
            };
            match made {
                Ok((row, notes)) => checked.taken.push(Taken { row, line, notes }),
                Err(why) => checked.wrong.push(format!("{file}:{line}: rule `{name}`: {why}")),
            }
        }
    }
    Ok(checked)
}

/// Where the rules of a file are: rules come in the order of their lines.
struct Lines<'a>(Vec<(usize, &'a str)>);

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines: Vec<(usize, &str)> =
            text.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
        lines.reverse();
        Self(lines)
    }

    /// The line of the next rule: the one that has its name.
    fn next(&mut self, kind: &str, name: &str) -> usize {
        let mut ahead = self.0.iter().rev();
        let found = ahead.position(|(_, line)| {
            let line = line.trim_start().trim_start_matches("- ").trim_start();
            let value = line.trim_start_matches(['"', '\'']).strip_prefix(kind);
            let value = value.map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
            value.is_some_and(|rest| rest.starts_with(':') && rest.contains(name))
        });
        match found {
            Some(at) => {
                self.0.truncate(self.0.len() - at);
                self.0.pop().map_or(1, |(line, _)| line)
            }
            None => self.0.last().map_or(1, |(line, _)| *line),
        }
    }
}

/// A scalar of a mapping as text.
fn words(map: &Value, name: &str) -> Option<String> {
    match map.get(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn made(
    group: &Value,
    rule: &Value,
    name: &str,
    names: &mut HashSet<String>,
    now_secs: i64,
) -> Result<(RuleRow, Vec<String>), String> {
    if name.is_empty() {
        return Err("has neither `alert` nor `record`".to_owned());
    }
    let mut notes = Vec::new();
    let mut config = Map::new();
    let expr = words(rule, "expr").ok_or("`expr` is missing")?;
    config.insert("expr".to_owned(), json!(expr));
    let interval = secs(group, "interval")?.unwrap_or(INTERVAL_SECS).max(1);
    config.insert("interval_secs".to_owned(), json!(interval));
    for (theirs, ours) in [("for", "duration_secs"), ("keep_firing_for", "keep_firing_secs")] {
        if let Some(secs) = secs(rule, theirs)?.filter(|secs| *secs > 0) {
            config.insert(ours.to_owned(), json!(secs));
        }
    }
    for key in ["limit", "query_offset", "partial_response_strategy"] {
        if group.get(key).is_some() {
            notes.push(format!("`{key}` of its group is left out"));
        }
    }
    let labels = labels(group, rule, &mut notes);
    let severity = severity(&labels, &mut notes);
    if !labels.is_empty() {
        config.insert("alert_labels".to_owned(), Value::Object(labels));
    }
    if let Some(message) = message(rule, &mut notes) {
        config.insert("message".to_owned(), json!(message));
    }
    let draft = json!({
        "name": unique(group, name, names), "rule_type": "promql", "severity": severity,
        "config_json": config,
    });
    let draft = draft.as_object().cloned().unwrap_or_default();
    let built = Draft::from_map(&draft)
        .and_then(|draft| Rule::build(new_id(), draft, Origin::Api, (now_secs, now_secs)));
    let built = built.map_err(|error| error.to_string())?;
    Ok((to_row(&built), notes))
}

/// The name of a rule: with its group's where another rule has it already.
fn unique(group: &Value, name: &str, names: &mut HashSet<String>) -> String {
    let group = words(group, "name").unwrap_or_default();
    let with_group = format!("{name} ({group})");
    let numbered = (2..).map(|number| format!("{name} ({group} {number})"));
    let mut tried = [name.to_owned(), with_group].into_iter().chain(numbered);
    tried.find(|name| names.insert(name.clone())).unwrap_or_default()
}

fn secs(map: &Value, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = words(map, name) else { return Ok(None) };
    let ms = parse_duration(&text).filter(|ms| *ms >= 0);
    let ms = ms.ok_or_else(|| format!("`{name}` is not a duration: {text}"))?;
    Ok(Some((ms + 999) / 1_000))
}

/// The labels of group and rule, the rule's before the group's.
fn labels(group: &Value, rule: &Value, notes: &mut Vec<String>) -> Map<String, Value> {
    let mut out = Map::new();
    for map in [group, rule].iter().filter_map(|of| of.get("labels")).filter_map(Value::as_object) {
        for name in map.keys() {
            match words(&Value::Object(map.clone()), name) {
                Some(value) => drop(out.insert(name.clone(), json!(value))),
                None => notes.push(format!("the label `{name}` is not a text and is left out")),
            }
        }
    }
    out
}

/// oxmon's severity for the one that the labels name, which stays among them where it is another
/// word.
fn severity(labels: &Map<String, Value>, notes: &mut Vec<String>) -> &'static str {
    let word = labels.get("severity").and_then(Value::as_str).unwrap_or("");
    match word.to_ascii_lowercase().as_str() {
        "critical" | "crit" | "page" | "error" | "emergency" | "fatal" | "disaster" | "high" => {
            "critical"
        }
        "warning" | "warn" | "ticket" | "average" | "medium" => "warning",
        "info" | "information" | "informational" | "notice" | "none" | "low" => "info",
        "" => "warning",
        _ => {
            notes.push(format!("the severity {word:?} counts as warning"));
            "warning"
        }
    }
}

/// The message: summary, description and runbook of the annotations.
fn message(rule: &Value, notes: &mut Vec<String>) -> Option<String> {
    let map = rule.get("annotations").and_then(Value::as_object)?;
    let part = |name: &str| words(&Value::Object(map.clone()), name);
    let texts = ["summary", "description", "message"].into_iter().filter_map(part);
    let mut texts: Vec<String> =
        texts.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
    texts.dedup();
    if let Some(url) = part("runbook_url") {
        texts.push(format!("({url})"));
    }
    let known = ["summary", "description", "message", "runbook_url"];
    for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
        notes.push(format!("the annotation `{name}` is left out"));
    }
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// What a file's text gives, in a word, for the fuzzing harness.
#[cfg(test)]
pub(crate) fn outcome(text: &str) -> String {
    match check("f", text, 1) {
        Ok(checked) => format!("{} taken, {:?}", checked.taken.len(), checked.wrong.first()),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests;
