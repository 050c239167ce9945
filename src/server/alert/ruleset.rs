//! The rules in force: those of the file and those of the API, as one list.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::configfile::{ConfigError, Source};
use crate::base::ids::stable_id;
use crate::base::limits::RULES_MAX;
use crate::server::alert::fields::FieldError;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::config::ServerConfig;

/// All rules, those of the file first. Never changed: a change makes a new one.
#[derive(Debug, Default, Clone)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
}

impl RuleSet {
    /// Why the rule `id` no longer concerns a series, for the message of the alert that it ends.
    pub(super) fn why_gone(&self, id: &str) -> &'static str {
        match self.get(id) {
            None => "the rule was deleted",
            Some(rule) if !rule.draft.enabled => "the rule was disabled",
            Some(_) => "the rule was changed and no longer covers it",
        }
    }

    /// The rules of both origins. A rule of the API whose name the file has taken since is left
    /// out, and the log says so.
    pub fn new(file: &[Arc<Rule>], api: Vec<Arc<Rule>>) -> Self {
        let names: BTreeSet<&str> = file.iter().map(|rule| rule.draft.name.as_str()).collect();
        let mut rules = file.to_vec();
        for rule in api {
            if names.contains(rule.draft.name.as_str()) {
                log::warn!(
                    "the rule `{}` of the API is not in force: the configuration file has one of \
                     that name; rename or delete either",
                    rule.draft.name
                );
            } else {
                rules.push(rule);
            }
        }
        Self { rules }
    }

    /// Every rule, also those that are not enabled.
    pub fn all(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Rules that are enabled.
    pub fn enabled(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().filter(|rule| rule.draft.enabled)
    }

    /// The rule with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// The rule with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.draft.name == name)
    }

    /// Rules of the file alone.
    pub fn of_file(&self) -> Vec<Arc<Rule>> {
        let of_file = self.rules.iter().filter(|rule| rule.origin == Origin::File);
        of_file.cloned().collect()
    }
}

/// The rules of `[[alert.rules]]`.
///
/// # Errors
///
/// The index of the first rule that can't work, and its field.
pub(crate) fn file_rules(
    tables: &[toml::Table],
    now_secs: i64,
) -> Result<Vec<Arc<Rule>>, (usize, FieldError)> {
    if tables.len() > RULES_MAX {
        let message = format!("is one rule too many: at most {RULES_MAX} can be in force");
        return Err((RULES_MAX, FieldError::new("name", message)));
    }
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let rule = file_rule(table, now_secs).map_err(|error| (index, error))?;
        if rules.iter().any(|other| other.draft.name == rule.draft.name) {
            let message = format!("`{}` is the name of another rule above", rule.draft.name);
            return Err((index, FieldError::new("name", message)));
        }
        rules.push(Arc::new(rule));
    }
    Ok(rules)
}

fn file_rule(table: &toml::Table, now_secs: i64) -> Result<Rule, FieldError> {
    let mut map = Map::new();
    for (name, value) in table {
        map.insert(name.clone(), json(name, value)?);
    }
    let draft = Draft::from_map(&map)?;
    let id = format!("file-{}", stable_id(&["file", &draft.name]));
    Rule::build(id, draft, Origin::File, (now_secs, now_secs)).map_err(|mut error| {
        // In the file the type is called so.
        if error.field == "rule_type" && map.contains_key("type") {
            "type".clone_into(&mut error.field);
        }
        error
    })
}

fn json(name: &str, value: &toml::Value) -> Result<Value, FieldError> {
    match value {
        toml::Value::Datetime(_) => Err(FieldError::new(name, "must not be a date")),
        toml::Value::Float(number) if !number.is_finite() => {
            Err(FieldError::new(name, "must be a finite number"))
        }
        _ => serde_json::to_value(value)
            .map_err(|error| FieldError::new(name, format!("can't be taken: {error}"))),
    }
}

/// Reads a configuration file and checks it whole, its alert rules among the rest.
///
/// # Errors
///
/// Names file, line and key of the first mistake.
pub fn load_config(path: &Path) -> Result<ServerConfig, ConfigError> {
    let source = Source::read(path)?;
    let config = ServerConfig::from_source(&source)?;
    check_file_rules(&source, &config.alert.rules)?;
    Ok(config)
}

/// Checks the `[[alert.rules]]` of a file.
///
/// # Errors
///
/// Names file, line and field of the first rule that can't work.
pub fn check_file_rules(source: &Source, rules: &[toml::Table]) -> Result<(), ConfigError> {
    match file_rules(rules, 0) {
        Ok(_) => Ok(()),
        Err((index, error)) => {
            Err(source.error(&format!("alert.rules.{index}.{}", error.field), error.message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "
[[alert.rules]]
name = \"high-cpu\"
type = \"threshold\"
metric = \"cpu.usage\"
operator = \"greater_than\"
value = 90.0
duration_secs = 300
";

    fn refuse(text: &str) -> String {
        let source = Source::embedded("s.toml", text);
        let config = ServerConfig::from_source(&source).unwrap();
        check_file_rules(&source, &config.alert.rules).unwrap_err().0
    }

    #[test]
    fn mistakes_are_shown_with_file_line_and_field() {
        ServerConfig::from_source(&Source::embedded("s.toml", GOOD)).unwrap();
        let bad = GOOD.replace("greater_than", "above");
        let message = refuse(&bad);
        assert!(message.starts_with("s.toml:6: alert.rules.0.operator: must be"), "{message}");
        let message = refuse(&GOOD.replace("300", "-300"));
        assert!(message.starts_with("s.toml:8: alert.rules.0.duration_secs: must be"), "{message}");
        let message = refuse(&format!("{GOOD}{GOOD}"));
        assert!(message.starts_with("s.toml:11: alert.rules.1.name: `high-cpu` is"), "{message}");
        let message = refuse(&GOOD.replace("duration_secs", "duration_sec"));
        assert!(
            message.contains("s.toml:8: alert.rules.0.duration_sec: is not a field"),
            "{message}"
        );
        assert!(message.contains("did you mean `duration_secs`?"), "{message}");
        let message = refuse(&GOOD.replace("\"threshold\"", "\"thresold\""));
        assert!(message.starts_with("s.toml:4: alert.rules.0.type: must be"), "{message}");
        let message = refuse(&GOOD.replace("90.0", "inf"));
        assert!(message.starts_with("s.toml:7: alert.rules.0.value: must be"), "{message}");
    }

    #[test]
    fn a_rule_of_the_file_keeps_its_id() {
        let config = ServerConfig::from_source(&Source::embedded("s.toml", GOOD)).unwrap();
        let ids = |now| file_rules(&config.alert.rules, now).unwrap()[0].id.clone();
        assert_eq!(ids(1), ids(2));
        assert!(ids(1).starts_with("file-"));
    }

    #[test]
    fn the_file_wins_over_the_api() {
        let config = ServerConfig::from_source(&Source::embedded("s.toml", GOOD)).unwrap();
        let file = file_rules(&config.alert.rules, 1).unwrap();
        let draft = file[0].draft.clone();
        let api = Rule::build("a".into(), draft, Origin::Api, (1, 1)).unwrap();
        let set = RuleSet::new(&file, vec![Arc::new(api)]);
        assert_eq!(set.all().len(), 1);
        assert_eq!(set.named("high-cpu").unwrap().origin, Origin::File);
    }
}
