//! Packed streams: series named once, ticks by number.

use futures_util::{SinkExt as _, StreamExt as _};
use grpcio::{ClientDuplexReceiver, ClientDuplexSender, WriteFlags};

use super::*;
use crate::base::limits::{BATCH_POINTS_MAX, STREAM_SERIES_MAX};
use crate::server::storage::{Page, PointFilter};
use crate::wire::pb::metrics::{PackedAck, PackedBatch, PackedSeries, PackedTick};

struct Stream {
    sender: ClientDuplexSender<PackedBatch>,
    acks: ClientDuplexReceiver<PackedAck>,
    sequence: u64,
    /// A connection that goes before it stands takes its calls with it.
    _client: MetricServiceClient,
}

impl Stream {
    fn open(bench: &Bench, metadata: &[(&str, &str)]) -> Self {
        let client = bench.client();
        let (sender, acks) = client.report_packed_opt(options(metadata)).unwrap();
        Self { sender, acks, sequence: 0, _client: client }
    }

    /// Sends and waits for the answer; an error is the end of the stream.
    fn send(&mut self, mut message: PackedBatch) -> Result<PackedAck, RpcStatus> {
        self.sequence += 1;
        message.sequence = self.sequence;
        // A stream that has ended says why in its answers.
        let _ = block(self.sender.send((message, WriteFlags::default())));
        match block(self.acks.next()).expect("an answer, or why there is none") {
            Ok(ack) => {
                assert_eq!(ack.sequence, self.sequence);
                Ok(ack)
            }
            Err(error) => Err(status_of(error)),
        }
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    crate::server::ingest::grpc::wait(future, Duration::from_secs(20)).expect("in time")
}

fn message(agent: &str, names: &[&str], ticks: &[(i64, &[u32], &[f64])]) -> PackedBatch {
    let mut message = PackedBatch::new();
    message.agent_id = agent.to_owned();
    message.new_series = names
        .iter()
        .map(|name| {
            let mut series = PackedSeries::new();
            series.metric_name = (*name).to_owned();
            series
        })
        .collect();
    message.ticks = ticks
        .iter()
        .map(|(at, series, values)| {
            let mut tick = PackedTick::new();
            tick.timestamp_ms = *at;
            tick.series = series.to_vec();
            tick.values = values.to_vec();
            tick
        })
        .collect();
    message
}

fn total(bench: &Bench) -> u64 {
    bench.store.list(&PointFilter::default(), Page { limit: 1, offset: 0 }).unwrap().total
}

#[test]
fn names_and_numbers_hold_for_the_whole_stream() {
    let bench = Bench::start(|_| {});
    let mut stream = Stream::open(&bench, &[]);
    let first = message("web-01", &["a", "b"], &[(NOW_MS - 3_000, &[0, 1], &[1.0, 2.0])]);
    assert!(stream.send(first).unwrap().success);
    let second = message(
        "",
        &["c"],
        &[(NOW_MS - 2_000, &[], &[3.0, 4.0]), (NOW_MS - 1_000, &[2, 0], &[5.0, 6.0])],
    );
    assert!(stream.send(second).unwrap().success);
    let third = message("", &[], &[(NOW_MS, &[], &[7.0, 8.0])]);
    let ack = stream.send(third.clone()).unwrap();
    assert!(ack.success && ack.message.is_empty(), "{}", ack.message);
    assert!(stream.send(third).unwrap().success, "a message that comes again");
    let rows = bench.latest("web-01");
    let values: Vec<(&str, f64)> = rows.iter().map(|row| (&*row.key.metric, row.value)).collect();
    assert_eq!(values, [("a", 8.0), ("b", 4.0), ("c", 7.0)]);
    assert_eq!(total(&bench), 8);
}

#[test]
fn bad_points_are_left_out_and_bad_messages_refused() {
    let bench = Bench::start(|_| {});
    let mut stream = Stream::open(&bench, &[]);
    let sent = message(
        "web-01",
        &["a", ""],
        &[(NOW_MS, &[0, 1, 7], &[1.0, 2.0, 3.0]), (0, &[0], &[1.0]), (NOW_MS, &[0], &[f64::NAN])],
    );
    let ack = stream.send(sent).unwrap();
    assert!(ack.success && ack.message.starts_with("4 of 5 points"), "{}", ack.message);
    let values = vec![1.0; BATCH_POINTS_MAX + 1];
    let numbers = vec![0; BATCH_POINTS_MAX + 1];
    let ack = stream.send(message("", &[], &[(NOW_MS, &numbers, &values)])).unwrap();
    assert!(!ack.success && !ack.retry && ack.message.contains("10001"), "{}", ack.message);
    let ack = stream.send(message("", &[], &[])).unwrap();
    assert!(!ack.success && !ack.retry, "{}", ack.message);
    assert!(stream.send(message("", &[], &[(NOW_MS - 1, &[0], &[9.0])])).unwrap().success);
    assert_eq!(total(&bench), 2);
}

#[test]
fn what_makes_no_sense_ends_the_stream() {
    let bench = Bench::start(|_| {});
    let too_many: Vec<String> = (0..=STREAM_SERIES_MAX).map(|n| format!("m{n}")).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    for (sent, word) in [
        (message("", &["a"], &[(NOW_MS, &[0], &[1.0])]), "agent_id"),
        (message("a", &["a"], &[(NOW_MS, &[0], &[1.0, 2.0])]), "2 values for 1 series"),
        (message("a", &["a"], &[(NOW_MS, &[], &[1.0])]), "1 values for 0 series"),
        (message("a", &too_many, &[]), "start a new one"),
    ] {
        let end = Stream::open(&bench, &[]).send(sent).unwrap_err();
        assert_eq!(end.code(), RpcStatusCode::INVALID_ARGUMENT);
        assert!(end.message().contains(word), "{word}: {}", end.message());
    }
    let mut stream = Stream::open(&bench, &[]);
    assert!(stream.send(message("a", &["m"], &[(NOW_MS, &[0], &[1.0])])).unwrap().success);
    let end = stream.send(message("b", &[], &[(NOW_MS, &[0], &[1.0])])).unwrap_err();
    assert!(end.message().contains("one agent"), "{}", end.message());
}

#[test]
fn a_token_that_is_cut_off_ends_the_stream() {
    let bench = Bench::start(|config| config.require_agent_auth = true);
    let (_, token) = bench.whitelist.create("web-01", None).unwrap();
    let bearer = format!("Bearer {token}");
    let metadata = [("agent-id", "web-01"), ("authorization", bearer.as_str())];
    let sent = |at| message("web-01", &["a"], &[(at, &[0], &[1.0])]);
    let none = Stream::open(&bench, &[]).send(sent(NOW_MS)).unwrap_err();
    assert_eq!(none.code(), RpcStatusCode::UNAUTHENTICATED);
    let mut foreign = Stream::open(&bench, &metadata);
    let end = foreign.send(message("web-02", &["a"], &[(NOW_MS, &[0], &[1.0])])).unwrap_err();
    assert_eq!(end.code(), RpcStatusCode::PERMISSION_DENIED);
    let mut stream = Stream::open(&bench, &metadata);
    assert!(stream.send(sent(NOW_MS)).unwrap().success);
    bench.whitelist.regenerate("web-01").unwrap();
    let end = stream.send(sent(NOW_MS + 1)).unwrap_err();
    assert_eq!(end.code(), RpcStatusCode::UNAUTHENTICATED);
    assert_eq!(total(&bench), 1);
}

#[test]
fn stopping_ends_an_idle_stream_in_time() {
    let mut bench = Bench::start(|_| {});
    let mut stream = Stream::open(&bench, &[]);
    assert!(stream.send(message("a", &["m"], &[(NOW_MS, &[0], &[1.0])])).unwrap().success);
    let asked = Instant::now();
    bench.server.take().unwrap().stop();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(block(stream.acks.next()).is_none_or(|end| end.is_err()));
}
