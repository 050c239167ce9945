//! The signal of wireless links, from /proc/net/wireless (Documentation of wireless extensions).

use crate::agent::collectors::procfile::ProcFile;
use crate::agent::collectors::{CollectError, Collector, Metric, Pace, Samples, Setup, Spec};
use crate::base::limits::INTERFACES_MAX;

const fn of(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, labels: &["interface"], help }
}

/// The table's row.
pub(super) const SPEC: Spec = Spec {
    name: "wireless",
    pace: Pace::Minute,
    on: true,
    metrics: &[
        of("wireless.signal", "dBm", "Strength of the signal (/proc/net/wireless)."),
        of(
            "wireless.quality",
            "steps",
            "Quality of the link, on the driver's own scale, often 0 to 70.",
        ),
    ],
    make: |setup: &Setup<'_>| {
        Box::new(Wireless(ProcFile::records(setup.proc_of_host("net/wireless"))))
    },
};

struct Wireless(ProcFile);

impl Collector for Wireless {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Some(text) = self.0.read_optional(out.moment.at)? else { return Ok(()) };
        let mut links: Vec<_> = parse(&text).collect();
        out.cap(&mut links, INTERFACES_MAX, "wireless links", None);
        for (interface, quality, signal) in links {
            out.labelled("wireless.signal", "interface", interface, signal);
            out.labelled("wireless.quality", "interface", interface, quality);
        }
        Ok(())
    }
}

/// Interface, quality and signal of each line: `wlan0: 0000   54.  -56.  -256  …`. A signal that
/// is not below 0 dBm is on a scale of the driver's own, and left out with its line.
fn parse(text: &str) -> impl Iterator<Item = (&str, f64, f64)> {
    text.lines().skip(2).filter_map(|line| {
        let (interface, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace().skip(1);
        let mut number = || words.next()?.trim_end_matches('.').parse::<f64>().ok();
        let (quality, signal) = (number()?, number()?);
        let fits = (-120.0..0.0).contains(&signal) && quality.is_finite();
        fits.then_some((interface.trim(), quality, signal))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn parse_any(text: &str) {
        let _ = parse(text).count();
    }

    #[test]
    fn the_signal_is_below_nothing() {
        let text = "Inter-| sta-|   Quality\n face | tus | link level\n\
                    \x20wlan0: 0000   54.  -56.  -256   0   0   0   0   1413   0\n\
                    \x20wlan1: 0000   54.   56.  -256\n wlan2: 00";
        assert_eq!(parse(text).collect::<Vec<_>>(), [("wlan0", 54.0, -56.0)]);
    }
}
