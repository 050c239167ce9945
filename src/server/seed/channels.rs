//! `oxmon-server init-channels CONFIG SEED.json`: channels and silence windows.

use std::path::Path;

use rusqlite::Transaction;
use serde::Deserialize;

use crate::base::cli::print;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::configfile::Source;
use crate::base::exit::{Exit, Fatal};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::control::notify::channels::{self as rows, ChannelRow};
use crate::server::control::notify::silence::{self as windows, SilenceRow};
use crate::server::notify::manage::{self, ChannelInput, SilenceInput};
use crate::server::notify::{NotifyError, time_zone};

/// A seed file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    #[serde(default)]
    channels: Vec<ChannelInput>,
    #[serde(default)]
    silence_windows: Vec<SilenceInput>,
}

/// A seed that has been checked whole.
#[derive(Debug)]
struct Checked {
    channels: Vec<ChannelRow>,
    windows: Vec<SilenceRow>,
}

/// What a seed did, a line each.
type Said = Vec<String>;

/// Runs the command: checks the whole seed, then writes it in one transaction, and says of each
/// entry what became of it. Entries that exist are skipped.
///
/// # Errors
///
/// Names the file, the entry and the field of the first mistake; nothing is written then.
pub fn run(config: &Path, seed: &Path) -> Result<(), Fatal> {
    let config = ServerConfig::load(config)?;
    let source = Source::read(seed)?;
    let zone = time_zone(&config)?;
    let now_ms = SystemClock.now_ms();
    let checked = check(source.text(), &zone, now_ms)
        .map_err(|why| Fatal::new(Exit::Config, format!("{}: {why}", seed.display())))?;
    let dir = &config.data_dir;
    let fatal = |why: String| Fatal::new(Exit::DataDir, format!("{}: {why}", dir.display()));
    std::fs::create_dir_all(dir).map_err(|why| fatal(why.to_string()))?;
    let control = Control::open(dir).map_err(|why| fatal(why.to_string()))?;
    let said = control
        .write(move |tx| apply(tx, &checked))
        .map_err(|why: NotifyError| fatal(why.to_string()))?;
    print(&said.concat());
    Ok(())
}

fn check(text: &str, zone: &jiff::tz::TimeZone, now_ms: i64) -> Result<Checked, String> {
    // A bare list holds channels.
    let seed = if text.trim_start().starts_with('[') {
        let channels = serde_json::from_str(text).map_err(|why| why.to_string())?;
        Seed { channels, silence_windows: Vec::new() }
    } else {
        serde_json::from_str(text).map_err(|why| why.to_string())?
    };
    let mut checked = Checked { channels: Vec::new(), windows: Vec::new() };
    for (index, input) in seed.channels.into_iter().enumerate() {
        let name = input.name.clone().unwrap_or_default();
        let row = manage::new_channel(input, now_ms)
            .map_err(|why| format!("channels[{index}] `{name}`: {why}"))?;
        if checked.channels.iter().any(|known| known.name == row.name) {
            return Err(format!("channels[{index}] `{name}`: name: is in the seed twice"));
        }
        checked.channels.push(row);
    }
    for (index, input) in seed.silence_windows.into_iter().enumerate() {
        let row = manage::new_window(input, zone, now_ms)
            .map_err(|why| format!("silence_windows[{index}]: {why}"))?;
        checked.windows.push(row);
    }
    Ok(checked)
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
        for kind in ["email", "webhook", "sms", "dingtalk", "weixin"] {
            assert!(first.iter().any(|line| line.contains(&format!("({kind})"))), "{kind}");
        }
        assert!(first.iter().any(|line| line.contains("silence window 02:00-04:00 daily")));
        let second = seed();
        assert_eq!(second.len(), first.len());
        assert!(second.iter().all(|line| line.starts_with("skipped ")), "{second:?}");
    }

    #[test]
    fn the_first_mistake_is_named_with_its_entry() {
        let refuse = |text: &str| check(text, &TimeZone::UTC, 0).unwrap_err();
        let sms = r#"{"channels": [{"name": "s", "channel_type": "sms",
            "config": {"gateway_url": "https://sms.example.com/"}}]}"#;
        assert_eq!(refuse(sms), "channels[0] `s`: config_json: api_key: is missing");
        assert!(
            refuse(r#"[{"name": "x", "channel_type": "pager", "config_json": "{}"}]"#)
                .starts_with("channels[0] `x`: channel_type: `pager` is none of email")
        );
        assert!(
            refuse(r#"{"silence_windows": [{"start_time": "1", "end_time": "02:00"}]}"#)
                .starts_with("silence_windows[0]: start_time: ")
        );
        assert!(refuse("{\"chanels\": []}").contains("chanels"));
    }
}
