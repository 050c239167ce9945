//! One target for each parser of bytes from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bench::{Benches, NOW_MS, Parts};
use super::fuzz;
use crate::agent::config::AgentConfig;
use crate::base::configfile::Source;
use crate::base::limits::GRPC_STREAMS_MAX;
use crate::server::alert::check_file_rules;
use crate::server::alert::rule::{Draft, Origin, Rule};
use crate::server::config::ServerConfig;
use crate::server::control::Control;
use crate::server::gate::grpc::frames::{Answers, Requests};
use crate::server::gate::http::body::Body;
use crate::server::gate::http::parse::{Scanner, parse};
use crate::server::ingest::auth::Whitelist;
use crate::server::ingest::decode::Report;
use crate::server::ingest::decode_packed::Packed;
use crate::server::ingest::intake::{Caller, Intake};
use crate::server::ingest::outcome::Decision;
use crate::server::ingest::packed::Stream;
use crate::server::ingest::senders::Senders;
use crate::server::notify::manage::{self, ChannelInput, SilenceInput};
use crate::server::notify::template;
use crate::server::promql;
use crate::server::storage::sql;

#[test]
fn http_requests() {
    let words = [
        "\r\n",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: close\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "HTTP/1.0",
        "%00",
        "..",
        "\u{e9}",
    ];
    fuzz("http", &words, |input| {
        let whole = Scanner::default().scan(input).map_err(|refusal| format!("{refusal:?}"));
        let mut parts = Scanner::default();
        let half = parts.scan(&input[..input.len() / 2]);
        let again = match half {
            Ok(None) => parts.scan(input),
            found => found,
        };
        assert_eq!(whole, again.map_err(|refusal| format!("{refusal:?}")), "in parts");
        let end = match whole {
            Ok(Some(end)) => end,
            other => return format!("{other:?}"),
        };
        match parse(&input[..end]) {
            Err(refusal) => format!("{refusal:?}"),
            Ok(head) => {
                let mut rest = input[end..].to_vec();
                let mut body = Body::new(head.framing, head.body_max);
                let taken = body.take(&mut rest);
                format!("{taken:?} {} {:?}", head.headers.len(), head.framing)
            }
        }
    });
}

#[test]
fn http2_frames() {
    let words = [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\u{4}\0\0\0\0\0",
        "\0\0\0\u{4}\u{1}\0\0\0\0",
        "\0\0\u{4}\u{1}\u{4}\0\0\0\u{3}",
        "\0\0\u{4}\u{1}\0\0\0\0\u{5}",
        "\0\0\u{4}\u{9}\u{4}\0\0\0\u{5}",
        "\0\0\u{4}\u{3}\0\0\0\0\u{1}",
        "\0\0\u{8}\u{6}\0\0\0\0\0",
        "\0\0\u{4}\u{8}\0\0\0\0\0",
        "\0\0\u{5}\0\u{1}\0\0\0\u{1}",
        "\u{40}\u{1}x\u{1}y",
        "\u{3f}\u{7f}",
        "/oxmon.MetricService/ReportPacked",
    ];
    let now = Instant::now();
    fuzz("h2", &words, |input| {
        let run = |cuts: &[usize]| {
            let (mut requests, mut out, mut from) = (Requests::new(now), Vec::new(), 0);
            let mut outcome = Ok(());
            for to in cuts.iter().copied().chain([input.len()]) {
                outcome = outcome.and_then(|()| requests.follow(&input[from..to], now, &mut out));
                from = to;
            }
            (outcome, out, requests)
        };
        let (outcome, out, requests) = run(&[]);
        // What passes is what came, in its order, whatever pieces it came in.
        assert!(input.starts_with(&out), "it passes on something else");
        let third = input.len() / 3;
        let (again, parts, _) = run(&[third, third, third * 2]);
        assert_eq!(outcome, again, "in parts");
        // Before a violation, more may have passed where it came in pieces.
        let is_same = if outcome.is_ok() { out == parts } else { input.starts_with(&parts) };
        assert!(is_same, "in parts, something else passes");
        assert!(requests.open() <= GRPC_STREAMS_MAX as usize);
        // The other way, the same bytes are only followed.
        let mut ended = 0;
        let mut answers = Answers::default();
        answers.follow(input, |_| ended += 1);
        let late = requests.check_time(now + Duration::from_secs(3_600));
        format!("{outcome:?} {late:?} {} {}", requests.is_greeted(), answers.is_between_frames())
    });
}

fn intake(parts: Parts<'_>) -> Intake {
    let Parts { config, store, clock, registry } = parts;
    let control = Control::open(&config.data_dir).unwrap();
    let whitelist = Arc::new(Whitelist::open(control, Arc::clone(&clock)).unwrap());
    let senders = Arc::new(Senders::new(false, Box::new(|_, _| {})));
    Intake::new(config, whitelist, senders, store, clock, &registry).unwrap()
}

#[test]
fn reports() {
    let mut benches = Benches::new(intake);
    fuzz("report", &["cpu.usage", "mount", "/"], |input| {
        let report = match Report::parse(input.to_vec()) {
            Err(error) => return error.to_string(),
            Ok(report) => report,
        };
        let labels: usize = report.points().map(|point| point.labels().len()).sum();
        let decision = benches.next().report(&Caller::new("", ""), &report);
        format!("{} {labels} {}", report.len(), word(&decision))
    });
}

#[test]
fn packed_batches() {
    let mut benches = Benches::new(intake);
    fuzz("packed", &["cpu.usage", "mount", "/"], |input| {
        let intake = benches.next();
        let (mut stream, caller) = (Stream::default(), Caller::new("", ""));
        let mut words = String::new();
        // The second time, the series are defined already.
        for _ in 0..2 {
            let message = match Packed::parse(input) {
                Err(error) => return error.to_string(),
                Ok(message) => message,
            };
            match stream.take(intake, &caller, message) {
                Ok(decision) => words += word(&decision),
                Err(outcome) => return format!("{words} {outcome:?}"),
            }
        }
        words
    });
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Now(_) => "now ",
        Decision::Later(_) => "later ",
    }
}

#[test]
fn rules() {
    let words = [
        "\"threshold\"",
        "\"rate_of_change\"",
        "\"trend_prediction\"",
        "\"cert_expiration\"",
        "\"no_data\"",
        "\"operator\":\"less_than\",",
        "\"duration_secs\":0,",
        "1e999",
        "-1",
        "18446744073709551615",
        "null",
        "{}",
        "[]",
        "\"labels\":{\"mount\":\"/**\"},",
        "[!-z]",
        "\"promql\"",
        "{{ $labels.a | humanize }}",
        "{{ printf \\\"%.1f\\\" $value }}",
    ];
    fuzz("rule", &words, |input| {
        let map = match serde_json::from_slice(input) {
            Ok(Value::Object(map)) => map,
            Ok(_) => return "another JSON".to_owned(),
            Err(_) => return "not JSON".to_owned(),
        };
        let built = Draft::from_map(&map).and_then(|draft| {
            draft.changed(&map)?;
            Rule::build("1".to_owned(), draft, Origin::Api, (1, 1))
        });
        built.map_or_else(
            |error| format!("{} {}", error.field, error.message),
            |rule| format!("{} {}", rule.draft.rule_type, rule.draft.config.len()),
        )
    });
}

#[test]
fn channels_and_windows() {
    let words = [
        "\"email\"",
        "\"webhook\"",
        "\"sms\"",
        "\"dingtalk\"",
        "\"weixin\"",
        "{{message}}",
        "{{",
        "\"***\"",
        "https://[::1]:0/?a=b",
        "@",
        "24:00",
        "\"weekly\"",
        "\"days\":[\"sat\"],",
        "\"time_zone\":\"UTC\",",
    ];
    fuzz("channel", &words, |input| {
        let text = String::from_utf8_lossy(input);
        let template = template::check(&text, None, &[]);
        if let Ok(window) = serde_json::from_slice::<SilenceInput>(input) {
            let made = manage::new_window(window, &jiff::tz::TimeZone::UTC, NOW_MS);
            return made.map_or_else(|error| error.to_string(), |row| row.start_time);
        }
        match serde_json::from_slice::<ChannelInput>(input) {
            Err(_) => format!("{template:?}"),
            Ok(channel) => match manage::new_channel(channel, NOW_MS) {
                Err(error) => error.to_string(),
                Ok(row) => format!("{} {}", row.channel_type, manage::masked_config(&row).len()),
            },
        }
    });
}

#[test]
fn configuration_files() {
    let words = [
        "[auth]\n",
        "[[alert.rules]]\n",
        "[tls]\n",
        "[pools]\n",
        "[storage]\n",
        "bind = []\n",
        "= -1\n",
        "= 99999999999999999999\n",
        "= \"\"\n",
        "= {}\n",
        "time_zone = \"UTC\"\n",
        "jwt_secret = \"x\"\n",
        "\"\"\"",
        "server_endpoint = \"[::1]:1\"\n",
    ];
    fuzz("config", &words, |input| {
        let text = String::from_utf8_lossy(input);
        // Files that a configuration names are not looked for.
        if text.contains("_file") {
            return String::new();
        }
        let source = Source::embedded("c.toml", &text);
        let server = ServerConfig::from_source(&source)
            .and_then(|config| check_file_rules(&source, &config.alert.rules));
        let agent = AgentConfig::from_source(&source).map(drop);
        let word = |outcome: Result<(), crate::base::configfile::ConfigError>| {
            outcome.err().map_or_else(|| "good".to_owned(), |error| error.0)
        };
        format!("{} {}", word(server), word(agent))
    });
}

#[test]
fn sql_queries() {
    let mut benches = Benches::new(|parts| {
        Control::open(&parts.config.data_dir).unwrap();
        parts.config.data_dir.clone()
    });
    let mut connection = sql::open(benches.next()).unwrap();
    let words = [
        "metrics",
        "metric_chunks",
        "alert_events",
        "timestamp >= 1",
        "AND agent_id = 'a'",
        "labels LIKE '%'",
        "ORDER BY timestamp DESC",
        "LIMIT 1",
        "IN (SELECT 1)",
        "NULL",
        "1e999",
        "BETWEEN 5 AND 1",
        "OR 1",
        "count(*)",
        "GROUP BY 1",
        "x'00'",
        "--",
        ";",
    ];
    fuzz("sql", &words, |input| {
        let text = String::from_utf8_lossy(input);
        let steps = AtomicU32::new(0);
        let limit = move || steps.fetch_add(1, Ordering::Relaxed) > 200;
        connection.progress_handler(1_000, Some(limit)).unwrap();
        let read = || -> rusqlite::Result<usize> {
            let mut query = connection.prepare(&text)?;
            let mut rows = query.query([])?;
            let mut count = 0;
            while count < 10 && rows.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        read().map_or_else(|error| error.to_string(), |count| format!("{count} rows"))
    });
}

#[test]
fn promql_queries() {
    let words = [
        "sum by (a) ",
        "rate(",
        "[5m]",
        "offset -1h",
        "@ 0",
        "{a=~\"b\"}",
        "on (x) group_left",
        "histogram_quantile(0.9, ",
        "0x1F",
        "NaN",
        "Inf",
        "-",
        "^",
        "unless",
        "bool",
        "((((((((",
    ];
    fuzz("promql", &words, |input| {
        let text = String::from_utf8_lossy(input);
        match promql::parse::parse(&text) {
            Err(error) => error.to_string(),
            Ok(_) => "parsed".to_owned(),
        }
    });
}
