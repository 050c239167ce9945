//! Batteries and mains, from /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power),
//! and what a Raspberry Pi's firmware says of its supply (vcgencmd get_throttled).

use std::path::{Path, PathBuf};

use crate::agent::collectors::procfile::{names, number, value};
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, plain,
};

/// Supplies that are looked at.
const SUPPLIES_MAX: usize = 32;
/// Names that are looked at in one folder.
const NAMES_MAX: usize = 1_000;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["supply"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "power",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        of(
            "power.battery_percent",
            "%",
            "Charge of a battery (/sys/class/power_supply/…/capacity).",
        ),
        of("power.battery_discharging", "0 or 1", "Whether the battery is what feeds the machine."),
        of("power.mains", "0 or 1", "Whether a mains or USB supply is there."),
        plain("power.under_voltage", "0 or 1", "Whether a Raspberry Pi's supply is too weak now."),
        plain(
            "power.throttled",
            "0 or 1",
            "Whether a Raspberry Pi runs slower now, for heat or voltage.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Power {
            supplies: setup.sys("class/power_supply"),
            firmware: setup.sys("bus/platform/drivers/raspberrypi-firmware"),
            hwmon: setup.sys("class/hwmon"),
        })
    },
};

struct Power {
    supplies: PathBuf,
    /// The driver of a Raspberry Pi's firmware.
    firmware: PathBuf,
    hwmon: PathBuf,
}

/// The file with the firmware's flags, which the vendor's kernel has: the device's name differs
/// from model to model, the driver's does not.
fn flags(driver: &Path) -> Option<PathBuf> {
    let devices = names(driver, NAMES_MAX);
    let mut files = devices.iter().map(|device| driver.join(device).join("get_throttled"));
    files.find(|file| file.exists())
}

/// Where other kernels say that the supply is too weak: the alarm of the driver raspberrypi-hwmon
/// (Documentation/hwmon/raspberrypi-hwmon.rst).
fn alarm(hwmon: &Path) -> Option<PathBuf> {
    let chips = names(hwmon, NAMES_MAX);
    let is_pi =
        |chip: &&String| value(&hwmon.join(chip).join("name")).as_deref() == Some("rpi_volt");
    chips.iter().find(is_pi).map(|chip| hwmon.join(chip).join("in0_lcrit_alarm"))
}

impl Collector for Power {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let mut supplies = names(&self.supplies, NAMES_MAX);
        out.cap(&mut supplies, SUPPLIES_MAX, "supplies", None);
        for supply in supplies {
            let folder = self.supplies.join(&supply);
            // A mouse's or a headset's battery is a supply too, of the scope `Device`.
            if value(&folder.join("scope")).as_deref() == Some("Device") {
                continue;
            }
            match value(&folder.join("type")).as_deref() {
                Some("Battery" | "UPS") => {
                    let percent = number(&folder.join("capacity"));
                    if let Some(percent) = percent.filter(|p| (0.0..=100.0).contains(p)) {
                        out.labelled("power.battery_percent", "supply", &supply, percent);
                    }
                    if let Some(status) = value(&folder.join("status")) {
                        let discharging = f64::from(u8::from(status == "Discharging"));
                        let metric = "power.battery_discharging";
                        out.labelled(metric, "supply", &supply, discharging);
                    }
                }
                Some(_) => {
                    if let Some(online) = number(&folder.join("online")) {
                        let online = f64::from(u8::from(online > 0.0));
                        out.labelled("power.mains", "supply", &supply, online);
                    }
                }
                None => {}
            }
        }
        let flags = flags(&self.firmware).as_deref().and_then(value);
        let flags =
            flags.and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
        if let Some(flags) = flags {
            let bit = |mask: u32| f64::from(u8::from(flags & mask != 0));
            out.plain("power.under_voltage", bit(0b0001));
            // Capped frequency, throttled, soft limit of the temperature.
            out.plain("power.throttled", bit(0b1110));
        } else if let Some(alarm) = alarm(&self.hwmon).as_deref().and_then(number) {
            out.plain("power.under_voltage", f64::from(u8::from(alarm > 0.0)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::collectors::tests::tree;

    #[test]
    fn supplies_of_the_machine_are_read_and_those_of_its_mouse_are_not() {
        let seen = tree(
            "power",
            &[
                ("sys/class/power_supply/AC/type", "Mains\n"),
                ("sys/class/power_supply/AC/online", "0\n"),
                ("sys/class/power_supply/BAT0/type", "Battery\n"),
                ("sys/class/power_supply/BAT0/capacity", "73\n"),
                ("sys/class/power_supply/BAT0/status", "Discharging\n"),
                ("sys/class/power_supply/hid-mouse/type", "Battery\n"),
                ("sys/class/power_supply/hid-mouse/scope", "Device\n"),
                ("sys/class/power_supply/hid-mouse/capacity", "5\n"),
                (PI_3, "50005\n"),
            ],
        );
        assert_eq!(seen["power.battery_percent@BAT0"], 73.0);
        assert_eq!(seen["power.battery_discharging@BAT0"], 1.0);
        assert_eq!(seen["power.mains@AC"], 0.0);
        assert_eq!((seen["power.under_voltage"], seen["power.throttled"]), (1.0, 1.0));
        assert!(!seen.contains_key("power.battery_percent@hid-mouse"));
    }

    const PI_3: &str = "sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled";
    const PI_5: &str =
        "sys/bus/platform/drivers/raspberrypi-firmware/soc@107c000000:firmware/get_throttled";

    #[test]
    fn a_raspberry_pi_says_now_and_not_what_was_since_its_start() {
        // Bits 0 to 3: too little voltage, capped, throttled, hot now; 16 to 19: since the start.
        for (flags, weak, slow) in [
            ("0\n", 0.0, 0.0),
            ("0x50000\n", 0.0, 0.0),
            ("0x1\n", 1.0, 0.0),
            ("2\n", 0.0, 1.0),
            ("4\n", 0.0, 1.0),
            ("80008\n", 0.0, 1.0),
        ] {
            for file in [PI_3, PI_5] {
                let seen = tree("power", &[(file, flags)]);
                let now = (seen["power.under_voltage"], seen["power.throttled"]);
                assert_eq!(now, (weak, slow), "{file} {flags}");
            }
        }
        assert!(tree("power", &[(PI_3, "no flags\n")]).is_empty());
        let other = [
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
        ];
        let seen = tree("power", &other);
        assert_eq!((seen["power.under_voltage"], seen.len()), (1.0, 1), "{seen:?}");
    }
}
