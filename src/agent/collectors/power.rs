//! Batteries and mains, from /sys/class/power_supply (Documentation/ABI/testing/sysfs-class-power),
//! and what a Raspberry Pi's firmware says of its supply (vcgencmd get_throttled).

use std::path::PathBuf;

use crate::agent::collectors::procfile::{names, number, value};
use crate::agent::collectors::{
    CollectError, Collector, Metric, Pace, Samples, Setup, Spec, plain,
};

/// Supplies that are looked at.
const SUPPLIES_MAX: usize = 32;

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
            firmware: setup.sys("devices/platform/soc/soc:firmware/get_throttled"),
        })
    },
};

struct Power {
    supplies: PathBuf,
    firmware: PathBuf,
}

impl Collector for Power {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for supply in names(&self.supplies, SUPPLIES_MAX) {
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
        let flags = value(&self.firmware)
            .and_then(|hex| u32::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
        if let Some(flags) = flags {
            let bit = |mask: u32| f64::from(u8::from(flags & mask != 0));
            out.plain("power.under_voltage", bit(0b0001));
            // Capped frequency, throttled, soft limit of the temperature.
            out.plain("power.throttled", bit(0b1110));
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
                ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
            ],
        );
        assert_eq!(seen["power.battery_percent@BAT0"], 73.0);
        assert_eq!(seen["power.battery_discharging@BAT0"], 1.0);
        assert_eq!(seen["power.mains@AC"], 0.0);
        assert_eq!((seen["power.under_voltage"], seen["power.throttled"]), (1.0, 1.0));
        assert!(!seen.contains_key("power.battery_percent@hid-mouse"));
    }
}
