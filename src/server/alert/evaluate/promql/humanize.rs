//! Numbers for people, as the functions of Prometheus' templates write them.

/// A number with at most `digits` significant ones, as Go's `%.4g` writes it.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let digits = digits.max(1);
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let most = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= most {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(most - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// A number as Go's `%v` writes it: the fewest digits that are read back as it.
pub(crate) fn shortest(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return significant(value, 1);
    }
    if value == 0.0 || (1e-4..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// With the prefixes of the metric system: `1.235k`.
pub(crate) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return significant(value, 4);
    }
    let (mut value, mut prefix) = (value, "");
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1_000.0 {
                break;
            }
            (value, prefix) = (value / 1_000.0, next);
        }
    } else {
        (value, prefix) = small(value);
    }
    format!("{}{prefix}", significant(value, 4))
}

/// A number below 1 with its prefix.
fn small(value: f64) -> (f64, &'static str) {
    let (mut value, mut prefix) = (value, "");
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        (value, prefix) = (value * 1_000.0, next);
    }
    (value, prefix)
}

/// With the prefixes for powers of 1,024: `1.5ki`.
pub(crate) fn humanize_1024(value: f64) -> String {
    let (mut value, mut prefix) = (value, "");
    if value.is_finite() && value.abs() > 1.0 {
        for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
            if value.abs() < 1_024.0 {
                break;
            }
            (value, prefix) = (value / 1_024.0, next);
        }
    }
    format!("{}{prefix}", significant(value, 4))
}

/// Seconds as `1d 2h 3m 4s`.
pub(crate) fn duration(value: f64) -> String {
    if !value.is_finite() {
        return significant(value, 4);
    }
    if value != 0.0 && value.abs() < 1.0 {
        let (value, prefix) = small(value);
        return format!("{}{prefix}s", significant(value, 4));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    let secs = size as u64;
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", significant(size, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {}s", secs % 60),
        (0, ..) => format!("{sign}{hours}h {minutes}m {}s", secs % 60),
        _ => format!("{sign}{days}d {hours}h {minutes}m {}s", secs % 60),
    }
}

/// A share as percent: 0.123 is `12.3%`.
pub(crate) fn percentage(value: f64) -> String {
    format!("{}%", significant(value * 100.0, 4))
}

/// Unix seconds as Go writes a time.
pub(crate) fn timestamp(value: f64) -> String {
    let time = jiff::Timestamp::from_millisecond((value * 1_000.0) as i64);
    match time {
        Ok(time) if value.is_finite() => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        _ => significant(value, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(f64) -> String;

    #[test]
    fn numbers_are_those_of_prometheus() {
        let cases: [(Write, f64, &str); 19] = [
            (humanize, 0.0, "0"),
            (humanize, 1_234_567.0, "1.235M"),
            (humanize, 0.22, "220m"),
            (humanize, -999.9, "-999.9"),
            (humanize, f64::NAN, "NaN"),
            (humanize, 1e30, "1e+06Y"),
            (humanize_1024, 1_536.0, "1.5ki"),
            (humanize_1024, 0.5, "0.5"),
            (humanize_1024, 1_048_576.0, "1Mi"),
            (duration, 0.0, "0s"),
            (duration, 0.001, "1ms"),
            (duration, 61.0, "1m 1s"),
            (duration, 12.345_67, "12.35s"),
            (duration, -90_061.0, "-1d 1h 1m 1s"),
            (percentage, 0.123_456, "12.35%"),
            (timestamp, 1_435_065_584.128, "2015-06-23 13:19:44 +0000 UTC"),
            (shortest, 0.1 + 0.2, "0.30000000000000004"),
            (shortest, 1e21, "1e+21"),
            (shortest, 0.000_01, "1e-05"),
        ];
        for (function, value, wanted) in cases {
            assert_eq!(function(value), wanted, "{value}");
        }
    }
}
