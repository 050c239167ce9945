//! Temperatures and fans, from /sys/class/hwmon (Documentation/hwmon/sysfs-interface.rst) and
//! /sys/class/thermal (Documentation/driver-api/thermal/sysfs-api.rst).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::agent::collectors::procfile::{names, number, value};
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, round,
};
use crate::base::limits::SENSORS_MAX;
use crate::model::series::Labels;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["chip", "sensor"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "sensors",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        of(
            "sensors.temperature",
            "°C",
            "Temperature (/sys/class/hwmon, and zones of /sys/class/thermal that it lacks).",
        ),
        of(
            "sensors.temperature_critical",
            "°C",
            "Temperature at which the chip takes damage or the machine stops.",
        ),
        of("sensors.fan", "rpm", "Speed of a fan."),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Sensors { hwmon: setup.sys("class/hwmon"), thermal: setup.sys("class/thermal") })
    },
};

struct Sensors {
    hwmon: PathBuf,
    thermal: PathBuf,
}

/// Names that are looked at in one folder.
const NAMES_MAX: usize = 1_000;
/// Temperatures that a sensor can mean, °C. A broken one says -128, 255 or worse.
const TEMPERATURES: std::ops::Range<f64> = -100.0..200.0;

impl Collector for Sensors {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut there = 0;
        let mut chips = HashSet::new();
        let mut used = HashSet::new();
        for device in names(&self.hwmon, NAMES_MAX) {
            let folder = self.hwmon.join(&device);
            let name = value(&folder.join("name")).unwrap_or_else(|| device.clone());
            chips.insert(name.clone());
            // Two disks are two chips with one name.
            let chip = if used.insert(name.clone()) { name } else { format!("{name}-{device}") };
            self::chip(&folder, &chip, &mut there, out);
        }
        for zone in names(&self.thermal, NAMES_MAX) {
            let Some(number) = zone.strip_prefix("thermal_zone") else { continue };
            let folder = self.thermal.join(&zone);
            let Some(kind) = value(&folder.join("type")) else { continue };
            // Most zones have a chip of hwmon with the zone's type as its name.
            if chips.contains(&kind.replace('-', "_")) || chips.contains(&kind) {
                continue;
            }
            there += 1;
            if there > SENSORS_MAX {
                continue;
            }
            let labels = Labels::from_pairs([("chip", kind.as_str()), ("sensor", number)]);
            temperature("sensors.temperature", &folder.join("temp"), &labels, out);
            for trip in 0..8 {
                let file = |what: &str| folder.join(format!("trip_point_{trip}_{what}"));
                if value(&file("type")).as_deref() == Some("critical") {
                    let metric = "sensors.temperature_critical";
                    temperature(metric, &file("temp"), &labels, out);
                }
            }
        }
        out.left_out(there, SENSORS_MAX, "sensors", None);
        Ok(())
    }
}

/// The sensors of one chip of hwmon.
fn chip(folder: &Path, chip: &str, there: &mut usize, out: &mut Samples) {
    for file in names(folder, NAMES_MAX) {
        let Some(sensor) = file.strip_suffix("_input") else { continue };
        let is_fan = sensor.starts_with("fan");
        if !(is_fan || sensor.starts_with("temp")) {
            continue;
        }
        *there += 1;
        if *there > SENSORS_MAX {
            continue;
        }
        let label =
            value(&folder.join(format!("{sensor}_label"))).filter(|label| !label.is_empty());
        let name = label.unwrap_or_else(|| sensor.to_owned());
        let labels = Labels::from_pairs([("chip", chip), ("sensor", name.as_str())]);
        if is_fan {
            if let Some(rpm) = number(&folder.join(&file)).filter(|rpm| *rpm >= 0.0) {
                out.with("sensors.fan", &labels, rpm);
            }
        } else {
            temperature("sensors.temperature", &folder.join(&file), &labels, out);
            let critical = folder.join(format!("{sensor}_crit"));
            temperature("sensors.temperature_critical", &critical, &labels, out);
        }
    }
}

/// A temperature in thousandths of a degree.
fn temperature(metric: &str, file: &Path, labels: &Labels, out: &mut Samples) {
    let degrees = number(file).map(|milli| milli / 1_000.0);
    if let Some(degrees) = degrees.filter(|degrees| TEMPERATURES.contains(degrees)) {
        out.with(metric, labels, round(degrees, 10.0));
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::collectors::tests::tree;

    #[test]
    fn chips_and_zones_are_read_with_their_names_and_limits() {
        let seen = tree(
            "sensors",
            &[
                ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
                ("sys/class/hwmon/hwmon0/temp1_input", "45500\n"),
                ("sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n"),
                ("sys/class/hwmon/hwmon0/temp1_crit", "100000\n"),
                ("sys/class/hwmon/hwmon0/temp2_input", "-128000\n"),
                ("sys/class/hwmon/hwmon0/fan1_input", "1200\n"),
                ("sys/class/hwmon/hwmon0/in0_input", "1200\n"),
                ("sys/class/hwmon/hwmon1/name", "nvme\n"),
                ("sys/class/hwmon/hwmon1/temp1_input", "30000\n"),
                ("sys/class/hwmon/hwmon2/name", "nvme\n"),
                ("sys/class/hwmon/hwmon2/temp1_input", "31000\n"),
                ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
                ("sys/class/thermal/thermal_zone0/temp", "51234\n"),
                ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n"),
                ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "110000\n"),
                ("sys/class/thermal/thermal_zone1/type", "coretemp\n"),
                ("sys/class/thermal/thermal_zone1/temp", "1\n"),
                ("sys/class/thermal/cooling_device0/type", "fan\n"),
            ],
        );
        assert_eq!(seen["sensors.temperature@coretemp@Package id 0"], 45.5);
        assert_eq!(seen["sensors.temperature_critical@coretemp@Package id 0"], 100.0);
        assert_eq!(seen["sensors.fan@coretemp@fan1"], 1_200.0);
        assert_eq!(seen["sensors.temperature@nvme@temp1"], 30.0);
        assert_eq!(seen["sensors.temperature@nvme-hwmon2@temp1"], 31.0);
        assert_eq!(seen["sensors.temperature@cpu-thermal@0"], 51.2);
        assert_eq!(seen["sensors.temperature_critical@cpu-thermal@0"], 110.0);
        let temperatures = seen.keys().filter(|name| name.starts_with("sensors.temperature@"));
        assert_eq!(temperatures.count(), 4, "{seen:?}");
    }
}
