//! `oxmon-server init-rules CONFIG SEED.json`: alert rules.

use std::path::Path;

use rusqlite::Transaction;
use serde_json::{Map, Value};

use crate::base::cli::print;
use crate::base::clock::{Clock as _, SECOND_MS, SystemClock};
use crate::base::configfile::Source;
use crate::base::exit::{Exit, Fatal};
use crate::base::ids::new_id;
use crate::base::limits::RULES_MAX;
use crate::server::alert::fields::FieldError;
use crate::server::alert::load_config;
use crate::server::alert::manage::to_row;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::alerts::{self as tables, RuleRow};
use crate::server::import::folder::refuse;
use crate::server::import::shapes;
use crate::server::seed::not_made;
use crate::server::storage::StorageError;

/// Runs the command: writes the rules that can be made in one transaction, and says of each what
/// became of it. Names that exist, in the database or in the configuration file, are skipped. A
/// running server takes the rules at its next reload or start.
///
/// # Errors
///
/// Names the file and every rule that can't be made with its field; the others are made. A file
/// that is not a seed changes nothing.
pub(crate) fn run(config_file: &Path, seed: &Path) -> Result<(), Fatal> {
    let config = load_config(config_file)?;
    let source = Source::read(seed)?;
    let now_secs = SystemClock.now_ms() / SECOND_MS;
    let Checked { rows, wrong } = check(source.text(), now_secs)
        .map_err(|why| Fatal::new(Exit::Config, format!("{}: {why}", seed.display())))?;
    print(&write_rows(&config, config_file, rows)?);
    not_made(seed, &wrong)
}

/// Writes rules in one transaction, but for those whose names exist; gives a line on each. A
/// running server takes them at its next reload or start.
///
/// # Errors
///
/// When the data folder can't be written, or there would be too many rules.
pub(super) fn write_rows(
    config: &ServerConfig,
    config_file: &Path,
    rows: Vec<RuleRow>,
) -> Result<String, Fatal> {
    refuse(&config.data_dir, config_file)?;
    let of_file = config.alert.rules.iter().filter_map(|rule| rule.get("name")?.as_str());
    let of_file: Vec<String> = of_file.map(str::to_owned).collect();
    let dir = &config.data_dir;
    let fatal = |why: String| Fatal::new(Exit::DataDir, format!("{}: {why}", dir.display()));
    std::fs::create_dir_all(dir).map_err(|why| fatal(why.to_string()))?;
    let control = Control::open(dir).map_err(|why| fatal(why.to_string()))?;
    let said = control
        .write(move |tx| apply(tx, &rows, &of_file))
        .map_err(|why: StorageError| fatal(why.to_string()))?;
    Ok(said.concat())
}

/// A seed whose rules have been checked.
#[derive(Debug, Default)]
struct Checked {
    rows: Vec<RuleRow>,
    /// Rules that can't be made, and why.
    wrong: Vec<String>,
}

/// The rules of a seed: `{"rules": [...]}`, or the list alone.
fn check(text: &str, now_secs: i64) -> Result<Checked, String> {
    let seed: Value = serde_json::from_str(text).map_err(|why| why.to_string())?;
    let list = match seed {
        Value::Array(list) => list,
        Value::Object(mut map) => {
            let rules = map.remove("rules");
            if let Some(name) = map.keys().next() {
                return Err(format!("`{name}` is not part of a seed of rules, which has `rules`"));
            }
            match rules {
                Some(Value::Array(list)) => list,
                _ => return Err("`rules` must be a list".to_owned()),
            }
        }
        _ => return Err("must be {\"rules\": [...]}".to_owned()),
    };
    let mut checked = Checked::default();
    for (index, entry) in list.into_iter().enumerate() {
        let Value::Object(map) = entry else {
            checked.wrong.push(format!("rules[{index}] must be an object"));
            continue;
        };
        let name = map.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let named = format!("rules[{index}] `{name}`");
        match build(map, now_secs) {
            Ok(rule) if checked.rows.iter().any(|known| known.name == rule.draft.name) => {
                checked.wrong.push(format!("{named}: name: is in the seed twice"));
            }
            Ok(rule) => checked.rows.push(to_row(&rule)),
            Err(why) => checked.wrong.push(format!("{named}: {}: {}", why.field, why.message)),
        }
    }
    Ok(checked)
}

fn build(mut map: Map<String, Value>, now_secs: i64) -> Result<Rule, FieldError> {
    // Of what the first release's certificate rules named, nothing counted.
    let _ = shapes::rule(&mut map);
    Rule::build(new_id(), Draft::from_map(&map)?, Origin::Api, (now_secs, now_secs))
}

fn apply(
    tx: &Transaction<'_>,
    rows: &[RuleRow],
    of_file: &[String],
) -> Result<Vec<String>, StorageError> {
    let mut said = Vec::new();
    for row in rows {
        let what = format!("rule `{}` ({})", row.name, row.rule_type);
        if of_file.contains(&row.name) {
            said.push(format!("skipped {what}: the configuration file has it\n"));
        } else if tables::name_taken(tx, &row.name, "")? {
            said.push(format!("skipped {what}: the name exists\n"));
        } else {
            tables::put_rule(tx, row)?;
            said.push(format!("made {what}\n"));
        }
    }
    if tables::rules(tx)?.len() + of_file.len() > RULES_MAX {
        return Err(StorageError::Invalid(format!("there would be more than {RULES_MAX} rules")));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXAMPLE: &str = include_str!("../../../config/rules.seed.example.json");

    #[test]
    fn the_example_is_taken_once_and_skipped_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let seed = |of_file: Vec<String>| {
            let rows = check(EXAMPLE, 1).unwrap().rows;
            control.write(move |tx| apply(tx, &rows, &of_file)).unwrap()
        };
        let first = seed(vec!["high-cpu".to_owned()]);
        assert_eq!(
            first[0],
            "skipped rule `high-cpu` (threshold): the configuration file has it\n"
        );
        let made = |line: &&String| line.starts_with("made ");
        assert_eq!(first.iter().filter(made).count(), first.len() - 1, "{first:?}");
        for spec in crate::server::alert::evaluate::TABLE {
            let kind = format!("({})", spec.name);
            assert!(first.iter().any(|line| line.contains(&kind)), "{kind}");
        }
        let second = seed(Vec::new());
        assert_eq!(second.iter().filter(made).count(), 1, "{second:?}");
    }

    #[test]
    fn every_mistake_is_named_with_its_rule_and_field_and_the_rest_is_made() {
        let checked = check(
            r#"{"rules": [
                {"name": "a", "type": "threshold", "metric": "m", "value": 1},
                {"name": "b", "type": "no_data", "metric": "*", "duration_secs": 9},
                {"name": "b", "type": "no_data", "metric": "*", "duration_secs": 9},
                3,
                {"name": "c", "rule_type": "threshold", "metric": "m",
                 "config": {"operator": "less_than", "value": 5}}]}"#,
            1,
        )
        .unwrap();
        let names: Vec<&str> = checked.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        let expected = [
            "rules[0] `a`: operator: is missing",
            "rules[2] `b`: name: is in the seed twice",
            "rules[3] must be an object",
        ];
        assert_eq!(checked.wrong, expected);
    }

    #[test]
    fn what_is_no_seed_is_refused_whole() {
        let refuse = |text: &str| check(text, 1).unwrap_err();
        assert!(refuse("{\"rule\": []}").starts_with("`rule` is not part"));
        assert!(refuse("3").starts_with("must be"));
    }
}
