//! Metrics that other programs of this host write to files, in Prometheus' text format: each file
//! `*.prom` of `textfile_dir`, as node_exporter reads them.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, promtext,
};
use crate::base::clock::{modified, system_now};
use crate::base::limits::{TEXTFILE_BYTES_MAX, TEXTFILE_SERIES_MAX, TEXTFILES_MAX};
use crate::model::point::Point;

/// A file that was not written for this long is named in the log.
const STALE_SECS: f64 = 86_400.0;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["file"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "textfile",
    pace: Pace::Always,
    on: true,
    metrics: &[
        of(
            "textfile.age",
            "s",
            "Time since a file `*.prom` of `textfile_dir` was written: a stale file has a great one.",
        ),
        of(
            "textfile.success",
            "0 or 1",
            "Whether the file could be read and parsed; if not, it gives no metrics.",
        ),
    ],
    make: |setup: &Setup<'_>| Box::new(Textfile { dir: setup.config.textfile_dir.clone() }),
};

struct Textfile {
    dir: Option<PathBuf>,
}

impl Collector for Textfile {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let entries = std::fs::read_dir(dir)
            .map_err(|error| CollectError::Read { path: dir.clone(), error })?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".prom")).collect();
        names.sort_unstable();
        out.cap(&mut names, TEXTFILES_MAX, "text files", None);
        let mut room = TEXTFILE_SERIES_MAX;
        for name in names {
            let path = dir.join(&name);
            let read = read(&path).and_then(|(text, age)| {
                promtext::parse(&text, room, |_| true).map(|parsed| (parsed, age))
            });
            let success = f64::from(u8::from(read.is_ok()));
            match read {
                Ok((parsed, age)) => {
                    out.labelled("textfile.age", "file", &name, age.floor());
                    if age > STALE_SECS {
                        out.note(&name, "was not written for more than a day");
                    }
                    if parsed.over + parsed.unfit > 0 {
                        let (over, unfit) = (parsed.over, parsed.unfit);
                        let text = format!(
                            "left out {over} series over the limit of \
                            {TEXTFILE_SERIES_MAX}, and {unfit} that can't be stored"
                        );
                        out.note(&name, text);
                    }
                    room -= parsed.samples.len();
                    let timestamp_ms = out.moment.timestamp_ms;
                    for sample in parsed.samples {
                        let promtext::Sample { metric, labels, value } = sample;
                        out.point(Point { metric, labels, timestamp_ms, value });
                    }
                }
                Err(why) => out.note(&name, format!("left out: {why}")),
            }
            out.labelled("textfile.success", "file", &name, success);
        }
        Ok(())
    }
}

/// A file's text and its age in seconds.
fn read(path: &Path) -> Result<(String, f64), String> {
    // Without it, opening a pipe would wait for a program that writes to it.
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path);
    let file = file.map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    let written = modified(&file).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut text = String::new();
    let read = file.take(TEXTFILE_BYTES_MAX + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes as u64 > TEXTFILE_BYTES_MAX {
        return Err(format!("it has more than {TEXTFILE_BYTES_MAX} bytes"));
    }
    let age = system_now().duration_since(written).unwrap_or_default();
    Ok((text, age.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use crate::agent::collectors::tests::tree;

    #[test]
    fn a_broken_file_costs_itself() {
        let seen = tree(
            "textfile",
            &[
                ("text/backup.prom", "backup_last_success_seconds{job=\"db\"} 1770625800\n"),
                ("text/broken.prom", "half_a_line{a=\"b"),
                ("text/notes.txt", "not_taken 1\n"),
            ],
        );
        assert_eq!(seen["backup_last_success_seconds@db"], 1_770_625_800.0);
        assert_eq!(seen["textfile.success@backup.prom"], 1.0);
        assert_eq!(seen["textfile.success@broken.prom"], 0.0);
        assert!(seen["textfile.age@backup.prom"] < 60.0);
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
