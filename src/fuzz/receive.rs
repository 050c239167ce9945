//! Targets for samples from others than agents, and for what rules of Prometheus hold.

use std::sync::Arc;

use super::fuzz;
use crate::base::clock::{Clock, ManualClock};
use crate::server::alert::evaluate::promql::template::Template;
use crate::server::config::ServerConfig;
use crate::server::receive::remote_write::Version;
use crate::server::receive::unpack::{unpack, unpack_if_packed};
use crate::server::receive::{Receiver, Refusal, Writer, Written};
use crate::server::seed::prometheus;
use crate::server::storage::Store;
use crate::server::storage::engine::Engine;

const NOW_MS: i64 = 1_770_625_800_000;
/// Inputs after which a store is replaced, since series of a day stay in its memory.
const INPUTS_A_STORE: u32 = 2_000;

/// A receiver over a store in a temporary folder.
struct Bench {
    receiver: Receiver,
    store: Arc<Engine>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ServerConfig { data_dir: dir.path().join("data"), ..ServerConfig::default() };
        let clock: Arc<dyn Clock> = ManualClock::at(NOW_MS);
        let registry = prometheus_registry();
        let store = Engine::open(&config, Arc::clone(&clock), &registry).unwrap();
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let receiver = Receiver::new(&config, shared, clock, &registry).unwrap();
        Self { receiver, store, _dir: dir }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.store.stop();
    }
}

fn prometheus_registry() -> ::prometheus::Registry {
    ::prometheus::Registry::new()
}

/// Fuzzes a decoder: the word is how many samples became what, or why nothing was taken.
fn decoder(
    name: &str,
    words: &[&str],
    take: impl Fn(&Receiver, &Writer, &[u8]) -> Result<Written, Refusal>,
) {
    let writer = Writer::User("fuzz".to_owned());
    let mut bench = None;
    let mut inputs = 0;
    fuzz(name, words, |input| {
        if inputs % INPUTS_A_STORE == 0 {
            bench = None;
        }
        inputs += 1;
        let bench = bench.get_or_insert_with(Bench::new);
        match take(&bench.receiver, &writer, input) {
            Ok(written) => format!(
                "{} {} {} {} {}",
                written.stored.min(3),
                written.duplicate.min(3),
                written.stale.min(3),
                written.malformed.min(3),
                written.rejected.total().min(3)
            ),
            Err(error) => error.to_string(),
        }
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
