//! Targets for samples from others than agents, and for what rules of Prometheus hold.

use std::sync::Arc;

use serde_json::Value;

use super::bench::{Benches, NOW_MS, Parts};
use super::fuzz;
use crate::server::alert::evaluate::promql::template::Template;
use crate::server::api::routes::prom::read;
use crate::server::promql::store::StoreSource;
use crate::server::receive::remote_write::Version;
use crate::server::receive::unpack::{unpack, unpack_if_packed};
use crate::server::receive::{Receiver, Refusal, Writer, Written};
use crate::server::remote;
use crate::server::seed::prometheus;

fn receiver(parts: Parts<'_>) -> Receiver {
    Receiver::new(parts.config, parts.store, parts.clock, &parts.registry).unwrap()
}

/// Fuzzes a decoder: the word is how many samples became what, or why nothing was taken.
fn decoder(
    name: &str,
    words: &[&str],
    take: impl Fn(&Receiver, &Writer, &[u8]) -> Result<Written, Refusal>,
) {
    let writer = Writer::User("fuzz".to_owned());
    let mut benches = Benches::new(receiver);
    fuzz(name, words, |input| match take(benches.next(), &writer, input) {
        Ok(written) => format!(
            "{} {} {} {} {}",
            written.stored.min(3),
            written.duplicate.min(3),
            written.stale.min(3),
            written.malformed.min(3),
            written.rejected.total().min(3)
        ),
        Err(error) => error.to_string(),
    });
}

#[test]
fn remote_write() {
    let words = ["__name__", "agent", "\u{0}", "le"];
    decoder("remote_write", &words, |receiver, writer, input| {
        receiver.remote_write(writer, Version::One, input)
    });
    decoder("remote_write_2", &words, |receiver, writer, input| {
        receiver.remote_write(writer, Version::Two, input)
    });
}

#[test]
fn remote_read() {
    // Samples to be found, by the request that the corpus of remote write begins with.
    let mut benches = Benches::new(|parts| {
        let (store, registry) = (Arc::clone(&parts.store), parts.registry.clone());
        let receiver = receiver(parts);
        let message = include_bytes!("../../tests/fixtures/corpus/remote_write/one");
        let writer = Writer::User("fuzz".to_owned());
        let written = receiver.remote_write(&writer, Version::One, message).unwrap();
        assert!(written.stored > 0, "{written:?}");
        (store, registry)
    });
    let words = ["__name__", "agent", ".+", "(a|b)*", "\u{0}", "x{1000}"];
    fuzz("remote_read", &words, |input| {
        let (store, registry) = benches.next();
        let source = StoreSource::open(&**store, registry, "agent");
        // Mutations of what is packed mostly break the packing alone.
        let packed = snap::raw::Encoder::new().compress_vec(input).unwrap();
        format!("{} {}", read::outcome(&packed, &source), read::outcome(input, &source))
    });
}

#[test]
fn otlp() {
    let words = ["host.name", "asDouble", "\"timeUnixNano\":\"1770625800000000000\"", "{}", "[]"];
    decoder("otlp", &words, |receiver, writer, input| receiver.otlp(writer, input, false));
    decoder("otlp_json", &words, |receiver, writer, input| receiver.otlp(writer, input, true));
}

#[test]
fn influx_lines() {
    let words = ["\\ ", "\\,", "host=", "i ", "\"", "true", "1e400", "\n", "#", "="];
    decoder("influx", &words, |receiver, writer, input| {
        receiver.lines(writer, input, 1_000_000_000, NOW_MS)
    });
}

#[test]
fn packed_bodies() {
    let words = ["\u{28}\u{b5}\u{2f}\u{fd}", "\u{1f}\u{8b}", "\u{ff}\u{ff}\u{ff}\u{ff}"];
    fuzz("unpack", &words, |input| {
        let length = |body: Result<usize, Refusal>| match body {
            Ok(length) => length.min(3).to_string(),
            Err(error) => error.to_string(),
        };
        let first = length(unpack(input).map(|body| body.len()));
        let second = length(unpack_if_packed(input).map(|body| body.len()));
        format!("{first} {second}")
    });
}

#[test]
fn templates_and_rule_files() {
    let words = ["{{", "}}", "$labels.a", "| humanize", "printf \"%9.3f\"", "(", "\"", "`"];
    fuzz("rule_template", &words, |input| match Template::parse(&String::from_utf8_lossy(input)) {
        Ok(template) => {
            let text = template.render(&|name| name.to_owned(), 12_345.678);
            format!("rendered {}", text.len().min(9))
        }
        Err(error) => error,
    });
    let words =
        ["groups:", "rules:", "- alert: A", "expr: up", "for: 5m", "{{ $value }}", "&a", "*a"];
    fuzz("rule_file", &words, |input| prometheus::outcome(&String::from_utf8_lossy(input)));
}

#[test]
fn engine_answers() {
    let words = ["\"values\":[[", "\"value\":[", "1e999", "\"NaN\"", "oxmon_labels", "null", "{}"];
    fuzz("engine", &words, |input| match serde_json::from_slice::<Value>(input) {
        Ok(answer) => remote::outcome(&answer["data"]),
        Err(_) => "not JSON".to_owned(),
    });
}
