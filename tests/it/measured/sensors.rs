//! Temperatures and fans against lm-sensors, over one tree of files that both take for /sys.

use super::*;
use crate::support::tools::{or_excuse, there};

const FILES: &[(&str, &str)] = &[
    ("hwmon0/name", "coretemp\n"),
    ("hwmon0/temp1_input", "45500\n"),
    ("hwmon0/temp1_label", "Package id 0\n"),
    ("hwmon0/temp1_crit", "100000\n"),
    ("hwmon0/temp2_input", "43000\n"),
    ("hwmon0/temp2_label", "Core 0\n"),
    ("hwmon1/name", "nct6775\n"),
    ("hwmon1/fan1_input", "1234\n"),
    ("hwmon1/temp1_input", "-5500\n"),
    ("hwmon2/name", "drivetemp\n"),
    ("hwmon2/temp1_input", "31000\n"),
    ("hwmon2/temp1_crit", "70000\n"),
];

#[test]
fn temperatures_and_fans_are_what_sensors_says() {
    if !there("sensors") || !there("unshare") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let class = dir.path().join("class");
    for (file, text) in FILES {
        let path = class.join("hwmon").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    // lm-sensors reads below /sys alone: it is shown the tree there, in a namespace of its own.
    let shown = format!("mount --bind {} /sys/class && exec sensors -j", class.display());
    let out = Command::new("unshare").args(["-m", "sh", "-c", &shown]).output().unwrap();
    if !or_excuse(out.status.success(), "sensors can't be shown other files") {
        return;
    }
    let theirs: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = once(&format!("sys_root = {:?}", dir.path().display().to_string()));
    let mut compared = 0;
    for (chip, sensors) in theirs.as_object().unwrap() {
        for (sensor, values) in sensors.as_object().unwrap() {
            let Some(values) = values.as_object() else { continue };
            for (name, value) in values {
                let metric = match name.as_str() {
                    name if name.starts_with("fan") => "sensors.fan",
                    name if name.ends_with("_crit") => "sensors.temperature_critical",
                    name if name.ends_with("_input") => "sensors.temperature",
                    _ => continue,
                };
                let chip = chip.split("-virtual").next().unwrap();
                let labels = format!("chip={chip:?},sensor={sensor:?}");
                let ours = rows
                    .iter()
                    .find(|((name, own), _)| name == metric && own.replace(", ", ",") == labels);
                let ours = ours.unwrap_or_else(|| panic!("no {metric} {labels}: {rows:?}")).1;
                near(&labels, *ours, value.as_f64().unwrap(), 0.05);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 7, "{theirs}");
}
