//! `oxmon-server init-channels CONFIG SEED.json`: channels and silence windows.

use std::path::Path;

use rusqlite::Transaction;
use serde::Deserialize;
use serde_json::Value;

use crate::base::cli::print;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::configfile::Source;
use crate::base::exit::{Exit, Fatal};
use crate::base::secretfile;
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::notify::channels::{self as rows, ChannelRow};
use crate::server::control::notify::silence::{self as windows, SilenceRow};
use crate::server::import::folder::refuse;
use crate::server::import::shapes;
use crate::server::notify::channels;
use crate::server::notify::channels::config::{Config, FieldKind};
use crate::server::notify::manage::{self, ChannelInput, SilenceInput};
use crate::server::notify::{NotifyError, time_zone};
use crate::server::seed::not_made;

/// A seed file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    #[serde(default)]
    channels: Vec<Value>,
    #[serde(default)]
    silence_windows: Vec<Value>,
}

/// A seed whose entries have been checked.
#[derive(Debug, Default)]
struct Checked {
    channels: Vec<ChannelRow>,
    windows: Vec<SilenceRow>,
    /// Entries that can't be made, and why.
    wrong: Vec<String>,
}

/// What a seed did, a line each.
type Said = Vec<String>;

/// Runs the command: writes the entries that can be made in one transaction, and says of each what
/// became of it. Entries that exist are skipped.
///
/// # Errors
///
/// Names the file and every entry that can't be made with its field; the others are made. A file
/// that is not a seed changes nothing.
pub(crate) fn run(config_file: &Path, seed: &Path) -> Result<(), Fatal> {
    let config = ServerConfig::load(config_file)?;
    refuse(&config.data_dir, config_file)?;
    let source = Source::read(seed)?;
    let zone = time_zone(&config)?;
    let now_ms = SystemClock.now_ms();
    let mut checked = check(source.text(), &zone, now_ms)
        .map_err(|why| Fatal::new(Exit::Config, format!("{}: {why}", seed.display())))?;
    let wrong = std::mem::take(&mut checked.wrong);
    let dir = &config.data_dir;
    let fatal = |why: String| Fatal::new(Exit::DataDir, format!("{}: {why}", dir.display()));
    std::fs::create_dir_all(dir).map_err(|why| fatal(why.to_string()))?;
    let control = Control::open(dir).map_err(|why| fatal(why.to_string()))?;
    let said = control
        .write(move |tx| apply(tx, &checked))
        .map_err(|why: NotifyError| fatal(why.to_string()))?;
    print(&said.concat());
    not_made(seed, &wrong)
}

fn check(text: &str, zone: &jiff::tz::TimeZone, now_ms: i64) -> Result<Checked, String> {
    // A bare list holds channels.
    let seed = if text.trim_start().starts_with('[') {
        let channels = serde_json::from_str(text).map_err(|why| why.to_string())?;
        Seed { channels, silence_windows: Vec::new() }
    } else {
        serde_json::from_str(text).map_err(|why| why.to_string())?
    };
    let mut checked = Checked::default();
    for (index, entry) in seed.channels.into_iter().enumerate() {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        match channel(entry, now_ms) {
            Ok(row) if checked.channels.iter().any(|known| known.name == row.name) => checked
                .wrong
                .push(format!("channels[{index}] `{name}`: name: is in the seed twice")),
            Ok(row) => checked.channels.push(row),
            Err(why) => checked.wrong.push(format!("channels[{index}] `{name}`: {why}")),
        }
    }
    for (index, entry) in seed.silence_windows.into_iter().enumerate() {
        let input: Result<SilenceInput, _> = serde_json::from_value(entry);
        let made = input.map_err(|why| why.to_string()).and_then(|input| {
            manage::new_window(input, zone, now_ms).map_err(|why| why.to_string())
        });
        match made {
            Ok(row) => checked.windows.push(row),
            Err(why) => checked.wrong.push(format!("silence_windows[{index}]: {why}")),
        }
    }
    Ok(checked)
}

/// The row of an entry, which may be in the shape of the first release.
fn channel(entry: Value, now_ms: i64) -> Result<ChannelRow, String> {
    let mut input: ChannelInput = serde_json::from_value(entry).map_err(|why| why.to_string())?;
    if let (Some(kind), Some(Value::Object(config))) = (&input.channel_type, &input.config_json) {
        let (kind, mut config) = shapes::channel(kind, config.clone());
        read_secrets(&kind, &mut config)?;
        input.channel_type = Some(kind);
        input.config_json = Some(Value::Object(config));
    }
    manage::new_channel(input, now_ms).map_err(|why| why.to_string())
}

/// Puts secrets in place of the files that hold them: `smtp_password_file` for `smtp_password`.
fn read_secrets(kind: &str, config: &mut Config) -> Result<(), String> {
    let fields = channels::find(kind).map_or(&[][..], |spec| spec.fields);
    for field in fields.iter().filter(|field| field.kind == FieldKind::Secret) {
        let key = format!("{}_file", field.name);
        let Some(path) = config.remove(&key) else { continue };
        let fail = |why: String| format!("config_json: {key}: {why}");
        if config.contains_key(field.name) {
            return Err(fail(format!("needs no {} beside it", field.name)));
        }
        let path = path.as_str().ok_or_else(|| fail("must be a path".to_owned()))?.to_owned();
        let secret = secretfile::read(Path::new(&path));
        let secret = secret.map_err(|error| fail(format!("cannot read {path}: {error}")))?;
        config.insert(field.name.to_owned(), secret.text.into());
    }
    Ok(())
}

fn apply(tx: &Transaction<'_>, seed: &Checked) -> Result<Said, NotifyError> {
    let mut said = Said::new();
    for row in &seed.channels {
        let what = format!("channel `{}` ({})", row.name, row.channel_type);
        if rows::name_taken(tx, &row.name, "")? {
            said.push(format!("skipped {what}: the name exists\n"));
        } else {
            manage::put(tx, row)?;
            said.push(format!("made {what}\n"));
        }
    }
    let known = windows::list(tx, None)?.items;
    for row in &seed.windows {
        let recurrence = row.recurrence.as_deref().or(row.date.as_deref()).unwrap_or_default();
        let what = format!("silence window {}-{} {recurrence}", row.start_time, row.end_time);
        if known.iter().any(|other| same(other, row)) {
            said.push(format!("skipped {what}: it exists\n"));
        } else {
            manage::add_window(tx, row)?;
            said.push(format!("made {what}\n"));
        }
    }
    Ok(said)
}

/// Whether two windows are the same but for their ids and the times of their making.
fn same(one: &SilenceRow, other: &SilenceRow) -> bool {
    let bare = |row: &SilenceRow| SilenceRow {
        id: String::new(),
        created_at: 0,
        updated_at: 0,
        ..row.clone()
    };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use jiff::tz::TimeZone;

    const EXAMPLE: &str = include_str!("../../../config/channels.seed.example.json");

    #[test]
    fn the_example_is_taken_once_and_skipped_the_second_time() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::open(dir.path()).unwrap();
        let seed = || {
            let checked = check(EXAMPLE, &TimeZone::UTC, 1_770_625_800_000).unwrap();
            control.write(move |tx| apply(tx, &checked)).unwrap()
        };
        let first = seed();
        assert!(first.iter().all(|line| line.starts_with("made ")), "{first:?}");
        for kind in ["email", "webhook", "sms", "sms_aliyun", "sms_tencent", "dingtalk", "weixin"] {
            assert!(first.iter().any(|line| line.contains(&format!("({kind})"))), "{kind}");
        }
        assert!(first.iter().any(|line| line.contains("silence window 02:00-04:00 daily")));
        let second = seed();
        assert_eq!(second.len(), first.len());
        assert!(second.iter().all(|line| line.starts_with("skipped ")), "{second:?}");
    }

    #[test]
    fn every_mistake_is_named_with_its_entry_and_the_rest_is_made() {
        let check = |text: &str| check(text, &TimeZone::UTC, 0).unwrap();
        let sms = r#"{"channels": [
            {"name": "s", "channel_type": "sms",
             "config": {"gateway_url": "https://sms.example.com/"}},
            {"name": "h", "channel_type": "webhook", "config": {"url": "https://h.example/"}},
            {"name": "x", "channel_type": "pager", "config_json": "{}"},
            {"name": "y", "chanel_type": "webhook", "config": {}}],
            "silence_windows": [{"start_time": "1", "end_time": "02:00"}]}"#;
        let checked = check(sms);
        assert_eq!(checked.channels.len(), 1);
        let wrong = checked.wrong;
        assert_eq!(wrong[0], "channels[0] `s`: config_json: api_key: is missing");
        assert!(wrong[1].starts_with("channels[2] `x`: channel_type: `pager` is not one of email"));
        assert!(wrong[2].contains("channels[3] `y`: unknown field `chanel_type`"), "{wrong:?}");
        assert!(wrong[3].starts_with("silence_windows[0]: start_time: "), "{wrong:?}");
    }

    #[test]
    fn what_is_no_seed_is_refused_whole() {
        let refuse = |text: &str| check(text, &TimeZone::UTC, 0).unwrap_err();
        assert!(refuse("{\"chanels\": []}").contains("chanels"));
        assert!(refuse("3").contains("invalid type"));
    }
}
