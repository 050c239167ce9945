//! What OpenTelemetry's metrics and attributes are called as Prometheus names: as its own receiver
//! calls them.

/// Units with the ending that a name gets for them.
const UNITS: [(&str, &str); 18] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("V", "volts"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// `system.cpu.time` in `s` as `system_cpu_time_seconds_total` where it only rises.
pub(super) fn metric(name: &str, unit: &str, counter: bool, gauge: bool) -> String {
    let mut out = plain(name, true);
    let (unit, per) = unit.split_once('/').unwrap_or((unit, ""));
    let known = |unit: &str| UNITS.iter().find(|(short, _)| *short == unit).map(|(_, long)| *long);
    let mut ending = known(unit).map(str::to_owned);
    if unit == "1" && gauge {
        ending = Some("ratio".to_owned());
    }
    if let Some(ending) = ending.filter(|ending| !out.split('_').any(|part| part == ending)) {
        out = format!("{out}_{ending}");
    }
    if let Some(per) = known(per) {
        let per = per.strip_suffix('s').unwrap_or(per);
        out = format!("{out}_per_{per}");
    }
    if counter {
        out = format!("{}_total", out.strip_suffix("_total").unwrap_or(&out));
    }
    out
}

/// `http.method` as `http_method`.
pub(super) fn label(name: &str) -> String {
    plain(name, false)
}

fn plain(name: &str, colons: bool) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || (colons && letter == ':');
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        if fits(letter) {
            out.push(letter);
        } else if !colons || !out.ends_with('_') {
            out.push('_');
        }
    }
    if out.starts_with(|first: char| first.is_ascii_digit()) {
        out.insert_str(0, if colons { "_" } else { "key_" });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{label, metric};

    #[test]
    fn names_are_those_of_prometheus() {
        for (name, unit, counter, gauge, wanted) in [
            ("system.cpu.time", "s", true, false, "system_cpu_time_seconds_total"),
            ("system.memory.usage", "By", false, true, "system_memory_usage_bytes"),
            ("system.cpu.utilization", "1", false, true, "system_cpu_utilization_ratio"),
            ("requests_total", "1", true, false, "requests_total"),
            ("speed", "By/s", false, true, "speed_bytes_per_second"),
            ("http.server.duration.seconds", "s", false, false, "http_server_duration_seconds"),
            ("1st", "{thing}", false, true, "_1st"),
        ] {
            assert_eq!(metric(name, unit, counter, gauge), wanted);
        }
        assert_eq!((label("http.method"), label("1x")), ("http_method".into(), "key_1x".into()));
    }
}
