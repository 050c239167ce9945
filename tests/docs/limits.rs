//! `docs/limits.md`, made from `src/base/limits.rs`.

const SOURCE: &str = include_str!("../../src/base/limits.rs");

const HEAD: &str = "\
# Limits

Made from `src/base/limits.rs` by `make docs`; a test fails when it is stale.

Everything that comes from outside has a limit. What exceeds it is rejected, or left out of its
batch, with an answer that says so.

What the two ports and ingest reject is counted at `/metrics`, by the value of the metric's label.
`storage.agents_max` and `storage.series_max_bytes` are set in the configuration, and count as
`agents` and `all_bytes` of `oxmon_storage_series_refused_total`.

| name | value | what it bounds | counted by |
|---|---|---|---|
";

/// Metrics that count what exceeds limits, and the sources that give them their reasons.
const CLOSED: &str = "oxmon_grpc_connections_closed_total";
const HTTP_CLOSED: &str = "oxmon_http_connections_closed_total";
const REFUSED: &str = "oxmon_http_refused_total";
const LEFT_OUT: &str = "oxmon_ingest_points_left_out_total";
const SERIES: &str = "oxmon_storage_series_refused_total";
const BATCHES: &str = "oxmon_ingest_batches_total";
const EXPOSED: &str = "oxmon_exposition_series_left_out";
const SOURCES: &str = concat!(
    include_str!("../../src/server/api/metrics.rs"),
    include_str!("../../src/server/gate/grpc/metrics.rs"),
    include_str!("../../src/server/gate/http/metrics.rs"),
    include_str!("../../src/server/gate/http/refusal.rs"),
    include_str!("../../src/server/ingest/admit.rs"),
    include_str!("../../src/server/ingest/metrics.rs"),
    include_str!("../../src/server/storage/error.rs"),
    include_str!("../../src/server/storage/metrics.rs"),
);

/// The counter of each limit of a port and of ingest: the metric and the value of its label.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("GRPC_STREAMS_MAX", CLOSED, "streams"),
    ("GRPC_NEW_STREAMS_PER_SEC_MAX", CLOSED, "streams"),
    ("GRPC_RESETS_PER_SEC_MAX", CLOSED, "resets"),
    ("GRPC_PINGS_PER_SEC_MAX", CLOSED, "pings"),
    ("GRPC_SETTINGS_PER_SEC_MAX", CLOSED, "settings"),
    ("GRPC_EMPTY_FRAMES_PER_SEC_MAX", CLOSED, "empty_frames"),
    ("GRPC_SMALL_FRAMES_PER_SEC_MAX", CLOSED, "small_frames"),
    ("GRPC_CONTROL_FRAMES_PER_SEC_MAX", CLOSED, "control_frames"),
    ("GRPC_HEADER_BYTES_MAX", CLOSED, "header_bytes"),
    ("GRPC_HEADERS_OPEN_BYTES_MAX", CLOSED, "header_bytes"),
    ("GRPC_CALL_BYTES_MAX", CLOSED, "message_bytes"),
    ("GRPC_CONNECTIONS_MAX", CLOSED, "connections"),
    ("GRPC_CONNECTIONS_PER_ADDRESS_MAX", CLOSED, "connections_of_address"),
    ("GRPC_CALLS_PER_ADDRESS_MAX", CLOSED, "streams"),
    ("GRPC_CALLS_MAX", CLOSED, "streams"),
    ("GRPC_ALLOWANCE_PER_ADDRESS_MAX", CLOSED, "rate"),
    ("GRPC_ALLOWANCE_PER_ADDRESS_PER_SEC", CLOSED, "rate"),
    ("GRPC_ALLOWANCE_MAX", CLOSED, "rate"),
    ("GRPC_ALLOWANCE_PER_SEC", CLOSED, "rate"),
    ("TLS_HANDSHAKES_MAX", CLOSED, "handshake"),
    ("GRPC_HANDSHAKE_SECS_MAX", CLOSED, "handshake"),
    ("GRPC_FIRST_MESSAGE_SECS_MAX", CLOSED, "first_message"),
    ("GRPC_SILENCE_SECS_MAX", CLOSED, "silent"),
    ("GRPC_ANSWER_SECS_MAX", CLOSED, "slow_reader"),
    ("BATCH_POINTS_MAX", BATCHES, "refused"),
    ("AGENT_ID_BYTES_MAX", BATCHES, "refused"),
    ("METRIC_NAME_BYTES_MAX", LEFT_OUT, "metric_name"),
    ("LABELS_MAX", LEFT_OUT, "too_many_labels"),
    ("LABEL_NAME_BYTES_MAX", LEFT_OUT, "label"),
    ("LABEL_VALUE_BYTES_MAX", LEFT_OUT, "label"),
    ("FUTURE_MS_MAX", LEFT_OUT, "too_far_ahead"),
    ("SERIES_PER_AGENT_MAX", LEFT_OUT, "no_room"),
    ("SERIES_BYTES_PER_AGENT_MAX", SERIES, "agent_bytes"),
    ("EXPOSITION_SERIES_MAX", EXPOSED, ""),
    ("EXPOSITION_BYTES_MAX", EXPOSED, ""),
    ("HTTP_URL_BYTES_MAX", REFUSED, "too_large"),
    ("HTTP_HEADER_BYTES_MAX", REFUSED, "too_large"),
    ("HTTP_BODY_BYTES_MAX", REFUSED, "too_large"),
    ("HTTP_SAMPLES_BYTES_MAX", REFUSED, "too_large"),
    ("PEERS_REQUEST_BYTES_MAX", REFUSED, "too_large"),
    ("HTTP_CONNECTIONS_MAX", HTTP_CLOSED, "connections"),
    ("HTTP_REQUEST_SECS_MAX", REFUSED, "slow"),
    ("HTTP_IDLE_SECS_MAX", HTTP_CLOSED, "idle"),
    ("HTTP_ANSWER_SECS_MAX", HTTP_CLOSED, "slow_reader"),
    ("HTTP_MEMORY_BYTES_MAX", HTTP_CLOSED, "memory"),
    ("HTTP_ADDRESS_SHARE_PERCENT", REFUSED, "address_share"),
];
/// Limits of the C core, which answers RESOURCE_EXHAUSTED itself and counts nothing.
const OF_THE_CORE: [&str; 2] = ["GRPC_MESSAGE_BYTES_MAX", "GRPC_MEMORY_BYTES_MAX"];

fn counter(name: &str) -> String {
    let found = COUNTERS.iter().find(|(limit, _, _)| *limit == name);
    match found {
        None => "–".to_owned(),
        Some((_, metric, "")) => format!("`{metric}`"),
        Some((_, metric, reason)) => format!("`{metric}`, `{reason}`"),
    }
}

fn render() -> String {
    let mut out = HEAD.to_owned();
    let mut help: Vec<&str> = Vec::new();
    for line in SOURCE.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            help.push(text);
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let (name, rest) = rest.split_once(':').expect("a constant has a type");
            let (_, value) = rest.split_once('=').expect("a constant has a value");
            let value = value.trim().trim_end_matches(';').replace('_', "");
            let counter = counter(name);
            out.push_str(&format!("| `{name}` | {value} | {} | {counter} |\n", help.join(" ")));
            help.clear();
        } else {
            help.clear();
        }
    }
    out
}

#[test]
fn limits_are_documented() {
    let fresh = render();
    assert!(fresh.contains("`BATCH_POINTS_MAX` | 10000 |"));
    super::check("limits.md", &fresh);
}

#[test]
fn limits_of_the_ports_have_counters() {
    let names =
        SOURCE.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let of_ports = names.filter(|name| name.starts_with("GRPC_") || name.starts_with("HTTP_"));
    for name in of_ports.filter(|name| !OF_THE_CORE.contains(name)) {
        assert_ne!(counter(name), "–", "{name} has no counter");
    }
    for (limit, metric, reason) in COUNTERS {
        assert!(SOURCE.contains(&format!("const {limit}:")), "{limit}");
        for text in [*metric, *reason].into_iter().filter(|text| !text.is_empty()) {
            assert!(SOURCES.contains(&format!("\"{text}\"")), "{limit}: no {text}");
        }
    }
}
