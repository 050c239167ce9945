//! Samples and labels as JSON text, written straight into the answer: a chart has many thousands.

use std::io::Write as _;

use crate::server::promql::LabelSet;

/// A JSON string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    // Writing into memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// `{"__name__":"up","agent":"a"}`
pub(super) fn labels(out: &mut Vec<u8>, labels: &LabelSet) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        text(out, name);
        out.push(b':');
        text(out, value);
    }
    out.push(b'}');
}

/// `[1435781430.781,"1"]`
pub(super) fn sample(out: &mut Vec<u8>, ms: i64, value: f64) {
    out.push(b'[');
    time(out, ms);
    out.extend_from_slice(b",\"");
    number(out, value);
    out.extend_from_slice(b"\"]");
}

fn time(out: &mut Vec<u8>, ms: i64) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1_000).as_bytes());
    if !ms.is_multiple_of(1_000) {
        let _ = write!(out, ".{:03}", ms % 1_000);
    }
}

/// The shortest text that gives the same number back.
fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.fract() == 0.0
        && value.abs() < 1e15
        && (value != 0.0 || value.is_sign_positive())
    {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short_and_whole() {
        let shown = |ms, value| {
            let mut out = Vec::new();
            sample(&mut out, ms, value);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(shown(1_435_781_430_781, 1.0), "[1435781430.781,\"1\"]");
        assert_eq!(shown(1_435_781_430_000, 0.1), "[1435781430,\"0.1\"]");
        assert_eq!(shown(-1_005, -0.0), "[-1.005,\"-0\"]");
        assert_eq!(shown(0, f64::INFINITY), "[0,\"+Inf\"]");
        assert_eq!(shown(0, 1e300), "[0,\"1e+300\"]");
        assert_eq!(shown(0, 123_456_789_012.5), "[0,\"123456789012.5\"]");
    }
}
